"""Benchmark names on the command line, `kind:path[:split][:A-B%]`, opened for evaluation."""

from concurrent.futures import ThreadPoolExecutor

from chase_fast.benchmarks import KINDS
from chase_fast.data.evaluation.got10k import folder, got10k, trackingnet
from chase_fast.data.evaluation.lasot import lasot
from chase_fast.data.evaluation.listing import quoted
from chase_fast.data.evaluation.otb import otb
from chase_fast.data.evaluation.types import EvaluationSequence, EvaluationSet, Unusable
from chase_fast.data.evaluation.uav123 import uav123
from chase_fast.data.evaluation.visdrone import visdrone
from chase_fast.data.evaluation.vot import vot
from chase_fast.data.share import Share
from chase_fast.errors import ChaseError

LAYOUTS = {
    "got10k": got10k,
    "trackingnet": trackingnet,
    "lasot": lasot,
    "uav123": uav123,
    "otb": otb,
    "visdrone": visdrone,
    "vot": vot,
    "folder": folder,
}
THREADS = 8


def open_evaluation(spec: str) -> EvaluationSet:
    """Opens a benchmark: annotations are read and checked against the frames on disk, no frame is decoded.

    Args:
        spec: `kind:path[:split][:A-B%]`, kinds and splits as in KINDS, shares as for training.

    Raises:
        ChaseError: unknown kind, missing folder or list, no sequences, or sequences whose files do not fit
            together (the first is named and the others counted).
    """
    kind, *parts = spec.strip().split(":")
    if kind not in KINDS:
        raise ChaseError(f"{spec}: unknown dataset kind {kind!r}; known are {'; '.join(KINDS.values())}")
    share = Share.parse(parts[-1], spec) if parts else None
    if share:
        parts.pop()
    if not parts or not parts[0]:
        raise ChaseError(f"{spec}: the path is missing: {KINDS[kind]}")
    if len(parts) > 2:
        raise ChaseError(
            f"{spec}: more than kind:path:split; a path with ':' in it cannot be named, link to it"
        )
    split = parts[1] if len(parts) > 1 and parts[1] else None
    listing = LAYOUTS[kind](parts[0], split, spec)
    if not listing.readers:
        raise ChaseError(f"{spec}: no sequences found; the dataset or its list is empty")
    readers = list(listing.readers.items())
    if share:
        readers = share.of(readers, spec)

    def read(item) -> EvaluationSequence | str:
        name, reader = item
        try:
            return reader()
        except Unusable as e:
            return f"sequence {quoted(name)[1:-1]}: {e}"

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(read, readers))
    if problems := [f for f in found if isinstance(f, str)]:
        more = f" (and {len(problems) - 1} more such sequences)" if len(problems) > 1 else ""
        raise ChaseError(f"{spec}: {problems[0]}{more}; repair them, or name the others in a list file")
    return EvaluationSet(spec, kind, found, tuple(listing.remarks))
