"""Second-order DARTS (Liu et al. 2019): the gradient of alpha through one unrolled weight step."""

from chase_fast.search.methods import register_method
from chase_fast.search.methods.base import Method


@register_method("darts2")
class Darts2(Method):
    order = 2
