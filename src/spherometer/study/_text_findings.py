"""Claims about texts and their verdicts, by the same kind of rules as those about images."""

from __future__ import annotations

from typing import Any

from spherometer.study._findings import (
    Array,
    Speech,
    about_both_terms,
    about_combination,
    about_no_training,
    about_relation,
    about_selection,
    compare_rows,
    judge,
    make_finding,
    spoken_pair,
)

SPEECH = Speech(
    noun="texts",
    probe="a linear probe on the output",
    rivals=("Untrained encoder", "Words counted (TF-IDF)"),
    no_training="an untrained encoder",
)
_PROBE_OF_WORDS = "a linear probe on the output, or on the word counts"
Best = dict[str, dict[str, Any]]


def text_findings(document: dict[str, Any], right: dict[str, Array | None]) -> list[dict[str, str]]:
    """All findings of a text document; ``right``: which test texts were right, by key."""
    best = {row["role"]: row for row in document["best"]}
    untrained = {role: row for role, row in best.items() if role != "Words counted (TF-IDF)"}
    found = [
        _contrastive(best, right),
        *about_relation(document),
        about_combination(best, right, 1, SPEECH),
        about_no_training(untrained, right, 1, SPEECH),
        _word_counts(best, right),
        about_both_terms(document, right, 1, SPEECH),
        _paper_setting(document, best, right),
        *about_selection(document),
        _pretrained(document, best, right),
    ]
    return [finding for finding in found if finding is not None]


def _trained(best: Best) -> list[dict[str, Any]]:
    roles = ("Best contrastive", "Best direct align + uniform", "Best combination")
    return [best[role] for role in roles if role in best]


def _contrastive(best: Best, right: dict[str, Array | None]) -> dict[str, str] | None:
    first, second = best.get("Best contrastive"), best.get("Best direct align + uniform")
    if first is None or second is None:
        return None
    pair = compare_rows(first, second, right, 1)
    if pair is None:
        return None
    low, high = pair[1:]
    words = ""
    if high < 0:
        words = " Here the direct one is better."
    elif low <= 0:
        words = " The two cannot be told apart."
    among = f"{first['num_candidates']} and {second['num_candidates']}"
    return make_finding(
        "Contrastive training is better than optimising alignment and uniformity directly, as the paper "
        "found on text.",
        judge(low, high),
        spoken_pair(first, second, pair, SPEECH)
        + words
        + f" Chosen on validation texts among {among} encoders; the paper had 108 GRUs on BookCorpus.",
    )


def _word_counts(best: Best, right: dict[str, Array | None]) -> dict[str, str] | None:
    second = best.get("Words counted (TF-IDF)")
    trained = _trained(best)
    if second is None or not trained:
        return None
    first = max(trained, key=lambda row: float(row["validation"]))
    pair = compare_rows(first, second, right, 1)
    if pair is None:
        return None
    claim = "The best of these encoders is better than counting words (TF-IDF), which needs no training."
    speech = Speech(SPEECH.noun, _PROBE_OF_WORDS)
    return make_finding(claim, judge(*pair[1:]), spoken_pair(first, second, pair, speech))


def _row(trial: dict[str, Any], headline: str) -> dict[str, Any]:
    return {**trial, "test": trial["accuracy"][headline]["test"]}


def _paper_setting(
    document: dict[str, Any], best: Best, right: dict[str, Array | None]
) -> dict[str, str] | None:
    """The paper's best direct setting for text, against its counterpart with equal weights."""
    headline = document["headline"]
    trials = [
        trial for trial in document["trials"] if trial["family"] == "align_uniform" and trial["accuracy"]
    ]
    wanted = {"align_weight": 0.9, "uniform_weight": 0.1, "t": 5.0, "encoder": "bag"}
    rows = [each for each in trials if wanted.items() <= each["config"].items()]
    second = best.get("Untrained encoder")
    if not rows or second is None:
        return None
    first = _row(rows[0], headline)
    pair = compare_rows(first, second, right, 1)
    if pair is None:
        return None
    metrics = first["metrics"]
    where = (
        f" Alignment {metrics['alignment']['value']:.3f}, uniformity {metrics['uniformity']['value']:.3f}: "
        + ("it collapsed to a point." if first["collapsed"] else "it did not collapse.")
    )
    claim = "The paper's weights for text, 0.9 align + 0.1 uniform (t 5), train a bag that beats no training."
    return make_finding(claim, judge(*pair[1:]), spoken_pair(first, second, pair, SPEECH) + where)


def _pretrained(
    document: dict[str, Any], best: Best, right: dict[str, Array | None]
) -> dict[str, str] | None:
    """The measured point: is the encoder that is better also farther to the lower left of the plane?

    Uniformity is taken relative to the dimension, because the dimensions differ.
    """
    first, trained = best.get("Pretrained all-MiniLM-L6-v2"), _trained(best)
    if first is None or not trained:
        return None
    second = max(trained, key=lambda row: float(row["validation"]))
    pair = compare_rows(first, second, right, 1)
    if pair is None:
        return None
    places = {
        trial["key"]: (
            trial["metrics"]["alignment"]["value"],
            trial["metrics"]["normalized_uniformity"]["value"],
        )
        for trial in document["trials"]
        if trial["metrics"] and not trial["collapsed"] and trial["family"] != "untrained"
    }
    own = places.pop(first["key"], None)
    if own is None or not places:
        return None
    above = sum(other[0] > own[0] and other[1] > own[1] for other in places.values())
    below = sum(other[0] < own[0] and other[1] < own[1] for other in places.values())
    more_aligned = sum(other[0] > own[0] for other in places.values())
    more_uniform = sum(other[1] > own[1] for other in places.values())
    verdict = judge(*pair[1:])
    if verdict == "shown" and not (below == 0 and above > 0):
        verdict = "not shown" if below else "unclear"
    num = len(places)
    return make_finding(
        "A large pretrained encoder (MiniLM), better than all of these, lies farther to the lower left than "
        "they do: lower in both numbers than some, and none is lower in both than it.",
        verdict,
        f"Alignment {own[0]:.3f}, lower than {more_aligned} of {num} trained encoders that did not collapse; "
        f"normalized uniformity {own[1]:.3f}, lower than {more_uniform}; lower in both than {above}; {below} "
        f"lower in both than it. {spoken_pair(first, second, pair, SPEECH)}",
    )
