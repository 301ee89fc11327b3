"""A first-in-first-out memory of keys: more negatives than a batch holds.

Shapes: N rows, K keys in the queue, V views, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.errors import InputError, ShapeError
from spherometer.losses import _ranks, _views


class MemoryQueue(nn.Module):
    """The last ``size`` keys, as unit rows: negatives for losses that take ``queue=``.

    Args:
        dim: D, columns of a key.
        size: most keys it holds.

    The queue starts empty and only keys that were put in count; ``len(queue)`` is their number. The caller
    puts keys in with ``queue.enqueue(keys)`` after the backward pass: before it, each key would meet
    itself as a negative, and autograd refuses rows that changed after the loss used them.

    Everything it is lies in its buffers, hence in the ``state_dict`` of a loss that holds it: ``keys``
    [size, D], ``position`` (where the next key goes) and ``filled`` (int64). A run that is resumed goes on
    with the same negatives.

    Raises:
        InputError: ``dim`` or ``size`` is not a whole number of at least 1.

    Source: He et al. 2020 (MoCo), algorithm 1. Deviation: its queue starts with random rows, ours empty.

    Example:
        >>> queue = MemoryQueue(dim=3, size=4)
        >>> queue.enqueue(torch.eye(3))
        >>> queue.enqueue(-torch.eye(3))
        >>> len(queue), queue.rows()[:, 0].tolist()  # the two oldest keys have made room
        (4, [-0.0, -0.0, 0.0, -1.0])
    """

    keys: Tensor
    position: Tensor
    filled: Tensor

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        _checks.whole("MemoryQueue", "dim", dim)
        _checks.whole("MemoryQueue", "size", size)
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, *, gather: _ranks.Gather = "auto") -> None:
        """Put keys in, in the order of their rows; the oldest ones make room.

        Args:
            keys: [N, D] floating-point tensor; rows are scaled to length 1 here, gradients are left behind.
            gather: "auto": under a process group of several ranks the keys of all ranks go in, in rank
                order, so that every rank holds the same queue; call it on every rank. False: these keys.

        Raises:
            ShapeError, InputError: wrong shape, kind, dtype or device.
        """
        function = "MemoryQueue.enqueue"
        with _ranks.refusals(gather, keys):
            _ranks.check_gather(function, gather)
            _checks.tensor_set(function, ("keys",), (keys,), min_rows=0)
            _check_place(function, "keys", self, keys)
        with _views.full_precision(keys):
            rows = _ranks.spread(function, _views.on_sphere([keys]), gather, min_rows=0, name="keys")
        size, num = len(self.keys), rows.total
        first = max(0, num - size)
        index = (self.position + torch.arange(first, num, device=keys.device)).remainder_(size)
        self.keys.index_copy_(0, index, rows.every[0, first:].to(self.keys.dtype))
        self.position.add_(num).remainder_(size)
        self.filled.add_(num).clamp_(max=size)

    def rows(self) -> Tensor:
        """The keys that are in, [filled, D] unit rows in the order of storage; a view, not to be written."""
        return self.keys[: len(self)]

    def __len__(self) -> int:
        return int(self.filled)

    def __bool__(self) -> bool:
        return True  # an empty queue is a queue

    def extra_repr(self) -> str:
        """The settings and the number of keys."""
        return f"dim={self.keys.shape[1]}, size={len(self.keys)}, filled={len(self)}"


def check_queue(function: str, queue: Any) -> None:
    """Check the ``queue`` argument of a loss."""
    if queue is not None and not isinstance(queue, MemoryQueue):
        _checks.refuse(
            InputError,
            function,
            "queue",
            "be a MemoryQueue or None",
            "its rows are the negatives of the loss",
            type(queue).__name__,
            "Pass for instance queue=MemoryQueue(dim=128, size=4096)",
        )


def check_sides(function: str, queue: MemoryQueue, views: Sequence[Tensor]) -> None:
    """Check the queries and keys of a call with a queue."""
    if len(views) != 2:
        _checks.refuse(
            ShapeError,
            function,
            "z1",
            "have two views, queries and keys, when there is a queue",
            "the queue holds negatives for the queries alone",
            f"{len(views)} views",
            "Pass queries and keys of shape [N, D] each",
        )
    _check_place(function, "z1", queue, views[0])


def rows_of(queue: MemoryQueue, z: Tensor) -> Tensor:
    """The rows of the queue [K, D] in the dtype of unit rows ``z``."""
    rows = queue.rows()
    if rows.dtype == z.dtype:
        return rows
    half = rows.dtype in (torch.float16, torch.bfloat16)  # rounded rows are off the sphere by up to 4e-3
    return _views.on_sphere([rows])[0].to(z.dtype) if half else rows.to(z.dtype)


def _check_place(function: str, name: str, queue: MemoryQueue, z: Tensor) -> None:
    if z.shape[1] != queue.keys.shape[1]:
        _checks.refuse(
            ShapeError,
            function,
            name,
            "have as many columns as the queue",
            "both live on one sphere",
            f"shape {tuple(z.shape)}, a queue with dim={queue.keys.shape[1]}",
            "Make the queue with MemoryQueue(dim=D, size=...)",
        )
    if z.device != queue.keys.device:
        _checks.refuse(
            InputError,
            function,
            name,
            "be on the device of the queue",
            "nothing is moved silently",
            f"{name} on {z.device}, the queue on {queue.keys.device}",
            "Move the queue, or the loss that holds it, with .to(device)",
        )
