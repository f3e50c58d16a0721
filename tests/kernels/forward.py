"""The skeleton (harness.py) for ops that are not differentiable."""

import pytest

from tests.kernels.harness import OpTests, each, tensors


class ForwardTests(OpTests):
    """`OpTests` without gradients. `floating`: the arguments whose gradient a fast backend refuses."""

    floating: tuple[str, ...]

    def test_gradcheck(self):
        """Not here: nothing is differentiable."""

    def test_second_derivative_is_refused(self, small, fast):
        """The first one already."""
        inputs = self.make(small, fast, self.dtypes[0])
        for name in self.floating:
            inputs[name] = each(lambda t: t.requires_grad_(), inputs[name])
        outputs = tensors(type(self).op(**inputs, backend=fast))
        with pytest.raises(RuntimeError, match="is not differentiable: detach"):
            sum(o.sum() for o in outputs).backward()
