"""Estimates from some of the pairs: against all pairs, their intervals against counts, their words."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import spherometer as sm
from spherometer import metrics
from spherometer._estimates import _estimate
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError

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


SMALL = {"num_draws": 16, "num_rows": 8}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_precisions_draw_the_same_rows(dtype):
    z = rows()
    wide = sm.estimate("uniformity", z.to(dtype).double(), **SMALL)
    found = sm.estimate("uniformity", z.to(dtype), **SMALL)
    assert found.value == pytest.approx(wide.value, abs=1e-5)
    assert found.interval == pytest.approx(wide.interval, abs=1e-5)


def test_arrays_are_estimated_as_tensors_are():
    z, y = rows(), rows(seed=1)
    assert sm.estimate("uniformity", z.numpy(), **SMALL) == sm.estimate("uniformity", z, **SMALL)
    loss = sm.estimate("nt_xent_loss", z.numpy(), y.numpy(), **SMALL)
    assert loss == sm.estimate("nt_xent_loss", torch.stack([z, y], dim=1), **SMALL)


def test_rows_that_are_not_finite_are_dropped_before_any_is_drawn():
    z = rows()
    bad = torch.cat([z[:7], torch.full((1, 5), torch.nan, dtype=z.dtype), z[7:]])
    assert sm.estimate("uniformity", bad, nan="drop", **SMALL).value == (
        sm.estimate("uniformity", z, **SMALL).value
    )


@pytest.mark.parametrize("name", ["info_nce_loss", "nt_xent_loss"])
def test_three_views_are_contrasted_as_the_loss_does(name):
    z = torch.stack([rows(seed=seed) for seed in range(3)], dim=1)
    exact = float(getattr(sm.losses, name)(z, temperature=0.2))
    assert sm.estimate(name, z, temperature=0.2).value == pytest.approx(exact, rel=1e-12)
    found = sm.estimate(name, z, temperature=0.2, num_draws=10, num_rows=20)
    assert abs(found.value - exact) < 5 * found.settings["standard_error"]


def test_a_share_of_one_is_inside_its_interval():
    z = torch.cat([1 + 0.01 * rows(1000), -1 - 0.01 * rows(1000, seed=1)])
    found = sm.estimate("neighbor_purity", z, torch.arange(2000) // 1000, **SMALL)
    assert found.value == found.interval[1] == 1
    assert 0.9 < found.interval[0] < 1


def test_pairs_are_counted():
    z, y = rows(20), rows(30, seed=1)
    maps = rows(4 * 6, 5).view(4, 2, 3, 5).permute(0, 3, 1, 2)
    assert sm.estimate("uniformity", z).settings["num_pairs"] == 20 * 19
    assert sm.estimate("cross_uniformity", z, y).settings["num_pairs"] == 20 * 30
    within = sm.estimate("dense_uniformity", maps, pairs="within_image")
    assert within.settings["num_pairs"] == 4 * 6 * 5
    assert sm.estimate("uniformity", rows(), **SMALL).settings["num_pairs"] == 16 * 8 * 7


def test_every_public_metric_is_estimated_or_refused_for_a_reason():
    numbers = set(metrics.__all__) - {"expected_uniformity", "minimum_uniformity"}  # closed forms
    losses = {"info_nce_loss", "nt_xent_loss"}
    assert numbers | losses == set(_estimate.KNOWN) | set(_estimate.REFUSED)
    assert not set(_estimate.KNOWN) & set(_estimate.REFUSED)


@pytest.mark.parametrize("quantity", sorted(_estimate.REFUSED))
def test_what_an_estimate_is_not_for_is_refused_with_the_reason(quantity):
    with pytest.raises(InputError) as caught:
        sm.estimate(quantity, rows())
    assert str(caught.value) == (
        f"estimate: quantity must allow an estimate, because {_estimate.REFUSED[quantity]}. "
        f"Got {quantity!r}. Call {quantity} on all rows."
    )


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            InputError,
            "estimate: temperature must be a setting of uniformity, because a setting without effect "
            "misleads. Got temperature=1. Its settings are t, estimator, normalize, nan.",
            lambda z: sm.estimate("uniformity", z, temperature=1),
        ),
        (
            InputError,
            "estimate: arguments must be those of cross_uniformity: x, y, because they are handed to it by "
            "position. Got 1 of them. Pass estimate('cross_uniformity', x, y, ...).",
            lambda z: sm.estimate("cross_uniformity", z),
        ),
        (
            InputError,
            "estimate: num_draws must be a whole number of at least 8, because it counts something. Got 2. "
            "Pass for instance num_draws=8.",
            lambda z: sm.estimate("uniformity", z, num_draws=2),
        ),
        (
            InputError,
            "estimate: generator must be a torch.Generator on the CPU, because the same rows are drawn "
            "wherever the features lie. Got 3. Pass torch.Generator().manual_seed(0).",
            lambda z: sm.estimate("uniformity", z, generator=3),
        ),
        (
            ShapeError,
            "estimate: z1 must have shape [N, V, D] with V >= 2 when z2 is not given, because a positive "
            "pair is two views of one sample. Got shape (300, 5). Pass z1 and z2 of shape [N, D] each.",
            lambda z: sm.estimate("info_nce_loss", z),
        ),
        (
            UndefinedError,
            "estimate: metadata must leave some pairs that count, because the error is taken from the draws "
            "that have one. Got fewer than two of 16 draws with such a pair. Pass more draws or more rows "
            "of a draw, or call the exact function.",
            lambda z: sm.estimate("conditional_uniformity", z, ["b"] + ["a"] * 299, num_draws=16, num_rows=3),
        ),
        (
            UndefinedError,
            "estimate: k must be smaller than the number of rows, because a row has only N - 1 neighbours. "
            "Got k = 300 for 300 rows. Pass k=299 or less.",
            lambda z: sm.estimate("neighbor_purity", z, [0] * 300, k=300),
        ),
    ],
)
def test_messages(error, message, call):
    with pytest.raises(error) as caught:
        call(rows())
    assert str(caught.value) == message


def test_rows_off_the_sphere_and_duplicates_of_an_energy_are_refused():
    with pytest.raises(NotOnSphereError, match=r"^estimate: z must have rows of length 1"):
        sm.estimate("uniformity", 2 * rows(), normalize=False, **SMALL)
    twice = rows(150).repeat(2, 1)
    with pytest.raises(UndefinedError, match=r"^estimate: z must have rows with different directions"):
        sm.estimate("hyperspherical_energy", twice, num_draws=16, num_rows=60)


def test_a_result_can_be_stored():
    found = sm.estimate("uniformity", rows(), **SMALL)
    stored = sm.Evaluation.from_json(sm.Evaluation({"uniformity": found}).to_json())
    assert stored["uniformity"] == found


def test_gradients_are_not_offered():
    found = sm.estimate(
        "uniformity", rows().requires_grad_(), t=torch.tensor(2.0, requires_grad=True), **SMALL
    )
    assert type(found.value) is float


def test_a_constant_set_has_no_width():
    found = sm.estimate("uniformity", np.ones((300, 4)), **SMALL)
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.interval == pytest.approx((0, 0), abs=1e-12)
