"""Fills the templates: every page carries its style, colours and script, and needs nothing from outside."""

import functools
import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chase_fast._version import __version__
from chase_fast.report import palette

HERE = Path(__file__).parent


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, arguments: list[str | Path], **values) -> str:
    """A page as text; `arguments` of the report command write it again."""
    frame = {
        "version": __version__,
        "arguments": shlex.join(map(str, arguments)),
        "palette_css": Markup(palette.css()),
        "style": Markup((HERE / "style.css").read_text(encoding="utf-8")),
        "script": Markup((HERE / "hover.js").read_text(encoding="utf-8")),
    }
    return _environment().get_template(template).render(frame | values)
