"""Hyperspherical energy: closed forms, the uniform law, near pairs, the tiles against written-out sums."""

import math

import numpy as np
import pytest
import torch

import oracles
from spherometer import metrics, pairs, sphere
from spherometer.errors import InputError, UndefinedError

F64 = torch.float64
POWERS = pytest.mark.parametrize("power", [0, 0.5, 1.0, 2.0, 3.0, 12.0])


def points(num, dim, seed=0):
    return sphere.sample_uniform(num, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)


def term(squared, power):
    """d^-power, or log(1 / d), of a squared distance."""
    return squared ** (-power / 2) if power else -math.log(squared) / 2


def written_out(x, y, power, floor=0.0, skip=0):
    """Sum over the pairs with j - i not ``skip``, by differences in the dtype given."""
    squared = (x[:, None] - y[None]).square().sum(-1)
    if skip is not None:
        own = torch.arange(len(y)) - torch.arange(len(x))[:, None] == skip
        squared = squared[~own]
    squared = squared.clamp(min=floor)
    return (squared.pow(-power / 2) if power else squared.log() * -0.5).sum()


# --- closed forms -------------------------------------------------------------------------------------


@POWERS
def test_simplex_cross_polytope_polygon_and_orthonormal_rows(power):
    energy = lambda z: float(metrics.hyperspherical_energy(z, power=power))
    for num in (2, 3, 8, 40):
        assert energy(sphere.simplex(num, num - 1)) == pytest.approx(
            term(2 * num / (num - 1), power), rel=1e-13
        )
    for dim in (2, 3, 64):
        polytope = (term(4.0, power) + (2 * dim - 2) * term(2.0, power)) / (2 * dim - 1)
        assert energy(sphere.cross_polytope(dim)) == pytest.approx(polytope, rel=1e-13)
        assert energy(torch.eye(dim, dtype=F64)) == pytest.approx(term(2.0, power), rel=1e-14)
    for num in (5, 100):
        chords = [4 * math.sin(math.pi * k / num) ** 2 for k in range(1, num)]
        polygon = math.fsum(term(chord, power) for chord in chords) / (num - 1)
        assert energy(sphere.polygon(num)) == pytest.approx(polygon, rel=1e-11)


def test_the_logarithm_of_a_polygon_is_that_of_its_number_of_corners():
    # the product of all chords from one corner is N
    value = metrics.hyperspherical_energy(sphere.polygon(12), power=0)
    assert float(value) == pytest.approx(-math.log(12) / 11, rel=1e-13)


def test_the_thomson_problem():
    # printed minima for 4, 6 and 12 electrons on the sphere
    phi = (1 + math.sqrt(5)) / 2
    corners = [(0, a, b * phi) for a in (1, -1) for b in (1, -1)]
    icosahedron = np.array([row[k:] + row[:k] for row in corners for k in range(3)], dtype=float)
    for rows, least in (
        (sphere.simplex(4, 3).numpy(), 3.674234614),
        (sphere.cross_polytope(3).numpy(), 9.985281374),
        (icosahedron, 49.165253058),
    ):
        num = len(rows)
        assert metrics.hyperspherical_energy(rows) * num * (num - 1) / 2 == pytest.approx(least, rel=1e-10)


@pytest.mark.parametrize(
    ("dim", "power"),
    [
        (2, 0),
        (2, 0.5),
        (3, 0),
        (3, 1.0),
        (3, 1.5),
        (4, 1.0),
        (8, 3.0),
        (8, 0),
        (128, 1.0),
        (128, 7.5),
        (2048, 2.0),
    ],
)
def test_the_uniform_law_against_its_integral(dim, power):
    assert sphere.expected_energy(dim, power) == pytest.approx(
        oracles.uniform_energy(dim, power), rel=1e-11, abs=1e-14
    )


def test_the_uniform_law_in_known_cases():
    assert sphere.expected_energy(3, 1) == pytest.approx(1.0, rel=1e-14)
    assert sphere.expected_energy(2, 0) == pytest.approx(0.0, abs=1e-15)
    assert sphere.expected_energy(3, 0) == pytest.approx(0.5 - math.log(2), rel=1e-14)
    for dim in (4, 7, 128):  # E 1 / d^2 = (D - 2) / (2 (D - 3))
        assert sphere.expected_energy(dim, 2) == pytest.approx((dim - 2) / (2 * (dim - 3)), rel=1e-11)
    for dim, power in ((1, 0), (1, 1.0), (2, 1.0), (3, 2), (3, 7.5)):
        assert sphere.expected_energy(dim, power) == math.inf
    assert sphere.expected_energy(10**6, 3.0) == pytest.approx(2**-1.5, rel=1e-5)
    # the alignment of unrelated points is the energy of a negative power
    small = 1e-3
    both = (sphere.expected_energy(5, small) + oracles.unrelated_alignment(5, small)) / 2
    assert both == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("dim", "power", "width"), [(3, 0, 0.01), (8, 1.0, 0.004), (128, 2.0, 0.001)])
def test_uniform_samples_have_the_energy_of_the_uniform_law(dim, power, width):
    value = float(metrics.hyperspherical_energy(points(1500, dim), power=power))
    assert abs(value - sphere.expected_energy(dim, power)) < width


@pytest.mark.parametrize(
    ("dim", "power"), [(0, 1.0), (3, -1.0), (3, math.nan), (3, "1"), (2.0, 1.0)], ids=str
)
def test_the_uniform_law_refuses_other_numbers(dim, power):
    with pytest.raises(InputError):
        sphere.expected_energy(dim, power)


# --- near pairs ---------------------------------------------------------------------------------------


@POWERS
@pytest.mark.parametrize("gap", [1e-1, 1e-4, 1e-12])
@pytest.mark.parametrize("dim", [2, 40])
def test_near_pairs_are_accurate(power, gap, dim):
    """A pair ``gap`` apart among others: the distance of the Gram form would be noise below 1e-8."""
    z = points(12, dim)
    z[7, 0] = z[3, 0] + gap
    z[7, 1:] = z[3, 1:]
    if gap**-power > 1e200:
        return
    expected = oracles.hyperspherical_energy(z.numpy(), power)
    found = float(metrics.hyperspherical_energy(z, power=power))
    # what is left is the rounding of the unit rows, 1e-16 of a distance of ``gap``
    assert found == pytest.approx(expected, rel=1e-12 + 1e-15 / gap * max(power, 1), abs=1e-13)


@pytest.mark.parametrize("power", [0, 3.0])
@pytest.mark.parametrize("spread", [1e-2, 1e-5])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_collapsing_and_clustered_sets(power, spread, dtype):
    generator = torch.Generator().manual_seed(1)
    for centres in (points(1, 16), points(5, 16)):
        noise = torch.randn(60, 16, generator=generator, dtype=F64)
        x = (centres[torch.arange(60) % len(centres)] + spread * noise).to(dtype).requires_grad_()
        exact = x.detach().double().requires_grad_()
        found = pairs.riesz_energy(x, power, tile=(32, 40))
        expected = written_out(exact, exact, power) / (60 * 59)
        assert float(found.detach()) == pytest.approx(
            float(expected.detach()), rel=2e-6 if dtype == torch.float32 else 1e-11, abs=1e-11
        )
        (grad,), (wanted,) = torch.autograd.grad(found, x), torch.autograd.grad(expected, exact)
        bound = 2e-6 if dtype == torch.float32 else 1e-10
        assert (grad.double() - wanted).norm() <= bound * wanted.norm()


def test_float32_rows_are_taken_as_they_are():
    """The metric of float32 rows is that of the same numbers in float64: 1e-6 apart means 1e-6 apart."""
    x = points(30, 3).float()
    x[4] = x[9] + torch.tensor([1e-6, 0, 0])
    wide = metrics.hyperspherical_energy(x.double(), power=2.0)
    assert metrics.hyperspherical_energy(x, power=2.0) == wide.float()


# --- tiles against written-out sums ----------------------------------------------------------------------

TILES = pytest.mark.parametrize("tile", [None, (7, 16), (64, 13)])
SOME = pytest.mark.parametrize("power", [0, 1.0, 3.0])


@SOME
@TILES
@pytest.mark.parametrize(("num", "dim"), [(2, 3), (41, 2)])
def test_energy_and_gradient_are_the_definition(power, tile, num, dim):
    x = (1.3 * points(num, dim)).requires_grad_()
    found = pairs.riesz_energy(x, power, tile=tile)
    expected = written_out(x, x, power) / (num * (num - 1))
    assert found.dtype == F64
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    (grad,), (wanted,) = torch.autograd.grad(found, x), torch.autograd.grad(expected, x)
    assert (grad - wanted).norm() <= 1e-11 * wanted.norm()


@SOME
@TILES
@pytest.mark.parametrize("floor", [0.0, 0.3])
@pytest.mark.parametrize("skip", [None, 0, 11])
def test_sums_of_some_rows_against_all(power, tile, floor, skip):
    every = points(40, 3).requires_grad_()
    some = every.detach()[11:30].clone() if skip else points(19, 3, seed=1)
    some.requires_grad_()
    if skip is None and floor == 0:
        some = (some.detach() + 0.01).requires_grad_()
    found = pairs.riesz_sum(some, every, power, floor=floor, skip=skip, tile=tile)
    expected = written_out(some, every, power, floor, skip)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    grads, wanted = torch.autograd.grad(found, (some, every)), torch.autograd.grad(expected, (some, every))
    for grad, exact in zip(grads, wanted, strict=True):
        assert (grad - exact).norm() <= 1e-10 * exact.norm()


def test_default_tiles_cross_their_borders():
    for num in (257, 520):
        x = points(num, 5).requires_grad_()
        found, expected = pairs.riesz_energy(x, 1.0), written_out(x, x, 1.0) / (num * (num - 1))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        (grad,), (wanted,) = torch.autograd.grad(found, x), torch.autograd.grad(expected, x)
        torch.testing.assert_close(grad, wanted, rtol=1e-9, atol=1e-13)
        rough = x.detach().float().requires_grad_()
        found = pairs.riesz_energy(rough, 1.0)
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-7)
        (grad,) = torch.autograd.grad(found, rough)
        assert (grad.double() - wanted).norm() <= 1e-6 * wanted.norm()


def test_no_rows_add_nothing_and_stay_in_the_graph():
    every = points(5, 3).requires_grad_()
    value = pairs.riesz_sum(every[5:], every, 1.0, skip=5)
    assert value == 0
    (grad,) = torch.autograd.grad(value, every)
    assert (grad == 0).all()


def test_no_matrix_of_all_pairs_is_made():
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            largest.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    x = points(900, 8).float().requires_grad_()
    with Watch():
        pairs.riesz_energy(x, 1.0).backward()
    assert max(largest) <= 256 * 512


def test_too_few_rows():
    with pytest.raises(UndefinedError) as caught:
        pairs.riesz_energy(torch.ones(1, 3))
    assert str(caught.value) == (
        "riesz_energy: x must have at least 2 rows, because a mean over pairs needs a pair. Got 1 row. "
        "Pass the whole set at once."
    )


# --- relations and refusals of the metric ------------------------------------------------------------------


def test_powers_of_the_distance_are_ordered_by_jensen():
    z = points(50, 6)
    means = [float(metrics.hyperspherical_energy(z, power=p)) ** (1 / p) for p in (0.5, 1.0, 2.0, 4.0)]
    assert means == sorted(means)
    assert math.exp(float(metrics.hyperspherical_energy(z, power=0))) < means[0]


def test_a_small_power_tends_to_the_logarithm():
    z = points(50, 6)
    slope = (float(metrics.hyperspherical_energy(z, power=1e-6)) - 1) / 1e-6
    assert slope == pytest.approx(float(metrics.hyperspherical_energy(z, power=0)), rel=1e-5)


@pytest.mark.parametrize("power", [0, 1.0, 2.5])
def test_derivatives_of_the_metric(power):
    z = points(5, 3).requires_grad_()
    energy = lambda z: metrics.hyperspherical_energy(z, power=power)
    assert torch.autograd.gradcheck(energy, (z,), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(energy, (z,), eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1, "-1"), (math.nan, "nan"), (math.inf, "inf"), ("1", "'1'"), (None, "None"), (True, "True")],
)
def test_other_powers_are_refused(value, shown):
    with pytest.raises(InputError) as caught:
        metrics.hyperspherical_energy(np.eye(3), power=value)
    assert str(caught.value) == (
        "hyperspherical_energy: power must be a finite number of at least 0, because rows repel each other "
        f"by distance^-power, or by log(1 / distance) for 0. Got {shown}. Pass for instance power=1.0."
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [0, 1.0, 5.0])
def test_rows_in_the_same_place_are_named(dtype, power):
    z = points(300, 5).numpy().astype(dtype)
    z[211] = 3 * z[17] if dtype == np.float64 else 4 * z[17]  # 3 z may differ by a rounding
    with pytest.raises(UndefinedError) as caught:
        metrics.hyperspherical_energy(z, power=power)
    assert str(caught.value) == (
        "hyperspherical_energy: z must have rows with different directions, because two rows in the same "
        "place repel each other infinitely. Got rows 17 and 211 in the same place. Remove duplicates, or use "
        "uniformity, which bears them."
    )


def test_a_value_beyond_float64_is_refused():
    angle = np.array([0.0, 0.1, 2.0])
    z = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    with pytest.raises(UndefinedError) as caught:
        metrics.hyperspherical_energy(z, power=400)
    assert str(caught.value) == (
        "hyperspherical_energy: power must leave distance^-power within float64, because the mean would be "
        "infinite. Got power 400 and a distance of 0.1 between rows 0 and 1. Pass a smaller power."
    )
    assert metrics.hyperspherical_energy(z, power=200) > 1e190
