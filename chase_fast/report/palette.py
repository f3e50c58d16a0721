"""Colours of the eight operations, light and dark, that stay apart under red-green colour blindness.

One hue per family (separable blue, dilated orange, pools green, skip red, none grey); inside a family the 5x5
kernel and the average pool are also dashed, so no reading depends on colour alone. In normal, protanope and
deuteranope vision, lines of the same dash keep a CIELAB distance above 20; all keep 3:1 contrast to the page.
"""

from chase_fast.nn.operations import OPS

# in the order of OPS
LIGHT = ("#767785", "#154723", "#3ea37e", "#cc0352", "#008db9", "#02568f", "#b97300", "#7c4812")
DARK = ("#8a8c9e", "#acf6c6", "#3edd7c", "#f6ace8", "#4a6cea", "#7e9bea", "#ea883e", "#eade40")
DASH = ("1 4", "", "6 3", "", "", "6 3", "", "6 3")
# for operations that a user registered, in their order
EXTRA_LIGHT = ("#6a3fb5", "#5c5c12", "#8a4b3c", "#33737f")
EXTRA_DARK = ("#b79cff", "#cccc66", "#d9a08f", "#7fd0dd")

# runs and seeds in a comparison; dashes tell the second seven from the first
RUN_LIGHT = ("#0a5fb4", "#c2410c", "#0b7d5c", "#a3268f", "#806000", "#4a3fb0", "#5b626c")
RUN_DARK = ("#6fb1ff", "#ff9a5c", "#3fd6a4", "#f191e0", "#e3c34a", "#b3a6ff", "#b4bac3")
RUN_DASH = ("", "7 4", "2 3")

INK = ("#1b1f24", "#e8eaed")  # (light, dark)
MUTED = ("#5f6670", "#a4abb5")
LINE = ("#c6cbd2", "#4a515b")
SURFACE = ("#ffffff", "#1b1e23")


def index(op: str, ops: tuple[str, ...] = ()) -> int:
    """Colour number of an operation: 0..7 for the eight, from 8 on for others in the order of `ops`."""
    if op in OPS:
        return OPS.index(op)
    others = [name for name in ops if name not in OPS]
    return len(OPS) + (others.index(op) if op in others else 0) % len(EXTRA_LIGHT)


def light(number: int) -> str:
    return (LIGHT + EXTRA_LIGHT)[number]


def dark(number: int) -> str:
    return (DARK + EXTRA_DARK)[number]


def dash(number: int) -> str:
    """SVG stroke-dasharray, empty for a solid line."""
    return (DASH + ("2 2",) * len(EXTRA_LIGHT))[number]


def run_look(number: int) -> tuple[str, str]:
    """(CSS colour, stroke-dasharray) of the number-th run of a comparison."""
    cycle, place = divmod(number, len(RUN_LIGHT))
    return f"var(--run{place})", RUN_DASH[cycle % len(RUN_DASH)]


def css() -> str:
    """Custom properties --op0 .. --op11 and --run0 .. --run6, light with a dark override on screens."""

    def rules(name: str, colours: tuple[str, ...]) -> str:
        return "".join(f"--{name}{i}:{c};" for i, c in enumerate(colours))

    day = rules("op", LIGHT + EXTRA_LIGHT) + rules("run", RUN_LIGHT)
    night = rules("op", DARK + EXTRA_DARK) + rules("run", RUN_DARK)
    return f":root{{{day}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}\n"
