"""What a search and a training share.

* folder, events, stored, rows: the files of a run; versions, seeds: where its result comes from.
* job: the command line, understood together with a run folder; command: what a command does with it.
* loop: epochs and iterations, tables, checkpoints; data: samples by their role.
* step, adam: what an iteration as a CUDA graph needs.
* interrupt, progress: what the user asks and sees.

The names below are for other parts too; they need no torch.
"""

from chase_fast.runs.folder import RunFolder, checkpoint_file
from chase_fast.runs.seeds import stream
from chase_fast.runs.versions import git_commit, versions

__all__ = ["RunFolder", "checkpoint_file", "git_commit", "stream", "versions"]
