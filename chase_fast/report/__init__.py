"""Report of a run: one self-contained HTML page; runs side by side; the drawing of a cell.

Public: `write_report(run_dir)`, `write_comparison(run_dirs)`, `markdown(run_dirs)`, `draw_cell(genotype)`,
`save_svg`, `save_png`; command line `python -m chase_fast.report`.
"""

from chase_fast.report.compare_page import markdown, write_comparison
from chase_fast.report.drawing import draw_cell, save_png, save_svg
from chase_fast.report.page import write_report

__all__ = ["draw_cell", "markdown", "save_png", "save_svg", "write_comparison", "write_report"]
