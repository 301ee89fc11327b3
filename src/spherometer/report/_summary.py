"""What an evaluation says, in plain words: a few sentences with their numbers, by stated rules.

The rules are ours: they say where to look first, and decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spherometer.report import _format

RULES = (
    "The words follow rules of ours. Spread: normalized uniformity below 0.1 is even, below 0.4 uneven, "
    "below 0.8 crowded, above that almost one point. Pairs: alignment below a tenth of that of unrelated "
    "pairs is close, below a half loose, above that far when pairs are closer than random ones three times "
    "of four, and apart otherwise. Directions: half of the variance in at least half as many directions as "
    "for the uniform law are many, in fewer than a tenth of them few. One side: the mean of all rows is "
    "longer than 0.5. Classes: neighbor purity at least half way from unrelated labels to 1."
)
_YES, _OPEN, _NO = "yes", "open", "no"
_ROOMY = 8  # dimensions from which being near by chance is rare


def summary(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Claim, evidence, and a word with its colour, for each thing that the evaluation can say."""
    metrics, portrait = evaluation["metrics"], evaluation.get("portrait")
    found = [_spread(metrics), _pairs(metrics, portrait)]
    if portrait is not None:
        found += [_directions(portrait), _one_side(portrait)]
    found.append(_classes(metrics))
    if portrait is not None:
        found.append(_twins(portrait))
    return [one for one in found if one is not None]


def _say(badge: str, word: str, claim: str, evidence: str) -> dict[str, str]:
    return {"badge": badge, "word": word, "claim": claim, "evidence": evidence}


def _with(measurement: Mapping[str, Any], digits: int = 3) -> str:
    cell = _format.cell(measurement, digits)
    return f"{cell['value']} {cell['interval']}".strip()


def _spread(metrics: Mapping[str, Any]) -> dict[str, str] | None:
    scaled, plain = metrics.get("normalized_uniformity"), metrics.get("uniformity")
    if scaled is None or plain is None:
        return None
    law = _format.number(plain["baseline"].get("uniform law"))
    evidence = (
        f"Uniformity is {_with(plain)}; rows spread evenly at random would have {law}, a single point 0. "
        f"On the scale from 0 (even) to 1 (one point) that is {_with(scaled)}."
    )
    value = scaled["value"]
    if value < 0.1:
        return _say(_YES, "even", "The rows spread over the sphere almost as evenly as they could.", evidence)
    if value < 0.4:
        return _say(_OPEN, "uneven", "The rows use much of the sphere, but not evenly.", evidence)
    if value < 0.8:
        return _say(_OPEN, "crowded", "The rows crowd in a part of the sphere.", evidence)
    return _say(_NO, "collapsed", "Almost all rows lie at one point: little can be told apart.", evidence)


def _pairs(metrics: Mapping[str, Any], portrait: Mapping[str, Any] | None) -> dict[str, str] | None:
    one = metrics.get("alignment")
    unrelated = None if one is None else one["baseline"].get("unrelated pairs")
    if one is None or not unrelated:
        return None
    evidence = (
        f"Alignment is {_with(one)}; unrelated rows would have {_format.number(unrelated)}, equal ones 0."
    )
    closer = None if portrait is None else portrait["distances"]["closer"]
    if closer is not None:
        evidence += f" A positive pair is closer than a random pair {_format.percent(closer)} of the time."
    share = one["value"] / unrelated
    if share < 0.1:
        return _say(_YES, "close", "The two sides of a pair lie close together.", evidence)
    if share < 0.5:
        return _say(
            _OPEN, "loose", "The two sides of a pair lie nearer than unrelated rows, not close.", evidence
        )
    if closer is not None and closer >= 0.75:
        claim = "The two sides of a pair lie far apart, but nearer than most other rows."
        return _say(_OPEN, "far", claim, evidence)
    return _say(_NO, "apart", "The two sides of a pair lie about as far apart as unrelated rows.", evidence)


def _directions(portrait: Mapping[str, Any]) -> dict[str, str] | None:
    spectrum = portrait["spectrum"]
    half, law = spectrum["half"], spectrum["uniform_half"]
    if not half:
        return _say(_NO, "none", "All rows are equal: there is no variance.", "Nothing differs between rows.")
    if portrait["dim"] < 4:
        return None
    count, most, law_most = (
        _format.count(spectrum[name]) for name in ("num_directions", "most", "uniform_most")
    )
    where = "1 direction" if half == 1 else f"{_format.count(half)} directions"
    evidence = (
        f"Half of the variance lies in {where} of {count}, nine tenths in {most}; for the uniform law in "
        f"{_format.count(law)} and {law_most}."
    )
    if half >= 0.5 * law:
        return _say(_YES, "many directions", "The variance is shared among many directions.", evidence)
    if half >= 0.1 * law:
        return _say(_OPEN, "concentrated", "Some directions carry most of the variance.", evidence)
    return _say(_NO, "few directions", "Few directions carry most of the variance.", evidence)


def _one_side(portrait: Mapping[str, Any]) -> dict[str, str] | None:
    length = portrait["mean_length"]
    if length <= 0.5:
        return None
    return _say(
        _OPEN, "one side", "All rows share a direction: subtracting their mean may help.",
        f"The mean of all rows has length {_format.number(length, 2)}; 0 when directions cancel, 1 when all "
        "rows are equal. Every two rows are alike by that common part alone.",
    )  # fmt: skip


def _classes(metrics: Mapping[str, Any]) -> dict[str, str] | None:
    one = metrics.get("neighbor_purity")
    chance = None if one is None else one["baseline"].get("unrelated labels")
    if one is None or chance is None or chance >= 1:
        return None
    k = one["settings"].get("k")
    evidence = (
        f"Of the {_format.count(k)} nearest neighbours of a row, a share of {_with(one)} has its class; with "
        f"unrelated labels it would be {_format.number(chance)}."
    )
    way = (one["value"] - chance) / (1 - chance)
    if way >= 0.5:
        return _say(_YES, "together", "Rows of one class are neighbours.", evidence)
    if way >= 0.1:
        return _say(
            _OPEN, "mixed", "Neighbours share a class more often than by chance, not mostly.", evidence
        )
    return _say(_NO, "unrelated", "Neighbours say little or nothing about the class.", evidence)


def _twins(portrait: Mapping[str, Any]) -> dict[str, str] | None:
    near = portrait["neighbors"]
    if near is None or not (near["num_equal"] or (near["num_close"] and portrait["dim"] >= _ROOMY)):
        return None
    equal, close, num = near["num_equal"], near["num_close"], near["num"]
    share = _format.percent(close / num, 2)
    evidence = (
        f"{_format.count(close)} of {_format.count(num)} rows ({share}) have another at a cosine of at least "
        f"{near['close']:g}; {_format.count(equal)} have an equal twin. The nearest are listed below by name."
    )
    claim = "Some rows are equal or nearly so." if equal else "Some rows are nearly equal."
    return _say(_OPEN, "twins", claim, evidence)
