"""What conditional alignment and uniformity say about checked rows, each with interval and baseline.

Shapes: N rows, D dimensions, K encoded columns of meta-data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks, pairs, sphere
from spherometer._checks import Features, NanPolicy
from spherometer._curve import Interval
from spherometer._results import Measurement
from spherometer.errors import UndefinedError
from spherometer.kernels import Categorical, Kernel
from spherometer.metrics import _conditional
from spherometer.metrics._alignment import pair_distances

_Z = 1.959963984540054  # 97.5 % of the normal law
_INFLUENCE = "influence of each row, as anchor and as candidate"
_JACKKNIFE = "jackknife over rows"


@dataclass(frozen=True)
class Compared:
    """Unit rows that have meta-data, and what compares them."""

    x: Tensor  # [N, D]
    y: Tensor | None  # [N, D] or no second side
    encoded: Tensor  # [N, K] float64
    kernel: Kernel  # fitted
    num_left_out: int

    def similarity(self, kernel: Kernel) -> pairs.Similarity:
        """Similarities of the rows under another bandwidth."""
        return _conditional.similarity_of(kernel, self.encoded, self.x.dtype)


def compared(
    function: str, sides: list[Features], units: list[Tensor], metadata: Any, kernel: Any, nan: NanPolicy
) -> Compared:
    """Check meta-data and kernel as the metrics do, and take the rows that stay."""
    stays, encoded, found = _conditional.with_metadata(function, sides, metadata, kernel, nan)
    kept = units if stays is None else [rows[stays] for rows in units]
    left_out = len(units[0]) - len(kept[0])
    _checks.enough_rows(function, "x", len(kept[0]), 2, " with meta-data")
    return Compared(kept[0], kept[1] if len(kept) > 1 else None, encoded, found, left_out)


@dataclass(frozen=True)
class Values:
    """Both quantities at one bandwidth, and how many other rows count as similar on average."""

    neighbors: float
    own_share: float  # mean weight a_ii of the own pair
    alignment: float | None = None
    alignment_interval: Interval = None
    uniformity: float | None = None
    uniformity_interval: Interval = None


@torch.no_grad()
def values_of(
    rows: Compared, kernel: Kernel, *, alpha: float, t: float, form: _conditional.Form = "normalized",
    threshold: float | None = None, intervals: bool = True,
) -> Values:  # fmt: skip
    """Conditional alignment (with a second side) and uniformity (where a pair is dissimilar)."""
    similarity = rows.similarity(kernel)
    totals = pairs.kernel_sums(similarity, rows.x[:, :0])[1].double() + 1
    alignment: tuple[float | None, Interval] = (None, None)
    if rows.y is not None:
        alignment = _alignment(rows.x, rows.y, similarity, totals, alpha, intervals)
    uniformity = _uniformity(rows.x, similarity, t, form, threshold, intervals)
    return Values(float(totals.mean() - 1), float((1 / totals).mean()), *alignment, *uniformity)


def _alignment(
    x: Tensor, y: Tensor, similarity: pairs.Similarity, totals: Tensor, alpha: float, interval: bool
) -> tuple[float, Interval]:
    anchors = pairs.anchor_distances(x, y, similarity, alpha).double()
    value = float(anchors.mean())
    if not interval or len(x) < 2 or not math.isfinite(value):
        return value, None
    # a row acts twice: as an anchor, and as a candidate of every other anchor
    share = 1 / totals
    extra = torch.stack([share, anchors * share], dim=1)
    if alpha == 2:
        weighed = torch.cat([x * share.to(x.dtype)[:, None], extra.to(x.dtype)], dim=1)
        sums = pairs.kernel_sums(similarity, weighed)[0].double()
        distances = 2 * sums[:, -2] - 2 * (y.double() * sums[:, :-2]).sum(dim=1)
        expected = sums[:, -1]
    else:
        weighing = _Shared(similarity.kernel, similarity.rows, share.to(similarity.rows.dtype))
        distances = pairs.conditional_distances(y, x, weighing, alpha)
        expected = pairs.kernel_sums(similarity, extra.to(x.dtype))[0][:, 1].double()
    influence = anchors + distances - expected
    half = _Z * float(influence.std()) / math.sqrt(len(x))
    return value, (max(value - half, 0.0), value + half)


@dataclass(frozen=True)
class _Shared(pairs.Similarity):
    """Similarities times a share of each column."""

    share: Tensor

    def between(self, a: int, b: int, c: int, d: int) -> Tensor:
        return super().between(a, b, c, d) * self.share[c:d]


def _uniformity(
    z: Tensor, similarity: pairs.Similarity, t: float, form: _conditional.Form, threshold: float | None,
    interval: bool,
) -> tuple[float | None, Interval]:  # fmt: skip
    try:
        found = _conditional.conditional_potential_mean("measure", z, t, similarity, form, threshold)
    except UndefinedError:  # all alike: there is no pair
        return None, None
    value = float(found)
    if not interval or len(z) < 4:
        return value, None
    half = _Z * _conditional.conditional_uniformity_error(z, t, similarity, form, threshold)
    if not math.isfinite(half):
        return value, None
    low = -math.inf if form == "mean" else -4 * t
    return value, (max(value - half, min(value, low)), min(value + half, max(value, 0.0)))


def add_conditional(
    found: dict[str, Measurement], notes: list[str], rows: Compared, *, alpha: float, t: float,
    normalize: bool,
) -> None:  # fmt: skip
    """Add the conditional measurements, or notes that say why there are none."""
    at = values_of(rows, rows.kernel, alpha=alpha, t=t)
    notes.append(
        f"Meta-data are compared by this kernel: {rows.kernel}. "
        f"On average {at.neighbors:.4g} other rows count as similar."
    )
    if rows.num_left_out:
        notes.append(f"{rows.num_left_out} rows without meta-data left out of the conditional metrics.")
    num = len(rows.x)
    settings = {
        "normalize": normalize,
        "kernel": str(rows.kernel),
        "kernel_in_full": rows.kernel.to_dict(),
        "similar_rows": at.neighbors,
    }
    if at.alignment is not None and rows.y is not None:
        own, unrelated = _unrelated(rows.x, rows.y, alpha, at.own_share)
        if not math.isfinite(at.alignment) or not math.isfinite(unrelated):
            notes.append(
                f"conditional_alignment left out: distances to the power {alpha:g} exceed the "
                "floating-point range."
            )
        else:
            found["conditional_alignment"] = Measurement(
                name="conditional_alignment",
                value=at.alignment,
                interval=at.alignment_interval,
                baseline={"unrelated meta-data": unrelated, "own pairs alone": own},
                num=num,
                settings={
                    "alpha": alpha,
                    **settings,
                    "interval": _INFLUENCE if at.alignment_interval else None,
                },
                better="lower",
                label=f"Conditional alignment (alpha = {alpha:g})",
            )
    if at.uniformity is None:
        notes.append("conditional_uniformity left out: all rows are alike under the kernel, no pair is left.")
        return
    found["conditional_uniformity"] = Measurement(
        name="conditional_uniformity",
        value=at.uniformity,
        interval=at.uniformity_interval,
        baseline={
            "unrelated meta-data": float(pairs.gaussian_potential(rows.x, t)),
            "uniform law": sphere.expected_uniformity(rows.x.shape[1], t),
        },
        num=num,
        settings={
            "t": t,
            "form": "normalized",
            **settings,
            "interval": _JACKKNIFE if at.uniformity_interval else None,
        },
        better="lower",
        label=f"Conditional uniformity (t = {t:g})",
    )


def _unrelated(x: Tensor, y: Tensor, alpha: float, own_share: float) -> tuple[float, float]:
    """Mean distance of own pairs; and what conditional alignment is on average over shuffled meta-data.

    Shuffling leaves each row its own pair and makes of all others equals: mean a_ii of the former, the rest
    of the mean over pairs of different rows.
    """
    num = len(x)
    everyone = pairs.Similarity(Categorical(), x.new_zeros(num, 1))
    own = float(pair_distances(x, y, alpha, normalize=False).mean())
    every = float(pairs.anchor_distances(x, y, everyone, alpha).double().mean())
    other = (num * every - own) / (num - 1)
    return own, own_share * own + (1 - own_share) * other
