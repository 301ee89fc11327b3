"""What a study of meta-data says about itself: its scores, arms, claims and words, all but the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Score:
    """One number by which encoders are judged; higher is better.

    Args:
        name: its key in results.
        label: in words, for tables and figures.
        kind: "accuracy" is shown in percent, "r2" as a number.
    """

    name: str
    label: str
    kind: Literal["accuracy", "r2"]


@dataclass(frozen=True)
class Claim:
    """That one arm beats another in a score, over seeds.

    Of several arms the one counts whose score on the validation part is highest, on average over seeds.

    Args:
        text: the claim, a whole sentence.
        first, second: arms.
        score: name of the score.
        margin: how far ``first`` may lie below and still count as as good.
        lower: the claim is that ``first`` is lower (by more than ``margin``).
    """

    text: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    score: str
    margin: float = 0.0
    lower: bool = False


@dataclass(frozen=True)
class Unreached:
    """That the arm ``first`` is out of reach of ``second`` in several scores at once, at any bandwidth.

    That is: at every bandwidth ``second`` is lower in one of the ``scores`` at least.
    """

    text: str
    first: str
    second: str
    scores: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """Everything but the numbers.

    Args:
        study: what follows ``spherometer study`` on the command line.
        title: of the page, a question.
        lead: paragraphs in plain words.
        bandwidth: what the bandwidth is, with its unit, for axes and tables.
        names: arm -> name, in reading order.
        conditioned: arms that have a bandwidth.
        scores: in reading order.
        chosen_by: the score by whose value on the validation part the bandwidth is chosen, in every seed.
        claims: checked by rule.
        data: "name" and "source", and more, as plain values.
        protocol: settings as plain values.
        measures: metric -> its name in words.
        caveats: whole sentences.
        trade: two scores that are drawn against each other, if that is what the study is about.
    """

    study: str
    title: str
    lead: tuple[str, ...]
    bandwidth: str
    names: Mapping[str, str]
    conditioned: tuple[str, ...]
    scores: tuple[Score, ...]
    chosen_by: str
    claims: tuple[Claim | Unreached, ...]
    data: Mapping[str, Any]
    protocol: Mapping[str, Any]
    measures: Mapping[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    trade: tuple[str, str] | None = None
