"""A real pair of photographs of one scene with its true disparity: correspondence and depth that nobody drew.

Shapes: H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.correspondence import FlowField
from spherometer.errors import ShapeError

# of the motorcycle at the size in which scikit-image has it, as its documentation gives them
_FOCAL = 994.978  # pixels
_BASELINE = 0.193001  # metres between the cameras
_SHIFT = 31.086  # pixels between the principal points


@dataclass(frozen=True)
class StereoPair:
    """Two rectified photographs: what column c of ``left`` shows is at column c - disparity of ``right``.

    Args:
        left, right: [3, H, W] float32 in [0, 1].
        disparity: [H, W] float32 in pixels, of the pixels of ``left``; infinite where it is not known.
        focal, baseline, shift: focal length and distance of the principal points in pixels, distance of the
            cameras in metres: depth = baseline * focal / (disparity + shift).
        source: where they come from.
    """

    left: Tensor
    right: Tensor
    disparity: Tensor
    focal: float = _FOCAL
    baseline: float = _BASELINE
    shift: float = _SHIFT
    source: str = ""

    def __post_init__(self) -> None:
        shapes = tuple(self.left.shape), tuple(self.right.shape), tuple(self.disparity.shape)
        if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[2] != shapes[0][1:]:
            _checks.refuse(
                ShapeError, "StereoPair", "left, right and disparity", "have shapes [3, H, W] and [H, W]",
                "each pixel has one disparity", f"{shapes[0]}, {shapes[1]} and {shapes[2]}",
                "Pass two images of one size",
            )  # fmt: skip

    @property
    def flow(self) -> FlowField:
        """From ``left`` to ``right``, of one image."""
        return FlowField.from_disparity(self.disparity[None])

    @property
    def depth(self) -> Tensor:
        """[H, W] float32 in metres; NaN where it is not known."""
        depth = self.baseline * self.focal / (self.disparity + self.shift)
        return torch.where(torch.isfinite(self.disparity), depth, torch.nan)

    def resized(self, size: tuple[int, int]) -> StereoPair:
        """The pair in another size: images smoothed and interpolated, disparities of the nearest pixels.

        Disparities, focal length and shift are in pixels of the new width.
        """
        both = torch.nn.functional.interpolate(
            torch.stack([self.left, self.right]),
            size=size,
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        factor = size[1] / self.disparity.shape[1]
        nearest = torch.nn.functional.interpolate(self.disparity[None, None], size=size, mode="nearest-exact")
        return StereoPair(
            both[0], both[1], factor * nearest[0, 0], factor * self.focal, self.baseline, factor * self.shift,
            self.source,
        )  # fmt: skip


def stereo_pair() -> StereoPair:
    """The motorcycle of the Middlebury stereo set, 500 x 741 pixels, which scikit-image brings along.

    Nothing is downloaded: photographs and disparities are files of the package.

    Raises:
        MissingExtraError: scikit-image is not installed.

    Source: Scharstein et al. 2014 (Middlebury 2014, "Motorcycle"), a quarter of the original size, by
        scikit-image.

    Example:
        >>> pair = stereo_pair()
        >>> pair.left.shape, int(torch.isinf(pair.disparity).sum())
        (torch.Size([3, 500, 741]), 27226)
    """
    data = _checks.extra("skimage.data", "dense", "the stereo pair")
    left, right, disparity = data.stereo_motorcycle()
    first, second = (torch.from_numpy(each).permute(2, 0, 1).float().div(255) for each in (left, right))
    known = torch.from_numpy(disparity)
    known = torch.where(torch.isfinite(known), known, torch.inf)
    return StereoPair(first, second, known, source="Middlebury 2014 'Motorcycle' (scikit-image)")
