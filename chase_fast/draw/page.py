"""Fills the templates: every page carries its style, colours and script, and needs nothing from outside."""

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chase_fast._version import __version__
from chase_fast.draw import palette

HERE = Path(__file__).parent


@functools.cache
def _environment(folder: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: Path, **values: Any) -> str:
    """A page as text. `template` extends base.html.j2, its values stand in `values`."""
    frame = {"version": __version__, "palette_css": Markup(palette.css())}
    return _environment(template.parent).get_template(template.name).render(frame | values)
