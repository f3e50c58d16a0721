"""Colours and dashes that stay apart under red-green colour blindness, light and dark.

Operations: one hue per family (separable blue, dilated orange, pools green, skip red, none grey); inside a
family the 5x5 kernel and the average pool are also dashed. Series (runs, seeds, trackers): every colour has a
dash as well. So no reading depends on colour alone: in normal, protanope and deuteranope vision, lines of the
same dash keep a CIELAB distance above 20 (operations) and 30 (series); all keep 3:1 contrast to the page.
"""

from chase_fast.nn.space import OPS

# in the order of OPS
OP_LIGHT = ("#767785", "#154723", "#3ea37e", "#cc0352", "#008db9", "#02568f", "#b97300", "#7c4812")
OP_DARK = ("#8a8c9e", "#acf6c6", "#3edd7c", "#f6ace8", "#4a6cea", "#7e9bea", "#ea883e", "#eade40")
OP_DASH = ("1 4", "", "6 3", "", "", "6 3", "", "6 3")
# for operations that a user registered, in their order
EXTRA_LIGHT = ("#6a3fb5", "#5c5c12", "#8a4b3c", "#33737f")
EXTRA_DARK = ("#b79cff", "#cccc66", "#d9a08f", "#7fd0dd")

SERIES_LIGHT = ("#0a62c9", "#c2410c", "#00806a", "#8b2fb8", "#8a6d00", "#b3124f", "#5b7a00", "#4b5563")
SERIES_DARK = ("#6aa6ff", "#ff9a5c", "#3ddbb8", "#d29bff", "#e3c34a", "#ff7fab", "#b5d65a", "#b6bec9")
SERIES_DASH = ("", "5 5", "1 5", "8 5 1 5")  # of round ends, which lengthen every dash by the width

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
    return (OP_LIGHT + EXTRA_LIGHT)[number]


def dark(number: int) -> str:
    return (OP_DARK + EXTRA_DARK)[number]


def dash(number: int) -> str:
    """SVG stroke-dasharray of an operation, empty for a solid line."""
    return (OP_DASH + ("2 2",) * len(EXTRA_LIGHT))[number]


def op_look(op: str, ops: tuple[str, ...] = ()) -> tuple[str, str]:
    """(CSS colour, stroke-dasharray) of an operation."""
    number = index(op, ops)
    return f"var(--op{number})", dash(number)


def series_look(number: int) -> tuple[str, str]:
    """(CSS colour, stroke-dasharray) of the number-th run, seed or tracker; 32 of them look different."""
    cycle, place = divmod(number, len(SERIES_LIGHT))
    return f"var(--series{place})", SERIES_DASH[(place + cycle) % len(SERIES_DASH)]


def series_rgb(number: int) -> tuple[int, int, int]:
    """The dark scheme's colour of a series, bright enough for boxes on frames."""
    red, green, blue = bytes.fromhex(SERIES_DARK[number % len(SERIES_DARK)][1:])
    return red, green, blue


def css() -> str:
    """Custom properties --op0 .. --op11 and --series0 .. --series7, light with a dark override on screens."""

    def rules(name: str, colours: tuple[str, ...]) -> str:
        return "".join(f"--{name}{i}:{c};" for i, c in enumerate(colours))

    day = rules("op", OP_LIGHT + EXTRA_LIGHT) + rules("series", SERIES_LIGHT)
    night = rules("op", OP_DARK + EXTRA_DARK) + rules("series", SERIES_DARK)
    return f":root{{{day}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}\n"
