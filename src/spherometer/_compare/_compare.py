"""Which of two sets of features is better, by how much, and whether one drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from spherometer import _checks
from spherometer._checks import NanPolicy
from spherometer._compare import _sides
from spherometer._compare._comparison import Compared, Comparison
from spherometer._compare._differences import (
    Side,
    alignment_difference,
    spectrum_differences,
    uniformity_differences,
)
from spherometer._compare._drift import drift_of
from spherometer._compare._verdicts import Difference, holm, overall, verdict_of
from spherometer._measure import measure
from spherometer._results import Evaluation
from spherometer.errors import InputError, ShapeError
from spherometer.rows import BUDGET

# Metrics that are one hypothesis: Holm's correction counts each line once.
_FAMILIES = (
    ("alignment",),
    ("normalized_uniformity", "uniformity"),
    ("wasserstein_uniformity",),
    ("rankme", "effective_rank"),
    ("participation_ratio", "isoscore"),
)
_NO_TEST = "no interval of the difference is known"
_OTHER_SHAPE = "not tested: its value depends on the number of rows and dimensions, which differ"


def compare(
    a: Any,
    b: Any,
    *,
    id: Any = None,
    labels: Any = None,
    names: tuple[str, str] = ("a", "b"),
    paired: bool | Literal["auto"] = "auto",
    missing: Literal["refuse", "drop"] = "refuse",
    drift: bool | Literal["auto"] = "auto",
    t: float = 2.0,
    alpha: float = 2.0,
    k: int = 10,
    nan: NanPolicy = "refuse",
    normalize: bool = True,
    num_permutations: int = 500,
    budget: int = BUDGET,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    r"""Compare two sets of features: differences with intervals, a verdict for each metric, and drift.

    Paired (the same samples through two encoders): uniformity by the exact variance of the U-statistic of
    h_ij = k^A_ij / U_A - k^B_ij / U_B, alignment by the differences of the pairs, spectra by a jackknife of
    the difference over 20 groups of rows. Unpaired (independent samples): the sum of both variances.

    Args:
        a: [N, D] features, or (x, y) with positive pairs, a path, or what ``open`` returned.
        b: the other set; may have other dimensions. Every verdict is of ``b`` against ``a``.
        id: what the rows are called, to join them: (ids of a, ids of b), or the column of both files. None:
            the ids of the files; without any, rows correspond by position where the numbers are equal.
        labels: classes: (those of a, those of b), or the column of both files.
        names: what to call the two sets.
        paired: whether rows correspond; "auto": where both have ids, or as many rows.
        missing: "refuse" ids that one side lacks, or "drop" them (a note counts them).
        drift: also say whether the two sets come from the same law; "auto": where they are independent
            samples of as many dimensions.
        t: sharpness of the Gaussian potential, > 0.
        alpha: power of the distance in alignment, > 0.
        k: neighbours of the overlap.
        nan: "refuse" rows with NaN or infinity, or "drop" them (paired: on both sides).
        normalize: as for ``measure``.
        num_permutations: regroupings behind the p-values of drift.
        budget: bytes that one read of a file may take.
        seed: of random subsets (beyond 20 000 rows) and regroupings.
        progress: called with (done, of, what).

    Returns:
        A ``Comparison``. ``p_value`` is two-sided and of one metric; ``p_holm`` is corrected for all tested
        metrics, those that say the same counted once (uniformity and its normalized form, RankMe and
        effective rank, participation ratio and IsoScore); the verdict is p_holm against 0.05. The overall
        verdict is on the plane of alignment and normalized uniformity, corrected for these two alone.
        Values are equal where they differ by less than 1e-6 of their size: that is rounding.

        Sets of different dimensions: alignment and normalized uniformity are tested, the rest shown without
        a verdict. Spectra of different numbers of rows: no verdict, because their bias differs; nor of fewer
        than 500 rows, or where few rows are much longer than the others: there our null trials found too
        many false alarms. Metrics of labels: no verdict. Conditional on its rows: "better" is by these
        metrics, not by accuracy.

    Raises:
        InputError: as ``measure``; rows that do not match.

    Cost: that of ``measure`` for both, one more pass over the pairs of both in float64, the spectra of 80
    left-out groups of each; with drift (2048 + 2048)^2 pairs times the number of regroupings.

    Source: Hoeffding 1948 (variance of U-statistics); Efron and Stein 1981 (jackknife); Gretton et al. 2012
    (MMD, unbiased estimate); Holm 1979. The verdicts are ours; their false alarms are counted by
    ``reproductions/null_trials.py``.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = torch.randn(200, 8, generator=generator)
        >>> near, far = (z + s * torch.randn(200, 8, generator=generator) for s in (0.1, 1.0))
        >>> compare((z, far), (z, near), drift=False).verdict
        'better'
    """
    _checks.positive("compare", "t", t)
    _checks.positive("compare", "alpha", alpha)
    for name, number, least in (
        ("k", k, 1), ("num_permutations", num_permutations, 19), ("seed", seed, 0), ("budget", budget, 1),
    ):  # fmt: skip
        _checks.whole("compare", name, number, at_least=least)
    _checks.one_of("compare", "nan", nan, ("refuse", "drop"))
    _checks.one_of("compare", "missing", missing, ("refuse", "drop"))
    for name, choice in (("paired", paired), ("drift", drift)):
        if choice not in (True, False, "auto"):
            _checks.one_of("compare", name, choice, ("auto",))
    ids, classes = _both("id", id), _both("labels", labels)
    first, second = (
        _sides.given(name, value, ids[place], classes[place])
        for place, (name, value) in enumerate((("a", a), ("b", b)))
    )
    notes = [
        f"{name}: {note}"
        for name, which in zip(names, (first, second), strict=True)
        for note in which.stored.notes
    ]
    rows_match, places, num_shared = _matched(first, second, paired, missing, seed, notes)
    with torch.no_grad():
        tensors = [
            [_sides.read(source, place, budget) for source in (one.stored.rows, one.stored.other) if source]
            for one, place in zip((first, second), places, strict=True)
        ]
        if nan == "drop":
            tensors, places = _dropped(tensors, places, rows_match, notes)
        sides = [
            _sides.side_of(name, each, normalize=normalize, nan="refuse")
            for name, each in zip(("a", "b"), tensors, strict=True)
        ]
        told = [_labels_at(one, place) for one, place in zip((first, second), places, strict=True)]
        evaluations = []
        for name, each, label in zip(names, tensors, told, strict=True):
            y = each[1] if len(each) > 1 else None
            evaluations.append(measure(each[0], y, labels=label, t=t, alpha=alpha, normalize=normalize))
            if progress is not None:
                progress(len(evaluations), 4, f"{name} measured")
        one, two = sides
        found = _differences(one, two, evaluations, t, alpha, paired=rows_match)
        if progress is not None:
            progress(3, 4, "differences")
        asked = (not rows_match and one.dim == two.dim) if drift == "auto" else bool(drift)
        drifted = None
        if asked and not rows_match and one.dim != two.dim:
            _checks.refuse(
                ShapeError, "compare", "drift", "be of sets with the same dimensions",
                "independent samples are compared as points of one space",
                f"{one.dim} and {two.dim} dimensions", "Pass drift=False",
            )  # fmt: skip
        if asked:
            both = None if told[0] is None or told[1] is None else (told[0], told[1])
            drifted = drift_of(
                one, two, both, paired=rows_match, t=t, k=k, seed=seed, num_permutations=num_permutations
            )
    for which in (first, second):
        which.stored.check()
    if progress is not None:
        progress(4, 4, "done")
    metrics = _metrics(evaluations, found, one.rows.shape == two.rows.shape)
    verdict, words = _overall(metrics, names)
    settings: dict[str, Any] = {
        "t": t, "alpha": alpha, "nan": nan, "normalize": normalize, "seed": seed, "missing": missing,
        "num_permutations": num_permutations if asked else None,
    }  # fmt: skip
    for name, which in (("files of a", first), ("files of b", second)):
        if which.stored.files:
            settings[name] = [file.name for file in which.stored.files]
    return Comparison(
        names=(str(names[0]), str(names[1])),
        paired=rows_match,
        num=(len(one.rows), len(two.rows)),
        num_shared=num_shared,
        dims=(one.dim, two.dim),
        metrics=metrics,
        verdict=verdict,
        words=words,
        drift=drifted,
        evaluations=(evaluations[0], evaluations[1]),
        notes=tuple(notes),
        settings=settings,
    )


def _both(name: str, value: Any) -> tuple[Any, Any]:
    if value is None or isinstance(value, str):
        return value, value
    if isinstance(value, (tuple, list)) and len(value) == 2 and not isinstance(value[0], str):
        return value[0], value[1]
    _checks.refuse(
        InputError, "compare", name, "be two lists, one for each set, or the name of a column",
        "each row needs its own", f"{type(value).__name__}", f"Pass {name}=(those of a, those of b)",
    )  # fmt: skip


def _matched(
    first: _sides.Given, second: _sides.Given, paired: Any, missing: str, seed: int, notes: list[str]
) -> tuple[bool, list[Tensor], int | None]:
    """Whether rows correspond, the places of the rows that are compared, and how many are shared."""
    ids = first.stored.ids, second.stored.ids
    num, other = len(first), len(second)
    if paired is not False and ids[0] is not None and ids[1] is not None:
        mine, theirs, alone, only = _sides.joined(ids[0], ids[1], missing=missing)
        if alone or only:
            notes.append(f"{alone} ids only in a and {only} only in b left out.")
        picked = _sides.chosen(len(mine), seed)
        _say_subset(notes, len(picked), len(mine), "shared rows", seed)
        places = [torch.tensor(each, dtype=torch.int64)[picked] for each in (mine, theirs)]
        return True, places, len(mine)
    if paired is not False and (ids[0] is None) != (ids[1] is None):
        _checks.refuse(
            InputError, "compare", "id", "be known on both sides or on neither",
            "rows are joined by id, never by position where ids exist",
            f"ids only in {'a' if ids[1] is None else 'b'}",
            "Pass id=(ids of a, ids of b), or paired=False for independent samples",
        )  # fmt: skip
    if paired is True and num != other:
        _checks.refuse(
            ShapeError, "compare", "b", "have as many rows as a", "rows without ids correspond by position",
            f"{num} and {other} rows", "Pass id=(ids of a, ids of b), or paired=False",
        )  # fmt: skip
    if paired is not False and num == other:
        notes.append("No ids: row i of a was taken for the same sample as row i of b.")
        picked = _sides.chosen(num, seed)
        _say_subset(notes, len(picked), num, "rows", seed)
        return True, [picked, picked], num
    places = [_sides.chosen(count, seed) for count in (num, other)]
    for name, place, count in zip(("a", "b"), places, (num, other), strict=True):
        _say_subset(notes, len(place), count, f"rows of {name}", seed)
    return False, places, None


def _say_subset(notes: list[str], picked: int, num: int, what: str, seed: int) -> None:
    if picked < num:
        notes.append(f"Compared on a random subset of {picked} of {num} {what}, seed {seed}.")


def _dropped(
    tensors: list[list[Tensor]], places: list[Tensor], paired: bool, notes: list[str]
) -> tuple[list[list[Tensor]], list[Tensor]]:
    masks = [_sides.finite(each) for each in tensors]
    if paired:
        masks = [masks[0] & masks[1]] * 2
    for name, mask in zip(("a", "b"), masks, strict=True):
        if lost := int((~mask).sum()):
            notes.append(f"{lost} rows with NaN or infinity dropped from {name}.")
    tensors = [[side[mask] for side in each] for each, mask in zip(tensors, masks, strict=True)]
    return tensors, [place[mask] for place, mask in zip(places, masks, strict=True)]


def _labels_at(one: _sides.Given, places: Tensor) -> list[Any] | None:
    labels = one.stored.labels
    return None if labels is None else [labels[int(place)] for place in places]


def _differences(
    one: Side, two: Side, evaluations: Sequence[Evaluation], t: float, alpha: float, *, paired: bool
) -> dict[str, Difference]:
    logs = (evaluations[0]["uniformity"].value, evaluations[1]["uniformity"].value)
    found = uniformity_differences(one, two, logs, t, paired=paired)
    alignment = alignment_difference(one, two, alpha, paired=paired)
    if alignment is not None:
        found["alignment"] = alignment
    return found | spectrum_differences(one, two, paired=paired)


def _metrics(
    evaluations: Sequence[Evaluation], found: dict[str, Difference], same_shape: bool
) -> dict[str, Compared]:
    first, second = evaluations
    keys = [key for key in first if key in second]
    tested = {key: found[key].p_value for key in keys if key in found and first[key].better is not None}
    families: list[tuple[dict[str, float], float]] = []
    for family in _FAMILIES:
        p_values = [(key, p) for key in family if (p := tested.get(key)) is not None]
        if p_values:
            families.append((dict(p_values), p_values[0][1]))
    adjusted: dict[str, float] = {}
    alone = holm([p for _, p in families])
    for (members, p_first), p_holm in zip(families, alone, strict=True):
        for key, p in members.items():
            scale = p_holm / p_first if p_first > 0 else 1.0
            adjusted[key] = min(1.0, max(p, p * scale))
    metrics = {}
    for key in keys:
        one, two, known = first[key], second[key], found.get(key)
        method = known.method if known else _NO_TEST if same_shape else _OTHER_SHAPE
        difference = two.value - one.value
        corrected = adjusted.get(key)
        metrics[key] = Compared(
            label=one.label,
            better=one.better,
            values=(one.value, two.value),
            intervals=(one.interval, two.interval),
            difference=difference,
            interval=None if known is None else known.interval,
            p_value=tested.get(key),
            p_holm=corrected,
            verdict=verdict_of(difference, corrected, one.better),
            normalized=key in ("normalized_uniformity", "alignment"),
            method=method,
        )
    return metrics


def _overall(metrics: dict[str, Compared], names: tuple[str, str]) -> tuple[str, str]:
    axes = {"alignment": "alignment", "uniformity": "normalized_uniformity"}
    tested = {axis: metrics[key] for axis, key in axes.items() if key in metrics}
    known = {axis: (each, each.p_value) for axis, each in tested.items() if each.p_value is not None}
    adjusted = holm([p for _, p in known.values()])
    verdicts = {
        axis: verdict_of(each.difference, p_holm, each.better)
        for (axis, (each, _)), p_holm in zip(known.items(), adjusted, strict=True)
    }
    return overall(verdicts, names)
