"""Where the cells of a view lie in the image it was cut from.

Shapes: B images, K axes (2 or 3, in the order of the tensor: height first), S cells of a map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, ShapeError

_TIE = 1e-9  # a point between two cells belongs to the later one, whatever the rounding


@dataclass(frozen=True)
class ViewGeometry:
    """The affine map from each view to its image: what crop, resize, mirror and turn did.

    View coordinates run from -1 to 1 along every axis, from outer edge to outer edge, whatever the size of
    the view; image coordinates count pixels (voxels), pixel i covers [i, i + 1]. Axes are in the order of the
    tensor: height, width or the three of a volume.

    Args:
        matrix: [B, K, K + 1] float; image = matrix[..., :K] @ view + matrix[..., K].

    Example:
        >>> boxes = torch.tensor([[2.0, 0.0, 4.0, 8.0]])  # left, top, width, height
        >>> ViewGeometry.from_boxes(boxes).centres((2, 1))[0].tolist()
        [[2.0, 4.0], [6.0, 4.0]]
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.matrix.shape) if isinstance(self.matrix, Tensor) else None
        if shape is None or len(shape) != 3 or shape[1] not in (2, 3) or shape[2] != shape[1] + 1:
            _checks.refuse(
                ShapeError, "ViewGeometry", "matrix", "have shape [B, 2, 3] or [B, 3, 4]",
                "it maps the axes of a view to those of its image",
                type(self.matrix).__name__ if shape is None else f"shape {shape}",
                "Make it with ViewGeometry.from_boxes(...)",
            )  # fmt: skip
        if not bool(torch.isfinite(self.matrix).all()):
            _checks.refuse(
                InputError, "ViewGeometry", "matrix", "be finite", "it says where a view lies",
                "NaN or infinity", "Look at the numbers of the views",
            )  # fmt: skip
        object.__setattr__(self, "matrix", self.matrix.detach().double())

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, index: Any) -> ViewGeometry:
        """The same of some images (a slice or row numbers)."""
        return ViewGeometry(self.matrix[index])

    @property
    def num_axes(self) -> int:
        """K."""
        return self.matrix.shape[1]

    @classmethod
    def whole(cls, num: int, size: Sequence[int]) -> ViewGeometry:
        """Views that are their images, of ``size`` (height, width or the three sides of a volume)."""
        sides = torch.tensor([float(side) for side in size], dtype=torch.float64) / 2
        matrix = torch.cat([torch.diag(sides), sides[:, None]], dim=1)
        return cls(matrix.expand(num, -1, -1))

    @classmethod
    def from_boxes(
        cls, boxes: Tensor, *, mirrored: Tensor | None = None, angle: Tensor | None = None
    ) -> ViewGeometry:
        """Views that show a box of their image, left and right exchanged, then turned about its centre.

        Args:
            boxes: [B, 4] left, top, width, height in pixels.
            mirrored: [B] bool.
            angle: [B] in radians: the direction of the view's width, from the image's width to its height.
        """
        left, top, wide, tall = boxes.double().unbind(dim=1)
        sign = torch.ones_like(left) if mirrored is None else 1.0 - 2.0 * mirrored.to(left)
        turn = torch.zeros_like(left) if angle is None else angle.to(left)
        cos, sin = torch.cos(turn), torch.sin(turn)
        down = torch.stack([cos * tall / 2, sign * sin * wide / 2, top + tall / 2], dim=1)
        across = torch.stack([-sin * tall / 2, sign * cos * wide / 2, left + wide / 2], dim=1)
        return cls(torch.stack([down, across], dim=1))

    def positions(self, view: Tensor) -> Tensor:
        """Image coordinates [B, S, K] of points given in view coordinates, [S, K] or [B, S, K]."""
        scale, shift = self.matrix[..., :-1], self.matrix[..., -1]
        return torch.matmul(view.to(scale), scale.mT) + shift[:, None]

    def in_view(self, image: Tensor) -> Tensor:
        """View coordinates [B, S, K] of points [B, S, K] given in image coordinates."""
        scale, shift = self.matrix[..., :-1], self.matrix[..., -1]
        found: Tensor = torch.linalg.solve(scale, (image.to(scale) - shift[:, None]).mT).mT
        return found

    def centres(self, grid: Sequence[int]) -> Tensor:
        """Image coordinates [B, S, K] of the centres of the cells of a map, in the order of ``flatten``."""
        return self.positions(cell_centres(grid, self.matrix.device))

    def diagonals(self, grid: Sequence[int]) -> Tensor:
        """Length [B] of the diagonal of a cell of a map, in pixels."""
        sides = torch.linalg.vector_norm(self.matrix[..., :-1], dim=1) * 2
        cells: Tensor = sides / sides.new_tensor([float(side) for side in grid])
        return cells.square().sum(dim=1).sqrt()


def cell_centres(grid: Sequence[int], device: torch.device) -> Tensor:
    """View coordinates [S, K] of the centres of the cells of a map, the last axis fastest."""
    axes = [
        torch.arange(side, dtype=torch.float64, device=device).mul(2).add(1 - side).div(side) for side in grid
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(math.prod(grid), len(grid))


def cells_at(view: Tensor, grid: Sequence[int]) -> Tensor:
    """The cell [B, S] of a map at points [B, S, K] in view coordinates; -1 outside the view."""
    sides = view.new_tensor([float(side) for side in grid])
    places = ((view + 1) / 2 * sides + _TIE).floor().long()
    inside = ((view >= -1 - _TIE) & (view < 1 - _TIE)).all(dim=-1)
    flat = torch.zeros_like(places[..., 0])
    for axis, side in enumerate(grid):
        flat = flat * side + places[..., axis].clamp(0, side - 1)
    return torch.where(inside, flat, -1)
