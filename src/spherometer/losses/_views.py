"""What enters a loss: the checks of its arguments, and the views on the sphere.

The values are not looked at: NaN and infinity go through to the loss, where the guard of a training loop
must see them. Looking would cost a pass over the data and, on a GPU, a wait.

Shapes: N rows, V views, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks, sphere
from spherometer.errors import InputError, ShapeError
from spherometer.losses import _ranks


def checked_views(
    function: str, z1: Any, z2: Any, *, gather: _ranks.RingGather = False, min_rows: int = 2
) -> list[Tensor]:
    """The V >= 2 views of a call as [N, D] tensors: two arguments, or one of shape [N, V, D].

    With several ranks ``min_rows`` is left to ``_ranks``, which counts the rows of all.
    """
    least = min_rows if _ranks.num_ranks(gather) == 1 else 0
    if z2 is not None:
        return _checks.tensor_set(function, ("z1", "z2"), (z1, z2), min_rows=least)
    if isinstance(z1, Tensor) and (z1.ndim != 3 or z1.shape[1] < 2):
        _checks.refuse(
            ShapeError,
            function,
            "z1",
            "have shape [N, V, D] with V >= 2 when z2 is not given",
            "a positive pair is two views of one sample",
            f"shape {tuple(z1.shape)}",
            "Pass z1 and z2 of shape [N, D] each, or torch.stack([z1, z2], dim=1)",
        )
    views = z1.unbind(1) if isinstance(z1, Tensor) else (z1,)
    return _checks.tensor_set(function, ("z1",) * len(views), views, min_rows=least)


def on_sphere(views: Sequence[Tensor]) -> Tensor:
    """All views scaled to unit rows at once, [V, N, D] in float32 (float64 for float64 input)."""
    stacked = torch.stack(list(views)) if len(views) > 1 else views[0][None]
    return sphere.normalize(stacked if stacked.dtype == torch.float64 else stacked.float())


def full_precision(view: Tensor) -> AbstractContextManager[Any]:
    """Autocast switched off for the device of ``view``; costs nothing where it is off already."""
    if torch.is_autocast_enabled(view.device.type):
        return torch.autocast(view.device.type, enabled=False)
    return nullcontext()


def result(loss: Tensor, like: Tensor) -> Tensor:
    """The loss in the dtype it is handed back in: float32, or float64 for float64 input."""
    return loss.to(torch.float64 if like.dtype == torch.float64 else torch.float32)


def check_number(function: str, name: str, value: Any) -> None:
    """Check a positive number that may be a 0-dim tensor (a learnable temperature or t)."""
    if isinstance(value, Tensor) and value.ndim != 0:
        _checks.refuse(
            ShapeError,
            function,
            name,
            "be a number or a tensor of shape ()",
            "one value serves all rows",
            f"shape {tuple(value.shape)}",
            f"Pass {name}.reshape(()) if it holds one value",
        )
    _checks.positive(function, name, value)


def check_weight(function: str, name: str, value: Any) -> None:
    """Check the weight of a term: finite, not negative."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (usable and math.isfinite(value) and value >= 0):
        _checks.refuse(
            InputError,
            function,
            name,
            "be a finite number of at least 0",
            "it weights a term that is to be made small",
            repr(value)[:80],
            f"Pass for instance {name}=1.0",
        )


def check_weights(function: str, names: str, weights: Sequence[Any]) -> None:
    """Refuse weights that are all zero."""
    if not any(weights):
        _checks.refuse(
            InputError,
            function,
            names,
            "not all be 0",
            "the loss would be a constant without a gradient",
            "only zeros",
            "Give at least one term a weight",
        )


def shown(value: Any) -> str:
    """A setting as ``extra_repr`` shows it; a tensor is marked as learnable or fixed."""
    if not isinstance(value, Tensor):
        return repr(value)
    return f"{float(value.detach()):g} ({'learnable' if value.requires_grad else 'tensor'})"
