"""Volumes with meta-data and subjects: as a set, in parts, and as pairs of random views.

Shapes: N volumes, B of them in a batch, X x Y x Z voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherometer.data._paired import ImageViews
from spherometer.data._source import LabelledImages, digest

Columns = dict[str, list[Any]]  # column -> N values: numbers as float, names as str, missing ones None
Reader = Callable[[int], NDArray[np.float32]]  # a volume [X, Y, Z] from its row


@dataclass(frozen=True)
class VolumeSet:
    """Preprocessed volumes of one shape, read by row numbers.

    Args:
        name, source: what they are and where they come from.
        names: of the volumes, for messages.
        sides: X, Y and Z.
        reader: gives the volume of a row.
        identity: hex digest of what the volumes are.
        metadata: column -> N values (numbers, texts, None where missing), or None.
        groups: the subject of each volume.
        kept: all volumes [N, X, Y, Z] in memory, or None when they are too many.
    """

    name: str
    source: str
    names: Sequence[str]
    sides: tuple[int, int, int]
    reader: Reader
    identity: str
    metadata: Columns | None = None
    groups: Sequence[str] | None = None
    kept: Tensor | None = field(default=None, repr=False)

    @property
    def labels(self) -> None:
        """None: what is known about volumes is in ``metadata``."""
        return None

    @property
    def shape(self) -> tuple[int, ...]:
        """1 (channel), X, Y and Z."""
        return (1, *self.sides)

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, index: Tensor) -> Tensor:
        """The volumes ``index`` [B], [B, 1, X, Y, Z] float32."""
        if self.kept is not None:
            return self.kept[index].unsqueeze(1)
        found = torch.empty((len(index), 1, *self.sides))
        for place, row in enumerate(index.tolist()):
            found[place, 0] = torch.from_numpy(self.reader(row))
        return found

    def fingerprint(self) -> str:
        """Of the volumes, their names, meta-data and subjects."""
        return digest(
            volumes=self.identity,
            names=list(self.names),
            sides=self.sides,
            metadata=self.metadata,
            groups=None if self.groups is None else list(self.groups),
        )


@dataclass(frozen=True)
class VolumePart(LabelledImages):
    """Some rows of a set of volumes as an encoder sees them when nothing is drawn at random.

    Args:
        of: the set.
        rows: which of its rows, int64 [n]; None for all.
        still: what is done to every volume, or None.
    """

    of: VolumeSet

    @property
    def metadata(self) -> Columns | None:
        """column -> n values, or None."""
        columns = self.of.metadata
        return None if columns is None else {name: self._some(values) for name, values in columns.items()}

    @property
    def groups(self) -> list[str] | None:
        """The subject of each row, or None."""
        return None if self.of.groups is None else self._some(self.of.groups)

    @property
    def names(self) -> list[str]:
        """Names of the volumes."""
        return self._some(self.of.names)

    def _some(self, values: Sequence[Any]) -> list[Any]:
        return list(values) if self.rows is None else [values[row] for row in self.rows.tolist()]


@dataclass(frozen=True)
class VolumeViews(ImageViews):
    """Two views of every volume, each a function of (seed, epoch, index, view) alone.

    Args:
        images: the rows of a set of volumes.
        changes: a preset, such as ``VolumeChanges("all")``.
        seed: of the views; the same seed gives the same views in any batch split, on any device.

    Example:
        >>> import numpy as np
        >>> from spherometer.data import VolumeChanges
        >>> ones = np.ones((8, 9, 7), dtype=np.float32)
        >>> made = VolumeSet("two", "made here", ["a", "b"], ones.shape, lambda row: ones, "")
        >>> x, y = VolumeViews(VolumePart(made), VolumeChanges("all"), seed=0)(0, torch.arange(2))
        >>> x.shape
        torch.Size([2, 1, 8, 9, 7])
    """

    images: VolumePart

    @property
    def metadata(self) -> Columns | None:
        """column -> N values (numbers, texts, None where missing), or None."""
        return self.images.metadata

    @property
    def groups(self) -> list[str] | None:
        """The subject of each volume, or None."""
        return self.images.groups
