"""Fair-DARTS (Chu et al. 2020): a sigmoid per operation, driven to 0 or 1 by the zero-one loss
(--zero-one-weight)."""

from chase_fast.search.methods import register_method
from chase_fast.search.methods.base import Method


@register_method("fair")
class Fair(Method):
    order = 1
    mix = "sigmoid"
