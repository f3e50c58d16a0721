"""States of a tracked target, by the codes that kernels give. Free of torch."""

from typing import Literal, get_args

State = Literal["tracked", "uncertain", "hard_negative", "lost"]
STATES: tuple[State, ...] = get_args(State)  # index = code
TRACKED, UNCERTAIN, HARD_NEGATIVE, LOST = range(4)
