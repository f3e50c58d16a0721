"""Report of a run: one self-contained HTML page, and the drawing of a cell.

Public: `write_report(run_dir)`, `draw_cell(genotype)`, `save_svg`, `save_png`; command line
`python -m chase_fast.report`.
"""

from chase_fast.report.drawing import draw_cell, save_png, save_svg
from chase_fast.report.page import write_report

__all__ = ["draw_cell", "save_png", "save_svg", "write_report"]
