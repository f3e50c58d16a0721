"""Report of a run: one self-contained HTML page; runs side by side; the drawing of a cell.

Public: `write_report(run_dir)`, `write_comparison(run_dirs)`, `markdown(run_dirs)`, `draw_cell(genotype)`,
`save_svg`, `save_png`; command line `python -m chase_fast.report`. They are loaded when they are used: the
help page needs none of them.
"""

import importlib
from typing import Any

_PLACES = {
    "draw_cell": "drawing",
    "markdown": "compare_page",
    "save_png": "drawing",
    "save_svg": "drawing",
    "write_comparison": "compare_page",
    "write_report": "page",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
