"""Second-order DARTS (Liu et al. 2019): the gradient of alpha through one unrolled weight step."""

from chase_fast.search.methods import Method, register_method


@register_method("darts2")
class Darts2(Method):
    order = 2
