"""What every op's `register_autograd` needs: gradients by recomputing through the reference, and errors
instead of gradients of ops that have none and of second derivatives of a fast backward."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Nested = Any  # a Tensor, a list of Tensors, or a value without gradient


def recompute(
    reference: Callable[..., Any],
    inputs: Sequence[Nested],
    needed: Sequence[Any],
    grads: Sequence[Tensor | None],
) -> tuple[Nested, ...]:
    """Gradients of `reference(*inputs)`, by running it again under autograd.

    For the backward of an op that has no kernel for it. Differentiable again when called under
    `create_graph=True`, so the reference backend keeps its higher derivatives.

    Args:
        reference: plain torch function; returns one tensor or a tuple of tensors.
        inputs: its positional arguments as saved in the forward; lists of tensors are allowed.
        needed: `ctx.needs_input_grad`: per input a bool, for a list of tensors a list of bools.
        grads: one incoming gradient per output; None stands for zeros.

    Returns:
        One entry per input, as `backward` must return them: a gradient, None, or a list of those.
    """
    again = torch.is_grad_enabled()
    leaves: list[Tensor] = []

    def fresh(value: Nested, need: Any) -> Nested:
        if isinstance(value, (list, tuple)) and isinstance(need, (list, tuple)):
            return [fresh(v, n) for v, n in zip(value, need)]
        if not isinstance(value, Tensor):
            return value
        if not need:
            return value if again else value.detach()
        leaf = value.view_as(value) if again else value.detach().requires_grad_()
        leaves.append(leaf)
        return leaf

    with torch.enable_grad():
        arguments = [fresh(value, need) for value, need in zip(inputs, needed)]
        outputs = reference(*arguments)
        outputs = outputs if isinstance(outputs, (list, tuple)) else (outputs,)
        pairs = [(o, g) for o, g in zip(outputs, grads) if g is not None and o.requires_grad]
        got: Sequence[Tensor | None] = [None] * len(leaves)
        if leaves and pairs:
            got = torch.autograd.grad(
                [o for o, _ in pairs], leaves, [g for _, g in pairs], create_graph=again, allow_unused=True
            )
    found = iter(got)

    def collect(value: Nested, need: Any) -> Nested:
        if isinstance(value, (list, tuple)) and isinstance(need, (list, tuple)):
            return [collect(v, n) for v, n in zip(value, need)]
        return next(found) if isinstance(value, Tensor) and need else None

    return tuple(collect(value, need) for value, need in zip(inputs, needed))


def not_differentiable(op: Any) -> None:
    """Lets a backward op (the result of `torch.library.custom_op`) refuse second derivatives."""

    def backward(ctx, *grads):
        raise RuntimeError(
            f"{op._qualname} is not differentiable again: second derivatives need backend='reference' "
            "(or CHASE_FAST_BACKEND=reference)"
        )

    op.register_autograd(backward)


def forward_only(op: Any) -> None:
    """Lets an op (the result of `torch.library.custom_op`) refuse gradients."""

    def backward(ctx, *grads):
        raise RuntimeError(f"{op._qualname} is not differentiable: detach its inputs")

    op.register_autograd(backward)


def differentiable(
    op: Any, backward: Callable[..., Any], setup_context: Callable[..., None]
) -> Callable[..., Any]:
    """Registers the gradient of an op with lists of tensors; returns the function by which to call it.

    torch walks such lists as general trees in every call, which costs more than the kernels on small maps.
    Outside torch.compile the function goes by a node of its own that lays the tensors out one after another.

    Args:
        op: result of `torch.library.custom_op`; returns a list or a tuple of tensors.
        backward, setup_context: as `register_autograd` takes them.
    """
    op.register_autograd(backward, setup_context=setup_context)

    class Flat(torch.autograd.Function):
        @staticmethod
        def forward(ctx, inputs, layout, *_):
            output = op(*inputs)
            setup_context(ctx, inputs, output)
            ctx.layout, ctx.listed = layout, isinstance(output, list)
            return tuple(output)

        @staticmethod
        def backward(ctx, *grads):
            flat = ctx.needs_input_grad
            flags = iter(flat[2:])
            ctx.needs_input_grad = tuple(
                [next(flags) for _ in range(n)] if n is not None else tensor and next(flags)
                for tensor, n in ctx.layout
            )
            try:
                found = backward(ctx, list(grads)) if ctx.listed else backward(ctx, *grads)
            finally:
                ctx.needs_input_grad = flat
            return None, None, *_flatten(found, ctx.layout)

    def call(*inputs):
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return op(*inputs)
        layout = _layout(inputs)
        return list(Flat.apply(inputs, layout, *_flatten(inputs, layout)))

    return call


def _layout(values: Sequence[Nested]) -> list[tuple[bool, int | None]]:
    """Per value whether there are tensors in it, and for a list of tensors their number."""
    lists = (isinstance(v, (list, tuple)) and (not v or isinstance(v[0], Tensor)) for v in values)
    return [(True, len(v)) if many else (isinstance(v, Tensor), None) for v, many in zip(values, lists)]


def _flatten(values: Sequence[Nested], layout: Sequence[tuple[bool, int | None]]) -> list[Tensor | None]:
    flat: list[Tensor | None] = []
    for value, (tensor, count) in zip(values, layout, strict=True):
        if tensor:
            flat += [value] if count is None else value
    return flat
