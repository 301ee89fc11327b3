"""Estimates from some of the pairs: against all pairs, their intervals against counts, their words."""

import sys
from pathlib import Path

import pytest
import torch

import spherometer as sm

sys.path.insert(0, str(Path(__file__).parent.parent / "reproductions"))
import coverage_of_estimates as reproduction

CASES = {(case.name, kind): case for kind in reproduction.KINDS for case in reproduction.cases(kind)}
NAMES = [case.name for case in reproduction.cases("uniform")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(num=300, dim=5, seed=0, dtype=torch.float64):
    return torch.randn(num, dim, generator=seeded(seed), dtype=dtype)


@pytest.mark.parametrize("kind", reproduction.KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_an_estimate_is_near_the_value_over_all_pairs(name, kind):
    case = CASES[name, kind]
    truth, found = case.truth(), case.trial(3)
    assert found.settings["estimated"]
    assert abs(found.value - truth) <= 5 * found.settings["standard_error"]
    low, high = found.interval
    assert low < found.value < high
    assert found.num == reproduction.NUM


@pytest.mark.parametrize("name", NAMES)
def test_all_pairs_are_taken_where_they_cost_no_more(name):
    case = CASES[name, "mixture"]
    found = sm.estimate(case.quantity, *case.arguments, **case.settings)  # 64 draws
    assert abs(found.value - case.truth()) <= 1e-12 * max(1.0, abs(found.value))
    assert found.interval == (found.value, found.value)
    assert found.settings["estimated"] is False
    assert found.settings["standard_error"] == 0
    assert "num_draws" not in found.settings


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_which_rows_are_drawn_and_nothing_else_does(name):
    case = CASES[name, "one cluster"]
    state = torch.get_rng_state()
    assert case.trial(5) == case.trial(5)
    assert case.trial(5).value != case.trial(6).value
    assert torch.equal(torch.get_rng_state(), state)
