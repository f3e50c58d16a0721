"""First-order DARTS (Liu et al. 2019): the gradient of the validation loss at the present weights."""

from chase_fast.search.methods import register_method
from chase_fast.search.methods.base import Method


@register_method("darts1")
class Darts1(Method):
    order = 1
