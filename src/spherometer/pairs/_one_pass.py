"""A value and its gradients from one pass over the pairs; the backward is one multiplication.

Second derivatives go through the written-out definition, for small sets; others refuse them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spherometer.pairs import _second
from spherometer.pairs._tiles import full_precision


class Found(NamedTuple):
    """What one pass finds: the value, and for each input its gradient (None: not wanted) times a factor."""

    value: Tensor
    gradients: Sequence[Tensor | None]
    factor: Tensor | None = None  # 0-dim, of all gradients of rows


Compute = Callable[[Sequence[bool]], Found]  # given which of the inputs want a gradient


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: str,
        compute: Compute,
        definition: Callable[..., Tensor],
        columns: int | None,
        *inputs: Tensor | float | None,
    ) -> Tensor:
        found = compute(ctx.needs_input_grad[4:])
        tensors = [one if isinstance(one, Tensor) else None for one in inputs]
        ctx.save_for_backward(*tensors, *found.gradients, found.factor)
        ctx.inputs = [None if isinstance(one, Tensor) else one for one in inputs]
        ctx.function, ctx.definition, ctx.columns = function, definition, columns
        return found.value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        *saved, factor = ctx.saved_tensors
        num, needs = len(ctx.inputs), ctx.needs_input_grad[4:]
        inputs, gradients = saved[:num], saved[num:]
        rows = len(inputs[0])
        if torch.is_grad_enabled() and _second.is_small(rows, rows if ctx.columns is None else ctx.columns):
            given = [
                one if tensor is None else tensor for tensor, one in zip(inputs, ctx.inputs, strict=True)
            ]
            with full_precision(inputs[0].device):
                found = _second.gradients(lambda: ctx.definition(*given), inputs, needs, (grad,))
            return (None, None, None, None, *found)
        scale = grad if factor is None else grad * factor
        found = []
        for tensor, gradient in zip(inputs, gradients, strict=True):
            if tensor is None or gradient is None:
                found.append(None)
            elif tensor.ndim:
                found.append((gradient * scale).to(tensor.dtype))
            else:  # a number such as t, which is there only once
                found.append((gradient * grad).to(tensor.dtype).to(tensor.device).reshape(tensor.shape))
        return (None, None, None, None, *_second.refuse_twice(ctx.function, inputs, found, needs))


def one_pass(
    function: str,
    compute: Compute,
    definition: Callable[..., Tensor],
    *inputs: Tensor | float | None,
    columns: int | None = None,
) -> Tensor:
    """The value of a pass over the pairs, differentiable in the inputs.

    Args:
        function: whose name messages carry.
        compute: takes the pass, outside of any graph.
        definition: the same value of the same inputs in differentiable torch, by a full matrix; for second
            derivatives of at most 1024 x 1024 pairs.
        inputs: rows [N, D] first; further rows, and numbers or 0-dim tensors.
        columns: rows of the other set; None: pairs within the first input.
    """
    if not torch.is_grad_enabled() or not any(
        isinstance(one, Tensor) and one.requires_grad for one in inputs
    ):
        return compute([False] * len(inputs)).value
    return _OnePass.apply(function, compute, definition, columns, *inputs)  # type: ignore[no-any-return, no-untyped-call]
