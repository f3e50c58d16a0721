"""Report of a run: one self-contained HTML page; runs side by side.

Public: `write_report(run_dir)`, `write_comparison(run_dirs)`, `markdown(run_dirs)`; command line
`python -m chase_fast.report`. They are loaded when they are used: the help page needs none of them.
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.report.compare.page import markdown, write_comparison
    from chase_fast.report.write import write_report

__all__ = ["markdown", "write_comparison", "write_report"]
_HOMES = {"markdown": "compare.page", "write_comparison": "compare.page", "write_report": "write"}
front_door(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})
