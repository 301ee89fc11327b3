"""The intervals of ``estimate`` hold the value over all pairs about as often as they say: 95 % of the time.

A trial draws pairs of fixed rows with a fresh seed. Of 400 trials at 95 %, 92 % is 2.8 standard errors away.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "reproductions"))
import coverage_of_estimates as reproduction

FOLDER = Path(__file__).parent.parent
LEAST, MOST = 0.92, 0.98
NAMES = [case.name for case in reproduction.cases("uniform")]
RESULTS = json.loads((FOLDER / "reproductions" / "coverage_of_estimates.json").read_text())


def case_of(name, kind):
    return next(case for case in reproduction.cases(kind) if case.name == name)


@pytest.mark.parametrize("name", NAMES)
def test_coverage_over_four_kinds_of_rows(name):
    counts = [reproduction.count(case_of(name, kind), 100, seed=77_000) for kind in reproduction.KINDS]
    found = sum(counts[1:], counts[0])
    assert found.trials == 400
    assert LEAST <= found.rate <= MOST


@pytest.mark.nightly
@pytest.mark.parametrize("kind", reproduction.KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_coverage_of_each_kind_of_rows(name, kind):
    assert LEAST <= reproduction.count(case_of(name, kind), 1000, seed=990_000).rate <= MOST


def test_an_interval_that_is_too_short_would_be_seen(monkeypatch):
    """The count itself: intervals of half their length hold the value two times out of three."""
    case = case_of("uniformity", "mixture")
    trial = reproduction.Case.trial

    class Shorter:
        def __init__(self, found):
            low, high = found.interval
            self.interval = (0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high)

    monkeypatch.setattr(reproduction.Case, "trial", lambda self, seed: Shorter(trial(self, seed)))
    assert reproduction.count(case, 200, seed=5).rate < 0.8


@pytest.mark.parametrize("name", NAMES)
def test_the_counts_that_the_page_shows_are_the_ones_that_were_made(name):
    kinds = RESULTS["coverage"][name]
    assert set(kinds) == {*reproduction.KINDS, "any of four"}
    shown = [kinds[kind]["coverage"] for kind in (*reproduction.KINDS, "any of four")]
    assert all(LEAST <= rate <= MOST for rate in shown)
    line = f"| {name} | " + " | ".join(f"{100 * rate:.1f}" for rate in shown) + " |"
    assert line in (FOLDER / "docs" / "estimates.md").read_text().splitlines()
