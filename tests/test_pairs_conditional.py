"""Sums weighted by the similarity of meta-data, against full matrices written here from the formulas."""

import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spherometer import pairs
from spherometer.errors import UndefinedError
from spherometer.kernels import Categorical, Epanechnikov, Gaussian, Laplace, Product, WeightedSum
from spherometer.pairs import _conditional_distances

F64 = torch.float64
TILES = [None, (7, 5), (5, 16), (64, 3)]
NAN = math.nan


def points(num, dim, seed=0, dtype=F64, unit=True):
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return (x / x.norm(dim=1, keepdim=True) if unit else x).to(dtype)


def ages(num, seed=0):
    return 20 + 50 * torch.rand(num, generator=torch.Generator().manual_seed(seed), dtype=F64)


def table(num):
    """Ages and three sites; some of both are missing, and everything in row 4."""
    age, site = ages(num), (torch.arange(num) * 7 % 3).double()
    age[[2, 4]], site[[3, 4]] = NAN, NAN
    return torch.stack([age, site], dim=1)


KERNELS = {
    "gaussian": (Gaussian(9.0), ages),
    "laplace": (Laplace(9.0), ages),
    "compact": (Epanechnikov(12.0), ages),
    "classes": (Categorical(), lambda num: torch.arange(num) % 3),
    "gaps": (Product({"age": Gaussian(9.0), "site": Categorical()}, missing="neutral"), table),
    "mean": (
        WeightedSum({"age": (2, Gaussian(9.0)), "site": (1, Categorical())}, missing="neutral"),
        table,
    ),
}
every_kernel = pytest.mark.parametrize("kind", KERNELS)


def similarity(kind, num, dtype=F64):
    """As the engine takes it, and in full: w with zeros on the diagonal."""
    kernel, metadata = KERNELS[kind]
    values = metadata(num)
    return pairs.Similarity(kernel, kernel.rows(kernel.encode(values), dtype)), kernel(values).fill_diagonal_(
        0
    )


def numbers(values, bandwidth, dtype=F64):
    kernel = Gaussian(bandwidth)
    return pairs.Similarity(kernel, kernel.rows(kernel.encode(values), dtype))


def squares(x, y):
    return (x[:, None] - y[None]).double().square().sum(-1)


def potential(x, t, v):
    """Log of the weighted sum, by differences."""
    there = v > 0
    logs = (-t * squares(x, x))[there] + v[there].log()
    return torch.logsumexp(logs, 0)


def apart(w, threshold=None):
    """v = 1 - w, or whether w is small; 0 on the diagonal."""
    v = 1 - w if threshold is None else (w < threshold).double()
    return v.fill_diagonal_(0)


def grads(value, *inputs):
    return torch.autograd.grad(value, inputs)


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def weigh(values):
    """An uneven sum, so that a wrong row shows."""
    return (values * torch.linspace(0.5, 1.5, values.numel(), dtype=F64).view(values.shape)).sum()


# --- sums of rows -----------------------------------------------------------------------------------------


@every_kernel
@pytest.mark.parametrize("tile", TILES)
def test_kernel_sums_are_products_with_the_matrix(kind, tile):
    given, w = similarity(kind, 41)
    z = points(41, 4, unit=False).requires_grad_()
    sums, totals = pairs.kernel_sums(given, z, tile=tile)
    close(sums, w @ z)
    close(totals, w.sum(1))
    assert not totals.requires_grad
    close(grads(weigh(sums), z)[0], grads(weigh(w @ z), z)[0])


@pytest.mark.parametrize("num", [255, 256, 257, 700])
def test_kernel_sums_across_the_borders_of_default_tiles(num):
    given, w = similarity("gaussian", num)
    z = points(num, 3, unit=False)
    sums, totals = pairs.kernel_sums(given, z)
    close(sums, w @ z, 1e-11)
    close(totals, w.sum(1), 1e-11)


@every_kernel
@pytest.mark.parametrize("tile", [None, (4, 6)])
@pytest.mark.parametrize("own", [(0, 10), (10, 1), (11, 0), (11, 12), (0, 23)])
def test_kernel_sums_of_some_rows(kind, own, tile):
    given, w = similarity(kind, 23)
    z = points(23, 4, unit=False).requires_grad_()
    some = slice(own[0], sum(own))
    sums, totals = pairs.kernel_sums(given, z, own=own, tile=tile)
    close(sums, (w @ z)[some])
    close(totals, w.sum(1)[some])
    close(grads(weigh(sums), z)[0], grads(weigh((w @ z)[some]), z)[0])


@pytest.mark.parametrize("own", [None, (2, 3)])
def test_kernel_sums_are_differentiable_as_often_as_wanted(own):
    given, _ = similarity("gaps", 8)
    z = points(8, 3, unit=False).requires_grad_()

    def sums(z):
        return pairs.kernel_sums(given, z, own=own, tile=(3, 4))[0].square()

    assert torch.autograd.gradcheck(sums, (z,))
    assert torch.autograd.gradgradcheck(sums, (z,))


def test_weights_have_no_gradient():
    metadata = ages(12).requires_grad_()
    given = numbers(metadata, 9.0)
    assert not given.rows.requires_grad
    value, total = pairs.conditional_potential(points(12, 3), 2.0, given)
    assert not value.requires_grad
    assert not total.requires_grad


# --- potential of dissimilar rows -------------------------------------------------------------------------


@every_kernel
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("t", [1.7, 200.0, 1e4])
def test_potential_is_its_definition(kind, tile, threshold, t):
    given, w = similarity(kind, 37)
    v = apart(w, threshold)
    x = points(37, 4).requires_grad_()
    sharp = torch.tensor(t, dtype=F64, requires_grad=True)
    ours, total = pairs.conditional_potential(x, sharp, given, threshold=threshold, tile=tile)
    plain = potential(x, sharp, v)
    assert ours.dtype == total.dtype == F64
    assert ours.shape == total.shape == ()
    close(ours, plain)
    close(total, v.sum().log())
    for a, b in zip(grads(ours, x, sharp), grads(plain, x, sharp), strict=True):
        close(a, b, 1e-9 if t > 2 else 1e-12)


@pytest.mark.parametrize("num", [383, 385, 769])
def test_potential_across_the_borders_of_default_tiles(num):
    given, w = similarity("gaps", num)
    x = points(num, 5).requires_grad_()
    ours, _ = pairs.conditional_potential(x, 2.0, given)
    plain = potential(x, 2.0, apart(w))
    close(ours, plain)
    close(grads(ours, x)[0], grads(plain, x)[0])


@pytest.mark.parametrize("kind", ["gaussian", "classes", "gaps"])
@pytest.mark.parametrize("t", [2.0, 1e4])
@pytest.mark.parametrize("cuts", [(0, 19), (0, 7, 19), (0, 1, 18, 18, 19)])
def test_parts_of_the_rows_add_up(kind, t, cuts):
    given, w = similarity(kind, 19)
    x = points(19, 4).requires_grad_()
    sharp = torch.tensor(t, dtype=F64, requires_grad=True)
    parts = [
        pairs.conditional_potential(x, sharp, given, own=(a, b - a), tile=(4, 5))
        for a, b in itertools.pairwise(cuts)
    ]
    ours, total = (torch.logsumexp(torch.stack(each), 0) for each in zip(*parts, strict=True))
    plain = potential(x, sharp, apart(w))
    close(ours, plain)
    close(total, apart(w).sum().log())
    for a, b in zip(grads(ours, x, sharp), grads(plain, x, sharp), strict=True):
        close(a, b, 1e-9)


@pytest.mark.parametrize("tile", [None, (3, 4)])
@pytest.mark.parametrize("own", [None, (2, 3)])
@pytest.mark.parametrize("threshold", [None, 0.6])
def test_gradcheck_once_and_twice(tile, own, threshold):
    given, _ = similarity("gaps", 8)
    x = points(8, 3).requires_grad_()
    t = torch.tensor(1.1, dtype=F64, requires_grad=True)

    def value(x, t):
        return pairs.conditional_potential(x, t, given, threshold=threshold, own=own, tile=tile)[0]

    assert torch.autograd.gradcheck(value, (x, t))
    assert torch.autograd.gradgradcheck(value, (x, t))


def test_second_derivatives_of_large_sets_are_refused():
    given, _ = similarity("gaussian", 1030)
    x = points(1030, 2).requires_grad_()
    gradient = torch.autograd.grad(pairs.conditional_potential(x, 2.0, given)[0], x, create_graph=True)[0]
    with pytest.raises(UndefinedError) as caught:
        gradient.square().sum().backward()
    assert str(caught.value) == (
        "conditional_potential: x must have at most 1024 rows to be differentiated twice, because second "
        "derivatives are taken through the full matrix of pairs. Got 1030 rows. "
        "Differentiate once, or pass fewer rows."
    )


@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("own", [None, (1, 3)])
def test_rows_that_are_all_alike_have_no_pair(threshold, own):
    kernel = Categorical()
    given = pairs.Similarity(kernel, kernel.rows(kernel.encode(["a"] * 6)))
    x = points(6, 3).requires_grad_()
    t = torch.tensor(2.0, dtype=F64, requires_grad=True)
    value, total = pairs.conditional_potential(x, t, given, threshold=threshold, own=own)
    assert float(value.detach()) == float(total) == -math.inf
    assert all(float(each.abs().max()) == 0 for each in grads(value, x, t))


def test_no_own_rows():
    given, _ = similarity("gaussian", 6)
    x = points(6, 3).requires_grad_()
    value, total = pairs.conditional_potential(x, 2.0, given, own=(4, 0))
    assert float(value.detach()) == float(total) == -math.inf
    assert float(grads(value, x)[0].abs().max()) == 0
    sums, totals = pairs.kernel_sums(given, x, own=(4, 0))
    assert sums.shape == (0, 3)
    assert totals.shape == (0,)
    assert pairs.anchor_distances(x[:0], x, given, 2.0, own=(4, 0)).shape == (0,)
    assert pairs.anchor_distances(x[:0], x, given, 1.0, own=(4, 0)).shape == (0,)


# --- bandwidths from nothing to everything ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_vanishing_bandwidth_gives_the_unweighted_sums(dtype):
    x, y = points(60, 5, dtype=dtype), points(60, 5, seed=1, dtype=dtype)
    given = numbers(ages(60), 1e-12, dtype)
    value, total = pairs.conditional_potential(x, 2.0, given)
    close(value - total, pairs.gaussian_potential(x, 2.0), 1e-13 if dtype == F64 else 2e-7)
    close(total.exp(), torch.tensor(60.0 * 59, dtype=F64), 1e-13)
    for alpha in (2.0, 1.0, 3.0):
        found = pairs.anchor_distances(x, y, given, alpha)
        close(found, (x.double() - y.double()).square().sum(1).pow(alpha / 2), 1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("bandwidth", [1e4, 1e6, 1e9, 1e12])
def test_a_vast_bandwidth_weighs_by_squared_differences(bandwidth, dtype):
    x, y, values = points(60, 5, dtype=dtype), points(60, 5, seed=1, dtype=dtype), ages(60)
    given = numbers(values, bandwidth, dtype)
    value, total = pairs.conditional_potential(x, 2.0, given)
    v = (values[:, None] - values).square() / (2 * bandwidth**2)
    v = -torch.expm1(-v)
    close(total.exp(), v.sum(), 1e-5 if dtype == torch.float32 else 1e-12)
    close(value - total, potential(x, 2.0, v) - v.sum().log(), 1e-12 if dtype == F64 else 5e-7)
    every = 2 - 2 * x.double() @ y.double().mean(0)
    if bandwidth >= 1e9:  # else the weights still differ
        close(pairs.anchor_distances(x, y, given, 2.0), every, 1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_weights_as_small_as_numbers_get(dtype):
    """exp(-t d^2) times 1 - w would be 0 in float32."""
    x, values = points(50, 5, dtype=dtype), 1e-3 * ages(50)
    given = numbers(values, 1e12, dtype)
    v = (values[:, None] - values).square() / 2e24
    for t in (2.0, 19.0, 500.0):
        value, total = pairs.conditional_potential(x, t, given)
        wanted = potential(x, t, v) - v.sum().log()
        close(value - total, wanted, 1e-11 if dtype == F64 else 3e-6)


@pytest.mark.parametrize("bandwidth", [1e-12, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("t", [1e-3, 2.0, 1e4])
def test_values_and_gradients_are_finite_for_every_bandwidth(bandwidth, dtype, t):
    x = points(30, 4, dtype=dtype).requires_grad_()
    given = numbers(ages(30), bandwidth, dtype)
    value, total = pairs.conditional_potential(x, t, given)
    found = value - total + pairs.anchor_distances(x, x.flip(0), given, 2.0).sum()
    assert math.isfinite(float(found.detach()))
    assert torch.isfinite(grads(found, x)[0]).all()


@pytest.mark.parametrize("num", [200, 1500])
def test_float32_value_and_gradient(num):
    given, _ = similarity("gaussian", num, torch.float32)
    exact_given, w = similarity("gaussian", num)
    x = points(num, 32, dtype=torch.float32).requires_grad_()
    exact = x.detach().double().requires_grad_()
    ours = pairs.conditional_potential(x, 2.0, given)
    lengths = exact.square().sum(1)
    k = torch.exp(-2 * (lengths[:, None] + lengths - 2 * exact @ exact.T))
    plain = (k * apart(w)).sum().log()
    assert abs(float((ours[0] - ours[1] - plain + apart(w).sum().log()).detach())) < 1e-6
    a, b = grads(ours[0], x)[0].double(), grads(plain, exact)[0]
    assert float((a * b).sum() / a.norm() / b.norm()) > 1 - 1e-6
    a = grads(pairs.anchor_distances(x, x.flip(0), given, 2.0).sum(), x)[0].double()
    b = grads(pairs.anchor_distances(exact, exact.flip(0), exact_given, 2.0).sum(), exact)[0]
    assert float((a * b).sum() / a.norm() / b.norm()) > 1 - 1e-6


# --- distances from similar rows --------------------------------------------------------------------------


@every_kernel
@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_anchor_distances_are_their_definition(kind, alpha):
    given, w = similarity(kind, 29)
    x, y = points(29, 4).requires_grad_(), points(29, 4, seed=1, unit=False).requires_grad_()
    ours = pairs.anchor_distances(x, y, given, alpha)
    a = w.clone().fill_diagonal_(1)
    a = a / a.sum(1, keepdim=True)
    plain = (a * squares(x, y).pow(alpha / 2)).sum(1)
    assert ours.dtype == F64
    close(ours, plain)
    for one, two in zip(grads(weigh(ours), x, y), grads(weigh(plain), x, y), strict=True):
        close(one, two, 1e-11)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("cuts", [(0, 7, 19), (0, 1, 18, 18, 19)])
def test_anchors_of_some_rows(alpha, cuts):
    given, _ = similarity("gaps", 19)
    x, y = points(19, 4).requires_grad_(), points(19, 4, seed=1).requires_grad_()
    whole = pairs.anchor_distances(x, y, given, alpha)
    parts = [
        pairs.anchor_distances(x[a:b], y, given, alpha, own=(a, b - a)) for a, b in itertools.pairwise(cuts)
    ]
    ours = torch.cat(parts)
    close(ours, whole)
    for one, two in zip(grads(weigh(ours), x, y), grads(weigh(whole), x, y), strict=True):
        close(one, two)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_gradcheck_of_anchor_distances(alpha):
    given, _ = similarity("gaps", 7)
    x, y = points(7, 3).requires_grad_(), points(7, 3, seed=1).requires_grad_()

    def value(x, y):
        return pairs.anchor_distances(x, y, given, alpha)

    assert torch.autograd.gradcheck(value, (x, y))
    assert torch.autograd.gradgradcheck(value, (x, y))


def test_distances_do_not_depend_on_tiles(monkeypatch):
    given, _ = similarity("gaussian", 33)
    x, y = points(33, 4)[torch.arange(33) // 3].requires_grad_(), points(33, 4)[torch.arange(33) // 4]
    written = _conditional_distances.written_out(x, y, given, 1.0, 0)
    whole = pairs.conditional_distances(x, y, given, 1.0)
    monkeypatch.setattr(_conditional_distances, "_CHUNK", 12)
    small = pairs.conditional_distances(x, y, given, 1.0, tile=(5, 7))
    slope = grads(weigh(written), x)[0]
    for ours in (whole, small):
        close(ours, written)
        close(grads(weigh(ours), x)[0], slope)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-6, 1e-4, 1e-2])
def test_similar_rows_may_be_as_near_as_they_like(dtype, alpha, spread):
    """Products of rows would lose all digits: three tight classes far apart."""
    centres = points(3, 8)
    x = (centres[torch.arange(60) % 3] + spread * points(60, 8, seed=1)).to(dtype)
    y = (centres[torch.arange(60) % 3] + spread * points(60, 8, seed=2)).to(dtype)
    kernel = Categorical()
    given = pairs.Similarity(kernel, kernel.rows(kernel.encode(torch.arange(60) % 3), dtype))
    ours = pairs.anchor_distances(x, y, given, alpha).mean()
    same = (torch.arange(60)[:, None] % 3 == torch.arange(60) % 3).double() / 20
    wanted = (same * squares(x.double(), y.double()).pow(alpha / 2)).sum(1).mean()
    if dtype == torch.float32 and spread in (1e-9, 1e-6):  # rounded rows are no longer so near
        assert float(wanted) < 1e-2 if alpha == 0.5 else float(wanted) < 1e-5
    tolerance = 1e-4 if alpha == 2 and spread < 1e-6 else 1e-6
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=1e-15)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_collapsed_set_has_distance_and_gradient_zero(alpha, dtype):
    x = points(1, 8, dtype=dtype).repeat(30, 1).requires_grad_()
    given, _ = similarity("gaussian", 30, dtype)
    value = pairs.anchor_distances(x, x.detach().clone(), given, alpha)
    assert float(value.detach().abs().max()) < 1e-14
    assert float(grads(value.sum(), x)[0].abs().max()) < 1e-6


# --- sums for intervals -----------------------------------------------------------------------------------


@every_kernel
@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("t", [0.5, 2.0, 1e4])
@pytest.mark.parametrize("num", [40, 600])
def test_sums_of_rows_up_to_a_factor(kind, threshold, t, num):
    given, w = similarity(kind, num)
    v = apart(w, threshold)
    x = points(num, 4)
    potentials, weights = pairs.conditional_row_sums(x, t, given, threshold=threshold)
    assert potentials.dtype == weights.dtype == F64
    logs = -t * squares(x, x) + v.log()
    k = (logs - logs.max()).exp()
    close(potentials / potentials.max(), k.sum(1) / k.sum(1).max(), 1e-10)
    close(weights / weights.max(), v.sum(1) / v.sum(1).max(), 1e-12)


@pytest.mark.parametrize("bandwidth", [1e-12, 1e12])
@pytest.mark.parametrize("t", [2.0, 40.0, 1e3])
def test_sums_of_rows_in_float32(bandwidth, t):
    x, values = points(50, 4), ages(50)
    exact, _ = pairs.conditional_row_sums(x, t, numbers(values, bandwidth))
    rough, _ = pairs.conditional_row_sums(x.float(), t, numbers(values, bandwidth, torch.float32))
    torch.testing.assert_close(rough / rough.max(), exact / exact.max(), rtol=1e-6 * max(t, 10), atol=1e-9)


# --- manners ----------------------------------------------------------------------------------------------


def test_weights_are_made_once_unless_the_kernel_is_wide(monkeypatch):
    num, calls = 600, []
    complements = lambda self, a, b: calls.append(a.shape[0] * b.shape[0]) or self.distances(a, b)
    monkeypatch.setattr(Gaussian, "complements", complements)
    x, covered = points(num, 3), num * num / 2
    pairs.conditional_potential(x, 2.0, numbers(ages(num), 9.0))
    assert covered < sum(calls) < 1.4 * covered
    calls.clear()
    pairs.conditional_potential(x, 2.0, numbers(ages(num), 1e6))
    assert 2 * covered < sum(calls) < 2.8 * covered


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_a_few_different_rows_are_found(threshold):
    """Nothing to be seen in the first rows and the last columns."""
    kernel, classes = Categorical(), torch.zeros(700)
    classes[300] = 1.0
    given = pairs.Similarity(kernel, kernel.rows(kernel.encode(classes)))
    x = points(700, 4)
    value, total = pairs.conditional_potential(x, 2.0, given, threshold=threshold)
    others = torch.cat([x[:300], x[301:]])
    close(total, torch.tensor(2.0 * 699, dtype=F64).log())
    close(value, torch.exp(-2 * (others - x[300]).square().sum(1)).sum().mul(2).log())


def test_autocast_changes_nothing():
    given, _ = similarity("gaussian", 40, torch.float32)
    x = points(40, 8, dtype=torch.float32)

    def everything():
        value, total = pairs.conditional_potential(x, 2.0, given)
        anchors = [pairs.anchor_distances(x, x.flip(0), given, alpha) for alpha in (1.0, 2.0)]
        rows = pairs.conditional_row_sums(x, 2.0, given)
        return [value, total, *anchors, *rows, *pairs.kernel_sums(given, x)]

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(everything(), plain, strict=True))


class Largest(TorchDispatchMode):
    """Records the largest tensor any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, torch.Tensor):
                self.numel = max(self.numel, one.numel())
        return out


def test_no_full_matrix_is_made():
    num, dim = 2500, 4
    x = points(num, dim, dtype=torch.float32).requires_grad_()
    given, _ = similarity("gaussian", num, torch.float32)
    with Largest() as largest:
        pairs.conditional_potential(x, 2.0, given)[0].backward()
        pairs.conditional_potential(x, 1e4, given)[0].backward()
        for alpha in (2.0, 1.0):
            pairs.anchor_distances(x, x.detach().flip(0), given, alpha).sum().backward()
        pairs.conditional_row_sums(x.detach(), 2.0, given)
    assert largest.numel <= 2**20


def test_inputs_are_left_alone_and_any_layout_works():
    given, _ = similarity("gaps", 30)
    before = given.rows.clone()
    base = points(30, 8)
    strided = base[:, ::2]
    wanted = pairs.conditional_potential(strided.contiguous(), 2.0, given)[0]
    version = base._version
    assert torch.equal(pairs.conditional_potential(strided, 2.0, given)[0], wanted)
    assert torch.equal(
        pairs.kernel_sums(given, strided)[0], pairs.kernel_sums(given, strided.contiguous())[0]
    )
    assert base._version == version
    assert torch.equal(given.rows, before)
