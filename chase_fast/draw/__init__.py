"""One drawing kit for all pages: SVG, charts, strips of seeds, the drawing of a cell, colours, page frames.

Public: `draw_cell(genotype)`, `save_svg`, `save_png`.
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.draw.cell import draw_cell, save_png, save_svg

__all__ = ["draw_cell", "save_png", "save_svg"]
front_door(__name__, dict.fromkeys(__all__, f"{__name__}.cell"))
