"""Where each pixel of one image is in another: an optical flow, or the disparity of a stereo pair.

Shapes: B images, K axes, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError


@dataclass(frozen=True)
class FlowField:
    """Displacements from the pixels of view x to those of view y: pixel p of x shows what p + flow of y does.

    Args:
        displacement: [B, K, *size] in pixels of ``target``, axes in the order of the tensor (down, then
            right); NaN or infinity where it is not known.
        target: size of the images y, height first; None: that of the images x.

    Example:
        >>> disparity = torch.full((1, 8, 8), 2.0)  # what is at column c in the left image is at c - 2
        >>> FlowField.from_disparity(disparity).displacement[0, :, 0, 5].tolist()
        [0.0, -2.0]
    """

    displacement: Tensor
    target: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        flow = self.displacement
        shape = tuple(flow.shape) if isinstance(flow, Tensor) and flow.is_floating_point() else None
        if shape is None or len(shape) not in (4, 5) or shape[1] != len(shape) - 2 or 0 in shape[1:]:
            _checks.refuse(
                ShapeError, "FlowField", "displacement", "have shape [B, 2, H, W] or [B, 3, X, Y, Z]",
                "each pixel moves along every axis",
                type(flow).__name__ if shape is None else f"shape {shape}",
                "Stack the displacements down and to the right on axis 1, as floating-point numbers",
            )  # fmt: skip
        if self.target is not None and (len(self.target) != shape[1] or min(self.target) < 1):
            _checks.refuse(
                InputError, "FlowField", "target", f"hold {shape[1]} sides of at least 1 pixel",
                "it is the size of the images that the flow leads to", repr(self.target)[:80],
                "Pass for instance target=(240, 320)",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.displacement)

    def __getitem__(self, index: Any) -> FlowField:
        """The same of some images."""
        return FlowField(self.displacement[index], self.target)

    @property
    def num_axes(self) -> int:
        """K."""
        return self.displacement.shape[1]

    @classmethod
    def from_disparity(cls, disparity: Tensor, *, target: tuple[int, int] | None = None) -> FlowField:
        """From left to right image of a rectified stereo pair: column c goes to c - disparity [B, H, W]."""
        if not isinstance(disparity, Tensor) or disparity.ndim != 3:
            got = (
                f"shape {tuple(disparity.shape)}"
                if isinstance(disparity, Tensor)
                else type(disparity).__name__
            )
            _checks.refuse(
                ShapeError, "FlowField.from_disparity", "disparity", "have shape [B, H, W]",
                "each pixel of each image has one", got, "Stack the disparities of the images",
            )  # fmt: skip
        across = -disparity.double()
        down = torch.where(torch.isfinite(across), 0.0, across)
        return cls(torch.stack([down, across], dim=1), target)

    def in_view(self, view: Tensor) -> Tensor:
        """Where points [S, K] of view x are in view y, both in view coordinates: [B, S, K], NaN if unknown.

        The displacement of the pixel that a point lies in is taken as it is: where it changes abruptly, at
        the edge of an object, a mean of both sides would be true of neither.
        """
        size = self.displacement.shape[2:]
        sides = view.new_tensor([float(side) for side in size])
        pixels = (view + 1) / 2 * sides
        index = [pixels[:, axis].floor().long().clamp(0, side - 1) for axis, side in enumerate(size)]
        flat = torch.zeros_like(index[0])
        for part, side in zip(index, size, strict=True):
            flat = flat * side + part
        moved = self.displacement.flatten(2)[:, :, flat].to(view).mT + pixels  # [B, S, K]
        moved = torch.where(torch.isfinite(moved).all(dim=-1, keepdim=True), moved, torch.nan)
        target = view.new_tensor([float(side) for side in self.target or size])
        return moved / target * 2 - 1
