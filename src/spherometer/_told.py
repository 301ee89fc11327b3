"""What ``measure`` is asked, and what is known of the rows before classes and meta-data are looked at.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks
from spherometer._checks import Features, NanPolicy
from spherometer._portrait import MOST_ROWS, Portrait, portrait_of
from spherometer._results import Measurement
from spherometer.errors import ShapeError
from spherometer.rows import Embeddings, RowSource, opened

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Asked:
    """The arguments of ``measure`` that say how rows are measured.

    Attributes:
        subset: whether something needs rows at hand: labels, meta-data, both sides at once, the portrait.
    """

    t: float
    alpha: float
    nan: NanPolicy
    normalize: bool
    exact: bool
    budget: int
    seed: int
    progress: Progress | None
    subset: bool


@dataclass
class Told:
    """Measurements of all rows, and the rows that classes and meta-data are measured on.

    Attributes:
        num_before: rows that were given.
        num: rows that were not dropped.
        sides: rows at hand of each side: all, or a random subset.
        units: the same on the sphere.
        positions: numbers of the rows of a random subset; None where ``sides`` are all rows.
        kept: mask of the rows that were not dropped; None where ``sides`` are all rows.
        unlabelled: rows that were not dropped and have no label; None where ``sides`` are all rows.
        found: alignment, uniformity and cross-uniformity.
        spectra: the spectrum family.
        notes: notes on ``found``; ``spectrum_notes`` on ``spectra``.
    """

    num_before: int
    num: int
    sides: list[Features] = field(default_factory=list)
    units: list[Tensor] = field(default_factory=list)
    positions: Tensor | None = None
    kept: Tensor | None = None
    unlabelled: int | None = None
    found: dict[str, Measurement] = field(default_factory=dict)
    spectra: dict[str, Measurement] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    spectrum_notes: list[str] = field(default_factory=list)

    def at(self, name: str, values: Any) -> Any:
        """What belongs to the rows of the subset, of values for all rows."""
        if values is None or self.positions is None:
            return values
        places = self.positions.numpy()
        if isinstance(values, Mapping):
            return {key: self.at(f"{name}[{key!r}]", one) for key, one in values.items()}
        if len(values) != self.num_before:
            _checks.refuse(
                ShapeError, "measure", name, "have one entry for each row",
                "entry i belongs to row i", f"{len(values)} entries for {self.num_before} rows",
                "Pass as many entries as there are rows",
            )  # fmt: skip
        if isinstance(values, (Tensor, np.ndarray)):
            return values[places]
        return [values[int(place)] for place in places]

    def say_subset(self, names: set[str], seed: int) -> None:
        """Say of measurements that they are of the subset."""
        if self.positions is None or not names:
            return
        words = f"random subset of {len(self.positions)} of {self.num} rows, seed {seed}"
        for name in names:
            one = self.found[name]
            self.found[name] = replace(one, settings={**one.settings, "rows": words})

    def portrait(self, ids: Any, labels: Any, metadata: Any, asked: Asked) -> Portrait:
        """What the rows look like; of a random subset where they are more than a portrait takes."""
        kept = torch.arange(self.num_before) if self.positions is None else self.positions
        if self.sides[0].kept is not None:
            kept = self.sides[0].kept.cpu().nonzero()[:, 0]
        places = chosen_rows(len(self.units[0]), MOST_ROWS, asked.seed)
        given = kept[places] if self.positions is None else places  # where texts of all rows are looked up

        def at(values: Any) -> Any:
            if isinstance(values, Mapping):
                return {key: at(one) for key, one in values.items()}
            if isinstance(values, (Tensor, np.ndarray)):
                return values[given.numpy()]
            return None if values is None else [values[int(place)] for place in given]

        return portrait_of(
            self.units[0][places], self.sides[0].rows[places],
            ids=at(ids), labels=at(labels), metadata=at(metadata),
            other=self.units[1][places] if len(self.units) > 1 else None,
            seed=asked.seed, positions=kept[places], num_total=self.num, t=asked.t, alpha=asked.alpha,
        )  # fmt: skip


def chosen_rows(num: int, count: int, seed: int) -> Tensor:
    """``count`` different numbers below ``num`` by chance, ascending; all of them when they are no more."""
    if num <= count:
        return torch.arange(num)
    generator = torch.Generator().manual_seed(seed)
    if num <= 4 * count:
        return torch.randperm(num, generator=generator)[:count].sort().values
    drawn = torch.empty(0, dtype=torch.int64)
    while len(drawn) < count:
        more = torch.randint(num, (2 * count,), generator=generator)
        drawn = torch.unique(torch.cat([drawn, more]))
    return drawn[torch.randperm(len(drawn), generator=generator)[:count]].sort().values


def stored_of(x: Any, y: Any, labels: Any, metadata: Any) -> Embeddings:
    """``x`` and ``y`` as one set of embeddings, with what the caller gave in place of what files say."""
    one = opened("measure", "x", x)
    labels = one.labels if labels is None else labels
    metadata = one.metadata if metadata is None else metadata
    if y is None:
        return replace(one, labels=labels, metadata=metadata)
    two = opened("measure", "y", y)

    def check() -> None:
        one.check()
        two.check()

    return replace(
        one, other=two.rows, labels=labels, metadata=metadata, files=(*one.files, *two.files),
        notes=(*one.notes, *two.notes), check=check, digest=lambda: (*one.digest(), *two.digest()),
    )  # fmt: skip


def size_of(sources: Sequence[RowSource]) -> int:
    """Bytes of a number as it is read."""
    return 8 if any(source.dtype == "float64" for source in sources) else 4


def all_of(sources: Sequence[RowSource]) -> list[Tensor]:
    """All rows of each source, in one precision."""
    dtype = torch.float64 if size_of(sources) == 8 else torch.float32
    return [source.read(0, source.shape[0]).to(dtype) for source in sources]


def provenance_of(stored: Embeddings, asked: Asked) -> dict[str, Any] | None:
    """Files with their checksums, and what the numbers depend on; refuses files that changed meanwhile."""
    files = stored.digest()
    stored.check()
    if not files:
        return None
    return {
        "files": [{"name": one.name, "num_bytes": one.num_bytes, "sha256": one.sha256} for one in files],
        "rows": stored.shape[0],
        "dimensions": stored.shape[1],
        "stored as": stored.dtype,
        "settings": {
            "t": asked.t, "alpha": asked.alpha, "nan": asked.nan, "normalize": asked.normalize,
            "exact": asked.exact, "seed": asked.seed,
        },
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__.split("+")[0],
            "numpy": np.__version__,
        },
    }  # fmt: skip
