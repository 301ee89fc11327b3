"""One call for all quantities that can be estimated."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from spherometer import _checks, metrics
from spherometer._estimates import _pair_means, _row_means
from spherometer._estimates._sampling import ANCHORS, NAME, ROWS, Answer, Sampling
from spherometer._results import Measurement
from spherometer.errors import InputError

_FEWEST_DRAWS = 8  # Student's quantile is rough below

# what estimates it, the exact function (None: the estimate of all rows is exact), better, label
_Known = tuple[Callable[..., Answer], Callable[..., Any] | None, Any, str]
KNOWN: dict[str, _Known] = {
    "uniformity": (_pair_means.uniformity, metrics.uniformity, "lower", "Uniformity"),
    "normalized_uniformity": (
        _pair_means.normalized_uniformity, metrics.normalized_uniformity, "lower", "Normalized uniformity",
    ),
    "cross_uniformity": (
        _pair_means.cross_uniformity, metrics.cross_uniformity, None, "Cross-uniformity",
    ),
    "conditional_uniformity": (
        _pair_means.conditional_uniformity, metrics.conditional_uniformity, "lower", "Conditional uniformity",
    ),
    "dense_uniformity": (_pair_means.dense_uniformity, metrics.dense_uniformity, "lower", "Dense uniformity"),
    "hyperspherical_energy": (
        _pair_means.hyperspherical_energy, metrics.hyperspherical_energy, "lower", "Hyperspherical energy",
    ),
    "conditional_alignment": (
        _row_means.conditional_alignment, metrics.conditional_alignment, "lower", "Conditional alignment",
    ),
    "neighbor_purity": (_row_means.neighbor_purity, metrics.neighbor_purity, "higher", "Neighbor purity"),
    "info_nce_loss": (_row_means.info_nce_loss, None, "lower", "InfoNCE loss"),
    "nt_xent_loss": (_row_means.nt_xent_loss, None, "lower", "NT-Xent loss"),
}  # fmt: skip
_LINEAR = "it costs O(N D) and is exact for any number of rows"
_SPECTRUM = "it costs O(N D^2) and is exact for any number of rows"
REFUSED = {
    "alignment": _LINEAR,
    "alignment_samples": _LINEAR,
    **dict.fromkeys(
        ("dense_alignment", "dense_alignment_samples"),
        "it takes each pair of cells once and is exact for any number of images",
    ),
    "tolerance": "it is made of sums over classes, costs O(N D) and is exact for any number of rows",
    "calinski_harabasz": "it is made of sums over classes, costs O(N D) and is exact for any number of rows",
    "hubness": "it is a skewness of how often rows are chosen, and some rows do not tell how often by all",
    "relative_local_density": (
        "its distances are measured against the graph of all rows, and a ratio from some of them is biased "
        "by an amount that is not known"
    ),
    "graph_modularity": "it is a property of the graph of all rows, and that of some rows is another graph",
    "uniformity_samples": "it is one value for each row, and each of them needs all the others",
    "dense_uniformity_samples": "it is one value for each image, and each of them needs all the others",
    "sharded_uniformity": "its rows lie with several processes; gather some, or ask for all pairs",
    **dict.fromkeys(
        (
            "alpha_req", "effective_rank", "isoscore", "lidar", "participation_ratio", "rankme",
            "wasserstein_uniformity",
        ),
        _SPECTRUM,
    ),
}  # fmt: skip
PAIRS_DRAWN = "drawing pairs: jackknife over draws"
ROWS_DRAWN = "drawing rows: standard error of the mean, finite population"


@torch.no_grad()
def estimate(
    quantity: str,
    *arguments: Any,
    num_draws: int = 64,
    num_rows: int | None = None,
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Measurement:
    r"""Estimate a quantity of all pairs from some of them, with an interval for the value over all.

    ``estimate("uniformity", z, t=2.0)`` stands for ``uniformity(z, t=2.0)`` where N^2 is too much. The rows
    are taken as given: the interval holds the error of drawing pairs, not that of drawing rows from a law.

    * Means over pairs (uniformity, normalized, cross-, conditional and dense uniformity, hyperspherical
      energy): every draw takes ``num_rows`` rows and looks at all pairs among them. The value is the function
      of the sum over all draws, its error a jackknife over draws, with Student's quantile.
    * Means over rows that need all others (conditional alignment, neighbor purity, InfoNCE and NT-Xent):
      num_draws * num_rows different rows meet all others. The error is that of their mean, times
      sqrt(1 - n / N); purity has Wilson's interval.

    Where all pairs are no more than the estimate would look at, the value is that of all pairs, the interval
    has no width and ``settings["estimated"]`` is False.

    Args:
        quantity: "uniformity", "normalized_uniformity", "cross_uniformity", "conditional_uniformity",
            "dense_uniformity", "hyperspherical_energy", "conditional_alignment", "neighbor_purity" (one
            ``k``), "info_nce_loss" or "nt_xent_loss" (with ``temperature``, and ``term="uniformity"`` for
            that part of the loss; NaN is refused, gradients and processes are not looked at).
        arguments: what the exact function takes by position: arrays or tensors, and their labels or
            meta-data (to which a kernel is fitted as a whole).
        num_draws: number of draws, >= 8.
        num_rows: rows of a draw, >= 2; None: 1024 where rows meet each other, 64 where they meet all others.
        generator: of the draws, on the CPU; None: one with seed 0. It decides which rows are drawn, and
            nothing else does.
        settings: as of the exact function.

    Returns:
        A Measurement: ``.value``, ``.interval`` (95 %), ``.num`` rows, ``.settings`` with "estimated",
        "standard_error", "num_pairs" (ordered pairs looked at), and the settings of the quantity.

    Raises:
        InputError: a quantity that is not known, or that an estimate is not for (with the reason); settings
            it does not have. Else as the exact function.
        UndefinedError: fewer than two draws have a pair that counts.

    Cost: num_draws * num_rows^2 / 2 pairs, or num_draws * num_rows * N: with the defaults 3e7 pairs whatever
    N, or 4096 N. O(N D) memory for the rows on the sphere, and what the exact function takes for a draw.

    Source: ratios and jackknife as in Cochran 1977, chapters 2 and 6; Wilson 1927. Random subsets in place of
    all pairs are incomplete U-statistics (Blom 1976). docs/estimates.md has the coverage that was counted.

    Example:
        >>> z = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
        >>> found = estimate("uniformity", z, num_rows=64)
        >>> low, high = found.interval
        >>> bool(low < metrics.uniformity(z) < high)
        True
    """
    answer_of, exact, better, label = _known(quantity)
    sampling = _sampling(num_draws, num_rows, generator)
    _check_arguments(quantity, answer_of, arguments, settings)
    answer = answer_of(sampling, *arguments, **settings)
    found, kept = (
        answer.found,
        {key: settings.get(key, True) for key in ("normalize",) if "loss" not in quantity},
    )
    if found is None:
        assert exact is not None
        value = float(exact(*arguments, **settings))
        every = answer.num * (answer.num - 1) if answer.num_pairs is None else answer.num_pairs
        interval, error, num_pairs, estimated = (value, value), 0.0, every, False
    else:
        value, error, num_pairs = found.value, found.standard_error, found.num_pairs
        low, high = answer.bounds
        interval = max(found.interval[0], min(low, value)), min(found.interval[1], max(high, value))
        estimated = answer.rows_of_draw < answer.num
    by_rows = answer_of.__module__ == _row_means.__name__
    drawn = {
        "num_draws": num_draws,
        "num_rows": sampling.num_rows or (ANCHORS if by_rows else ROWS),
        "interval": ROWS_DRAWN if by_rows else PAIRS_DRAWN,
    }
    return Measurement(
        name=quantity,
        value=value,
        interval=interval,
        baseline=answer.baseline or {},
        num=answer.num,
        settings={
            **(answer.settings or {}),
            **kept,
            "estimated": estimated,
            "standard_error": error,
            "num_pairs": num_pairs,
            **(drawn if estimated else {"interval": "none needed: all pairs"}),
        },
        better=better,
        label=label,
    )


def _known(quantity: Any) -> _Known:
    if isinstance(quantity, str) and quantity in KNOWN:
        return KNOWN[quantity]
    if isinstance(quantity, str) and quantity in REFUSED:
        _checks.refuse(
            InputError, NAME, "quantity", "allow an estimate", REFUSED[quantity], repr(quantity),
            f"Call {quantity} on all rows",
        )  # fmt: skip
    _checks.one_of(NAME, "quantity", quantity, tuple(KNOWN))
    raise AssertionError


def _sampling(num_draws: Any, num_rows: Any, generator: Any) -> Sampling:
    _checks.whole(NAME, "num_draws", num_draws, at_least=_FEWEST_DRAWS)
    if num_rows is not None:
        _checks.whole(NAME, "num_rows", num_rows, at_least=2)
    if generator is not None and not (
        isinstance(generator, torch.Generator) and generator.device.type == "cpu"
    ):
        _checks.refuse(
            InputError, NAME, "generator", "be a torch.Generator on the CPU",
            "the same rows are drawn wherever the features lie", repr(generator)[:60],
            "Pass torch.Generator().manual_seed(0)",
        )  # fmt: skip
    return Sampling(num_draws, num_rows, generator or torch.Generator().manual_seed(0))


def _check_arguments(
    quantity: str, answer_of: Callable[..., Answer], arguments: tuple[Any, ...], settings: dict[str, Any]
) -> None:
    """Refuse what the quantity does not take, before anything is computed."""
    parameters = [*inspect.signature(answer_of).parameters.values()][1:]
    by_position = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    allowed = {each.name for each in parameters}
    for name in settings:
        if name not in allowed:
            _checks.refuse(
                InputError, NAME, name, f"be a setting of {quantity}", "a setting without effect misleads",
                f"{name}={settings[name]!r}"[:60],
                f"Its settings are {', '.join(each.name for each in parameters if each not in by_position)}",
            )  # fmt: skip
    needed = [each.name for each in by_position if each.default is each.empty and each.name not in settings]
    given = [each.name for each in by_position][: len(arguments)]
    missing = [name for name in needed if name not in given]
    if missing or len(arguments) > len(by_position) or set(given) & set(settings):
        names = ", ".join(each.name for each in by_position)
        _checks.refuse(
            InputError, NAME, "arguments", f"be those of {quantity}: {names}",
            "they are handed to it by position", f"{len(arguments)} of them",
            f"Pass estimate({quantity!r}, {names}, ...)",
        )  # fmt: skip
