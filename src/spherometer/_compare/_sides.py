"""Two sets of features made comparable: opened, joined by id, cut to what is held, checked.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks, rows, sphere
from spherometer._checks import NanPolicy
from spherometer._compare._differences import Side
from spherometer.errors import InputError, ShapeError

EXACT = 20_000  # rows up to which all are compared; beyond: a random subset
_EXAMPLES = 5


@dataclass
class Given:
    """One set as it was given: opened, not yet read.

    Attributes:
        name: "a" or "b", for messages.
        stored: the rows, with their other side, ids and labels.
    """

    name: str
    stored: rows.Embeddings

    def __len__(self) -> int:
        return len(self.stored)


def given(name: str, value: Any, ids: Any, labels: Any) -> Given:
    """``value`` as rows that can be read; (x, y): two sides of positive pairs.

    Args:
        name: "a" or "b".
        value: array, (x, y), path, rows, Embeddings.
        ids: None, or an id for each row; a text: the column of ids of a path.
        labels: None, or a class for each row; a text: the column of a path.
    """
    if isinstance(value, (tuple, list)) and len(value) == 2 and not isinstance(value[0], (int, float)):
        one, two = (given(name, side, None, None).stored for side in value)
        stored = replace(one, other=two.rows, files=(*one.files, *two.files), notes=(*one.notes, *two.notes))
    elif isinstance(value, (str, PathLike)) and (isinstance(ids, str) or isinstance(labels, str)):
        options = {key: one for key, one in (("id", ids), ("labels", labels)) if isinstance(one, str)}
        stored = rows.opened("compare", name, value, **options)
    else:
        stored = rows.opened("compare", name, value)
    num = len(stored)
    if stored.other is not None and stored.other.shape != stored.shape:
        _checks.refuse(
            ShapeError, "compare", name, "have two sides of the same shape",
            "row i of one belongs to row i of the other", f"{stored.shape} and {stored.other.shape}",
            "Pass two sides of the same pairs",
        )  # fmt: skip
    if ids is not None and not isinstance(ids, str):
        stored = replace(stored, ids=[str(each) for each in _listed(name, "id", ids, num)])
    if labels is not None and not isinstance(labels, str):
        stored = replace(stored, labels=_listed(name, "labels", labels, num))
    return Given(name, stored)


def _listed(name: str, what: str, values: Any, num: int) -> list[Any]:
    if isinstance(values, (Tensor, np.ndarray)):
        values = values.tolist()
    listed: list[Any] = list(values)
    if len(listed) != num:
        _checks.refuse(
            ShapeError, "compare", what, f"have one entry for each row of {name}",
            "entry i belongs to row i", f"{len(listed)} entries for {num} rows",
            "Pass as many entries as there are rows",
        )  # fmt: skip
    return listed


def joined(
    first: Sequence[str], second: Sequence[str], *, missing: str = "refuse"
) -> tuple[list[int], list[int], int, int]:
    """Places of the ids that both have, in the order of ``first``, and how many are missing in each other.

    Args:
        first: ids of a, all different.
        second: ids of b, all different.
        missing: "refuse" ids that one side lacks, or "drop" them.

    Raises:
        InputError: an id twice on one side, ids that one side lacks, no id in common.
    """
    where = []
    for name, ids in (("a", first), ("b", second)):
        places: dict[str, int] = {}
        twice = []
        for place, each in enumerate(ids):
            if each in places:
                twice.append(each)
            places[each] = place
        if twice:
            _checks.refuse(
                InputError, "compare", "id", f"be different for each row of {name}",
                "rows are joined by id", f"{len(twice)} repeated, such as {_some(twice)}",
                "Pass another id, or remove repeated rows",
            )  # fmt: skip
        where.append(places)
    one, two = where
    shared = [each for each in one if each in two]
    alone = [each for each in one if each not in two], [each for each in two if each not in one]
    if not shared or (missing == "refuse" and (alone[0] or alone[1])):
        examples = _some([*alone[0][:3], *alone[1][:2]])
        _checks.refuse(
            InputError, "compare", "id", "name the same rows on both sides", "rows are joined by id",
            f"{len(alone[0])} ids only in a, {len(alone[1])} only in b, {len(shared)} in both; "
            f"such as {examples}",
            'Pass missing="drop" to compare the shared rows' if shared else "Look at the columns of ids",
        )  # fmt: skip
    return [one[each] for each in shared], [two[each] for each in shared], len(alone[0]), len(alone[1])


def _some(ids: Sequence[str]) -> str:
    return ", ".join(repr(each)[:40] for each in ids[:_EXAMPLES])


def chosen(num: int, seed: int) -> Tensor:
    """All places below ``num``, or a random subset of 20 000 of them, in order."""
    if num <= EXACT:
        return torch.arange(num)
    return torch.randperm(num, generator=torch.Generator().manual_seed(seed))[:EXACT].sort().values


def read(source: rows.RowSource, places: Tensor, budget: int) -> Tensor:
    """Rows of ``source`` at ``places``, in that order."""
    found: Tensor | None = None
    order = places.argsort()
    wanted = places[order]
    for start, block in rows.unit_blocks(source, budget):
        low, high = torch.searchsorted(wanted, torch.tensor([start, start + len(block)])).tolist()
        if found is None:
            found = block.new_empty(len(places), source.shape[1])
        found[order[low:high]] = block[wanted[low:high] - start]
    assert found is not None
    return found


def finite(sides: Sequence[Tensor]) -> Tensor:
    """Rows that are finite on every side."""
    return torch.stack([torch.isfinite(side).all(dim=1) for side in sides]).all(dim=0)


def side_of(name: str, tensors: Sequence[Tensor], *, normalize: bool, nan: NanPolicy) -> Side:
    """Checked rows, on the sphere too."""
    names = (name, f"the other side of {name}")[: len(tensors)]
    checked = _checks.feature_set("compare", names, tensors, min_rows=2, nan=nan)
    units = [
        sphere.unit_rows("compare", each, one, scale=normalize).detach()
        for each, one in zip(names, checked, strict=True)
    ]
    return Side(checked[0].rows, units[0], units[1] if len(units) > 1 else None)
