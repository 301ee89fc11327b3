"""The sphere: safe normalisation, closed forms in 18 digits, point sets with known answers."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch

import oracles
from spherometer import sphere
from spherometer.errors import InputError

# --- closed forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "t"), list(oracles.UNIFORM_LAW))
def test_uniform_law_as_printed(dim, t):
    assert abs(sphere.expected_uniformity(dim, t) - oracles.UNIFORM_LAW[dim, t]) < 1e-13


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 8, 16, 17, 64, 128, 284, 286, 768, 2048])
def test_uniform_law_in_50_digits(dim):
    for t in (1e-6, 1e-3, 0.5, 1.0, 2.0, 3.7, 10.0, 99.0, 100.0, 150.0, 1000.0, 1e4):
        wanted = oracles.uniform_law(dim, t)
        error = abs(sphere.expected_uniformity(dim, t) - wanted)
        assert error < 1e-12 * max(1, abs(wanted)), t
        assert error < 1e-12 or t > 100, t


def test_uniform_law_special_forms_and_limits():
    for t in (0.5, 2.0, 7.0):
        assert math.isclose(
            sphere.expected_uniformity(1, t), math.log((1 + math.exp(-4 * t)) / 2), rel_tol=1e-14
        )
        circle = float(mpmath.log(mpmath.besseli(0, 2 * t)) - 2 * t)
        assert math.isclose(sphere.expected_uniformity(2, t), circle, rel_tol=1e-14)
        assert math.isclose(
            sphere.expected_uniformity(3, t), math.log(-math.expm1(-4 * t) / (4 * t)), rel_tol=1e-14
        )
        assert abs(sphere.expected_uniformity(10**7, t) + 2 * t) < 1e-4
        values = [sphere.expected_uniformity(dim, t) for dim in range(1, 200)]
        assert all(a > b for a, b in itertools.pairwise(values))
        assert values[-1] > -2 * t


def test_uniform_law_is_what_sampling_finds():
    generator = torch.Generator().manual_seed(0)
    for dim in (2, 3, 16):
        u, v = (sphere.sample_uniform(200_000, dim, generator=generator).double() for _ in range(2))
        potential = torch.exp(-2 * (u - v).square().sum(1))
        error = 5 * float(potential.std()) / math.sqrt(len(u))
        assert abs(float(potential.mean()) - math.exp(sphere.expected_uniformity(dim))) < error


@pytest.mark.parametrize(("num", "dim"), list(oracles.MINIMUM))
def test_minimum_as_printed(num, dim):
    assert abs(sphere.minimum_uniformity(num, dim) - oracles.MINIMUM[num, dim]) < 1e-13


@pytest.mark.parametrize("t", [0.1, 2.0, 9.0, 1e4])
def test_minimum_is_reached_by_the_known_arrangements(t):
    cases = [(sphere.simplex(n, d), n, d) for n, d in ((2, 1), (3, 2), (4, 3), (5, 9), (20, 19))]
    cases += [(sphere.cross_polytope(d), 2 * d, d) for d in (1, 2, 3, 8)]
    cases += [(sphere.polygon(n), n, 2) for n in (2, 3, 4, 5, 12, 31)]
    cases += [(torch.tensor([[1.0], [1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64), 5, 1)]
    for points, num, dim in cases:
        value = sphere.minimum_uniformity(num, dim, t)
        assert math.isclose(value, oracles.uniformity(points, t), rel_tol=1e-12, abs_tol=1e-12), (num, dim)


def test_minimum_is_below_every_set_and_tends_to_the_uniform_law():
    generator = torch.Generator().manual_seed(1)
    for num, dim in ((7, 3), (12, 3), (20, 4), (30, 2), (9, 1)):
        bound = sphere.minimum_uniformity(num, dim)
        for _ in range(5):
            assert oracles.uniformity(sphere.sample_uniform(num, dim, generator=generator)) >= bound - 1e-6
    for dim in (1, 2, 3, 64):
        assert abs(sphere.minimum_uniformity(10**6, dim) - sphere.expected_uniformity(dim)) < 1e-3
    assert sphere.minimum_uniformity(2, 4) == -8.0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: sphere.expected_uniformity(0),
            "expected_uniformity: dim must be a whole number of at least 1, because it counts something. "
            "Got 0. Pass for instance dim=1.",
        ),
        (
            lambda: sphere.expected_uniformity(2.0),
            "expected_uniformity: dim must be a whole number of at least 1, because it counts something. "
            "Got 2.0. Pass for instance dim=1.",
        ),
        (
            lambda: sphere.expected_uniformity(3, -1),
            "expected_uniformity: t must be a finite number greater than 0, because the formula is defined "
            "only there. Got -1. Pass for instance t=2.",
        ),
        (
            lambda: sphere.minimum_uniformity(1, 3),
            "minimum_uniformity: num must be a whole number of at least 2, because it counts something. "
            "Got 1. Pass for instance num=2.",
        ),
        (
            lambda: sphere.minimum_uniformity(5, 3, float("nan")),
            "minimum_uniformity: t must be a finite number greater than 0, because the formula is defined "
            "only there. Got nan. Pass for instance t=2.",
        ),
        (
            lambda: sphere.simplex(5, 3),
            "simplex: dim must be a whole number of at least 4, because it counts something. "
            "Got 3. Pass for instance dim=4.",
        ),
    ],
)
def test_messages(call, text):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == text


# --- normalize ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_row_of_zeros_stays_zero_with_gradient_zero(dtype):
    x = torch.zeros(3, 4, dtype=dtype)
    x[1] = 1.0
    x.requires_grad_()
    z = sphere.normalize(x)
    z.sum().backward()
    assert torch.equal(z[0], torch.zeros(4, dtype=dtype))
    assert torch.isfinite(x.grad).all()
    assert x.grad[0].abs().max() == 0


@pytest.mark.parametrize("exponent", [-146, -140, -120, -60, -42, 0, 60, 90, 126])
def test_powers_of_two_change_no_bit(exponent):
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).clamp(-1.5, 1.5)
    x = torch.where(x.abs() < 0.25, 0.5, x)
    if exponent < -126:  # few digits are left, so start from numbers that have few
        x = (x * 4).round() / 4
    scaled = x.double().mul(2.0**exponent).float()
    assert torch.equal(sphere.normalize(scaled), sphere.normalize(x))


@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1e-25, 1e-3, 1.0, 1e20, 1e38])
def test_length_is_one_at_every_scale(scale):
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(-3, 3)
    z = sphere.normalize((x * scale).float())
    assert (z.double().norm(dim=1) - 1).abs().max() < 2e-7


def test_normalize_agrees_with_the_loop_and_the_library():
    x = torch.randn(30, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert np.abs(sphere.normalize(x).numpy() - oracles.unit(x)).max() < 4e-16
    assert torch.equal(sphere.normalize(x.float()), torch.nn.functional.normalize(x.float()))


def test_normalize_gradients():
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sphere.normalize, (x,))
    assert torch.autograd.gradgradcheck(sphere.normalize, (x,))
    tiny = torch.full((1, 4), 1e-30, dtype=torch.float64, requires_grad=True)
    sphere.normalize(tiny)[0, 0].backward()
    assert tiny.grad.norm() <= 1e8  # no longer than that of a row of length 1e-8


def test_normalize_handles_no_rows_and_more_axes():
    assert sphere.normalize(torch.empty(0, 3)).shape == (0, 3)
    assert torch.allclose(sphere.normalize(torch.ones(2, 3, 4)).norm(dim=-1), torch.ones(2, 3))


# --- point sets ---------------------------------------------------------------------------------------


def test_point_sets_lie_on_the_sphere_as_promised():
    for points in (sphere.simplex(6, 8), sphere.cross_polytope(5), sphere.polygon(7)):
        assert (points.norm(dim=1) - 1).abs().max() < 1e-15
    gram = sphere.simplex(6, 8) @ sphere.simplex(6, 8).T
    assert (gram - torch.eye(6, dtype=gram.dtype) * 1.2 + 0.2).abs().max() < 1e-15


def test_sampling_repeats_itself_and_touches_no_global_generator():
    before = torch.get_rng_state()
    first = sphere.sample_uniform(10, 4, generator=torch.Generator().manual_seed(7))
    again = sphere.sample_uniform(10, 4, generator=torch.Generator().manual_seed(7))
    mean = torch.tensor([0.0, 0.0, 1.0])
    vmf = [sphere.sample_vmf(50, mean, 20.0, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(first, again)
    assert torch.equal(*vmf)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("concentration", [0.5, 10.0, 200.0])
def test_von_mises_fisher_has_the_right_mean_length(concentration):
    mean = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    points = sphere.sample_vmf(20_000, mean, concentration, generator=torch.Generator().manual_seed(0))
    wanted = 1 / math.tanh(concentration) - 1 / concentration  # three dimensions
    assert (points.norm(dim=1) - 1).abs().max() < 1e-12
    assert abs(float(points[:, 0].mean()) - wanted) < 5 * float(points[:, 0].std()) / math.sqrt(len(points))
