"""Second derivatives: recomputed from the full matrix for small sets, refused by name for large ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import UndefinedError

LIMIT = 1024  # rows


def is_small(num: int, columns: int) -> bool:
    """Whether the full matrix may be made."""
    return num * columns <= LIMIT * LIMIT


def gradients(
    definition: Callable[[], Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor | None],
    needs: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of the written-out definition that can be differentiated again."""
    wanted = [
        i for i, (tensor, need) in enumerate(zip(inputs, needs, strict=True)) if tensor is not None and need
    ]
    with torch.enable_grad():
        values = definition()
        values = values if isinstance(values, tuple) else (values,)
        pairs = [(v, g) for v, g in zip(values, grads, strict=True) if g is not None]
        found = torch.autograd.grad(
            [v for v, _ in pairs],
            [tensor for i in wanted if (tensor := inputs[i]) is not None],
            [g for _, g in pairs],
            create_graph=True,
        )
    out: list[Tensor | None] = [None] * len(inputs)
    for i, gradient in zip(wanted, found, strict=True):
        out[i] = gradient
    return out


class _Once(torch.autograd.Function):
    """Passes a gradient through and refuses to be differentiated."""

    @staticmethod
    def forward(
        ctx: Any, function: str, num: int, processes: int, gradient: Tensor, *inputs: Tensor
    ) -> Tensor:
        ctx.function, ctx.num, ctx.processes = function, num, processes
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if ctx.processes > 1:
            _checks.refuse(
                UndefinedError, ctx.function, "x", "be in one process to be differentiated twice",
                "second derivatives are not taken across processes", f"{ctx.processes} processes",
                "Differentiate once",
            )  # fmt: skip
        _checks.refuse(
            UndefinedError,
            ctx.function,
            "x",
            f"have at most {LIMIT} rows to be differentiated twice",
            "second derivatives are taken through the full matrix of pairs",
            f"{ctx.num} rows",
            "Differentiate once, or pass fewer rows",
        )


def refuse_twice(
    function: str,
    inputs: Sequence[Tensor | None],
    found: Sequence[Tensor | None],
    needs: Sequence[bool],
    *,
    processes: int = 1,
) -> list[Tensor | None]:
    """First gradients of a large set: a second derivative through them is refused."""
    wanted = [None if not need else gradient for gradient, need in zip(found, needs, strict=True)]
    if not torch.is_grad_enabled():
        return wanted
    given = [tensor for tensor in inputs if tensor is not None]
    num = max(len(tensor) for tensor in given if tensor.ndim)
    return [
        None if gradient is None else _Once.apply(function, num, processes, gradient, *given)  # type: ignore[no-untyped-call]
        for gradient in wanted
    ]
