"""The tiled engine against loops and full matrices written here from the formulas."""

import math
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spherometer import pairs
from spherometer.errors import UndefinedError
from spherometer.pairs import _dense

F64 = torch.float64
TILES = [None, (7, 5), (5, 16), (16, 16), (64, 3)]


def points(num, dim, seed=0, dtype=F64, unit=True):
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return (x / x.norm(dim=1, keepdim=True) if unit else x).to(dtype)


def kernel(x, y, t):
    return torch.exp(-t * (x[:, None] - y[None]).square().sum(-1))


def potential(x, t, estimator="u"):
    """By differences, in the dtype given, over a boolean mask."""
    keep = (
        ~torch.eye(len(x), dtype=torch.bool) if estimator == "u" else torch.ones(len(x), len(x), dtype=bool)
    )
    exponents = (-t * (x[:, None] - x[None]).square().sum(-1))[keep]
    return torch.logsumexp(exponents, 0) - math.log(len(exponents))


def logsumexps(x, y, scale, skip):
    logits = scale * x @ y.T
    drop = torch.zeros(logits.shape, dtype=torch.bool)
    for i in range(len(x)):
        for j in range(len(y)):
            drop[i, j] = (j - i) in skip
    logits = logits.masked_fill(drop, -math.inf)
    return torch.logsumexp(logits, 1), torch.logsumexp(logits, 0)


def grads(value, *inputs):
    return torch.autograd.grad(value, inputs)


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- Gaussian potential -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("estimator", ["u", "v"])
@pytest.mark.parametrize(("num", "dim", "unit"), [(2, 3, True), (5, 1, True), (37, 4, True), (48, 6, False)])
def test_gaussian_potential_is_its_definition(num, dim, unit, estimator, tile):
    x = points(num, dim, unit=unit).requires_grad_()
    t = torch.tensor(1.7, dtype=F64, requires_grad=True)
    ours = pairs.gaussian_potential(x, t, estimator=estimator, tile=tile)
    plain = potential(x, t, estimator)
    assert ours.dtype == F64
    assert ours.ndim == 0
    close(ours, plain)
    for a, b in zip(grads(ours, x, t), grads(plain, x, t), strict=True):
        close(a, b)


@pytest.mark.parametrize("num", [383, 384, 385, 512, 769, 1300])
def test_default_tiles_cross_their_borders(num):
    x = points(num, 5).requires_grad_()
    t = torch.tensor(2.0, dtype=F64, requires_grad=True)
    ours = pairs.gaussian_potential(x, t)
    plain = _dense.log_mean_gaussian(x, t)
    close(ours, plain)
    for a, b in zip(grads(ours, x, t), grads(plain, x, t), strict=True):
        close(a, b)


@pytest.mark.parametrize("tile", TILES)
def test_cross_potential_is_its_definition(tile):
    x, y = points(23, 4).requires_grad_(), points(31, 4, seed=1, unit=False).requires_grad_()
    t = torch.tensor(0.8, dtype=F64, requires_grad=True)
    ours = pairs.cross_gaussian_potential(x, y, t, tile=tile)
    plain = kernel(x, y, t).mean().log()
    close(ours, plain)
    for a, b in zip(grads(ours, x, y, t), grads(plain, x, y, t), strict=True):
        close(a, b)


@pytest.mark.parametrize("wanted", ["x", "y", "t"])
def test_cross_gradients_one_at_a_time(wanted):
    inputs = {"x": points(11, 3), "y": points(9, 3, seed=1), "t": torch.tensor(1.3, dtype=F64)}
    inputs[wanted].requires_grad_()
    ours = grads(pairs.cross_gaussian_potential(**inputs, tile=(4, 4)), inputs[wanted])[0]
    plain = grads(kernel(inputs["x"], inputs["y"], inputs["t"]).mean().log(), inputs[wanted])[0]
    close(ours, plain)


@pytest.mark.parametrize("tile", [None, (3, 4)])
@pytest.mark.parametrize("estimator", ["u", "v"])
def test_gradcheck_once_and_twice(estimator, tile):
    x = points(7, 3).requires_grad_()
    y = points(5, 3, seed=2).requires_grad_()
    t = torch.tensor(1.1, dtype=F64, requires_grad=True)

    def one(x, t):
        return pairs.gaussian_potential(x, t, estimator=estimator, tile=tile)

    def two(x, y, t):
        return pairs.cross_gaussian_potential(x, y, t, tile=tile)

    assert torch.autograd.gradcheck(one, (x, t))
    assert torch.autograd.gradgradcheck(one, (x, t))
    assert torch.autograd.gradcheck(two, (x, y, t))
    assert torch.autograd.gradgradcheck(two, (x, y, t))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("t", [100.0, 1000.0, 1e4])
@pytest.mark.parametrize("estimator", ["u", "v"])
@pytest.mark.parametrize("tile", [None, (6, 8)])
def test_sharp_kernels_stay_finite(t, estimator, dtype, tile):
    x = points(33, 6, dtype=dtype).requires_grad_()
    sharp = torch.tensor(t, dtype=dtype, requires_grad=True)
    ours = pairs.gaussian_potential(x, sharp, estimator=estimator, tile=tile)
    exact_x, exact_t = x.detach().double().requires_grad_(), sharp.detach().double().requires_grad_()
    plain = potential(exact_x, exact_t, estimator)
    close(ours, plain, 1e-11)
    for a, b in zip(grads(ours, x, sharp), grads(plain, exact_x, exact_t), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6 if dtype == torch.float32 else 1e-9, atol=1e-12)


def test_sharp_cross_potential_and_rows():
    x, y = points(20, 5), points(17, 5, seed=1)
    exponents = -1e4 * (x[:, None] - y[None]).square().sum(-1)
    close(pairs.cross_gaussian_potential(x, y, 1e4), torch.logsumexp(exponents.flatten(), 0) - math.log(340))
    own = -1e4 * (x[:, None] - x[None]).square().sum(-1)
    own = own.masked_fill(torch.eye(20, dtype=torch.bool), -math.inf)
    close(pairs.gaussian_log_rows(x, 1e4, tile=(6, 7)), torch.logsumexp(own, 1) - math.log(19), 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("num", [10, 1000])
def test_collapsed_rows_give_zero(num, dtype):
    x = points(1, 8, dtype=dtype).repeat(num, 1).requires_grad_()
    value = pairs.gaussian_potential(x, 2.0)
    assert abs(value.item()) < 1e-6
    assert float(grads(value, x)[0].abs().max()) < 1e-6


def test_gradient_keeps_its_precision_on_collapsed_data():
    centre = points(1, 64, dtype=torch.float32)
    spread = 1e-3 * points(1500, 64, seed=3, dtype=torch.float32)
    x = (centre + spread).requires_grad_()
    exact = x.detach().double().requires_grad_()
    ours = grads(pairs.gaussian_potential(x, 2.0), x)[0].double()
    plain = grads(_dense.log_mean_gaussian(exact, 2.0), exact)[0]
    assert float((ours - plain).norm() / plain.norm()) < 1e-6


@pytest.mark.parametrize("num", [200, 3000])
def test_float32_value_and_gradient(num):
    x = points(num, 32, dtype=torch.float32).requires_grad_()
    exact = x.detach().double().requires_grad_()
    ours, plain = pairs.gaussian_potential(x, 2.0), _dense.log_mean_gaussian(exact, 2.0)
    assert abs((ours - plain).item()) < 1e-6
    a, b = grads(ours, x)[0].double(), grads(plain, exact)[0]
    assert a.dtype == F64
    assert float((a * b).sum() / a.norm() / b.norm()) > 1 - 1e-6
    with torch.no_grad():
        assert abs(float(pairs.gaussian_potential(x, 2.0) - ours.detach())) < 2e-7


# --- rows, moments, intervals -----------------------------------------------------------------------------


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("t", [0.5, 2.0, 90.0])
def test_rows_and_moments_are_their_definitions(t, tile):
    x = points(41, 4)
    k = kernel(x, x, t)
    k.fill_diagonal_(0)
    moments = pairs.gaussian_moments(x, t, tile=tile)
    scale = math.exp(moments.log_scale)
    assert moments.num == 41
    close(moments.rows * scale, k.sum(1))
    assert moments.total * scale == pytest.approx(float(k.sum()), rel=1e-12)
    assert moments.squares * scale**2 == pytest.approx(float(k.square().sum()), rel=1e-12)
    assert moments.log_mean == pytest.approx(float(potential(x, t)), abs=1e-12)
    assert moments.log_mean_v == pytest.approx(float(potential(x, t, "v")), abs=1e-12)
    close(pairs.gaussian_log_rows(x, t, tile=tile), (k.sum(1) / 40).log())
    close(pairs.gaussian_log_rows(x, t, estimator="v", tile=tile), ((k.sum(1) + 1) / 41).log())


def enumerated_variance(k):
    """Unbiased variance of the mean over pairs, from its covariances summed pair by pair."""
    n = len(k)
    shared, same, apart = [], [], []
    couples = [(i, j) for i in range(n) for j in range(i)]
    for i, j in couples:
        for a, b in couples:
            common = len({i, j} & {a, b})
            (apart, shared, same)[common].append(float(k[i, j] * k[a, b]))
    mean_apart = sum(apart) / len(apart)  # unbiased for the square of the expectation
    zeta1 = sum(shared) / len(shared) - mean_apart
    zeta2 = sum(same) / len(same) - mean_apart
    number = len(couples)
    return (len(shared) * zeta1 + len(same) * zeta2) / number**2, zeta2 / number


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tile", [None, (3, 4)])
def test_standard_error_by_enumeration(seed, tile):
    x = points(9, 2, seed=seed)
    k = kernel(x, x, 2.0)
    variance, floor = enumerated_variance(k)
    moments = pairs.gaussian_moments(x, 2.0, tile=tile)
    expected = math.sqrt(max(variance, floor)) / math.exp(float(potential(x, 2.0)))
    assert moments.standard_error == pytest.approx(expected, rel=1e-9)


def test_standard_error_at_a_sharp_kernel_is_finite():
    moments = pairs.gaussian_moments(points(40, 16, dtype=torch.float32), 1e4)
    assert math.isfinite(moments.log_mean)
    assert 0 < moments.standard_error < math.inf
    # its smallest distance carries the whole mean
    assert moments.log_scale < -1000


def test_standard_error_needs_four_rows():
    with pytest.raises(UndefinedError) as caught:
        _ = pairs.gaussian_moments(points(3, 4), 2.0).standard_error
    assert str(caught.value) == (
        "standard_error: z must have at least 4 rows, because the variance of a mean over pairs needs two "
        "pairs without a row in common. Got 3 rows. Pass more rows."
    )


@pytest.mark.parametrize("shape", ["uniform", "clustered"])
def test_interval_covers(shape):
    generator = torch.Generator().manual_seed(5)
    dim, num, trials = 4, 80, 150

    def draw(count):
        x = torch.randn(count, dim, generator=generator, dtype=F64)
        if shape == "clustered":
            x = x + 3 * torch.eye(dim, dtype=F64)[torch.randint(3, (count,), generator=generator)]
        return x / x.norm(dim=1, keepdim=True)

    truth = pairs.gaussian_moments(draw(6000).float(), 2.0).log_mean
    hits = 0
    for _ in range(trials):
        moments = pairs.gaussian_moments(draw(num), 2.0)
        hits += abs(moments.log_mean - truth) <= 1.96 * moments.standard_error
    assert hits >= 0.88 * trials


# --- log-sum-exps -----------------------------------------------------------------------------------------


def loss_of(rows, columns, dtype=F64):
    """An uneven combination, so that a wrong weight shows; empty sets are left out."""
    total = rows.new_zeros(())
    for k, sums in enumerate((rows, columns)):
        finite = sums > -math.inf
        weight = torch.linspace(0.5, 1.5 + k, len(sums), dtype=F64)
        total = total + (sums[finite] * weight[finite]).sum()
    return total


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("skip", [(), (0,), (0, 9), (-5, 3, 22)])
@pytest.mark.parametrize("scale", [2.0, 1000.0])
def test_logsumexp_of_two_sets(scale, skip, tile):
    x, y = points(17, 4).requires_grad_(), points(23, 4, seed=1).requires_grad_()
    s = torch.tensor(scale, dtype=F64, requires_grad=True)
    ours = pairs.masked_logsumexp(x, y, s, skip, tile=tile)
    plain = logsumexps(x, y, s, skip)
    close(ours[0], plain[0])
    close(ours[1], plain[1])
    for a, b in zip(grads(loss_of(*ours), x, y, s), grads(loss_of(*plain), x, y, s), strict=True):
        close(a, b, 1e-10)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("skip", [(0,), (0, 13, -13), (4, -4), (0, 3)])
@pytest.mark.parametrize("scale", [0.0, 3.0, 500.0])
def test_logsumexp_of_one_set(scale, skip, tile):
    x = points(26, 4).requires_grad_()
    s = torch.tensor(scale, dtype=F64, requires_grad=True)
    ours = pairs.masked_logsumexp(x, None, s, skip, tile=tile)
    plain = logsumexps(x, x, s, skip)
    close(ours[0], plain[0])
    close(ours[1], plain[1])
    for a, b in zip(grads(loss_of(*ours), x, s), grads(loss_of(*plain), x, s), strict=True):
        close(a, b, 1e-10)


@pytest.mark.parametrize("num", [300, 900, 1400])
def test_logsumexp_with_default_tiles(num):
    x = points(num, 6).requires_grad_()
    half = num // 2
    skip = (0, half, -half)
    ours = pairs.masked_logsumexp(x, None, 5.0, skip)[0]
    plain = _dense.masked_logsumexp(x, None, 5.0, skip)[0]
    close(ours, plain)
    weight = torch.linspace(0, 1, num, dtype=F64)
    close(grads((ours * weight).sum(), x)[0], grads((plain * weight).sum(), x)[0])


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("tile", [None, (4, 6)])
def test_logsumexp_of_one_side_alone(side, tile):
    x, y = points(9, 3).requires_grad_(), points(13, 3, seed=1).requires_grad_()
    ours = pairs.masked_logsumexp(x, y, 4.0, (2,), tile=tile)[side].sum()
    plain = logsumexps(x, y, 4.0, (2,))[side].sum()
    for a, b in zip(grads(ours, x, y), grads(plain, x, y), strict=True):
        close(a, b)


@pytest.mark.parametrize("tile", [None, (3, 2)])
@pytest.mark.parametrize("scale", [2.0, 500.0])
def test_an_empty_set_is_minus_infinity_without_gradient(tile, scale):
    x, y = points(2, 3).requires_grad_(), points(2, 3, seed=1).requires_grad_()
    rows, columns = pairs.masked_logsumexp(x, y, scale, (0, 1), tile=tile)  # only (1, 0) is left
    assert rows.tolist()[0] == -math.inf
    assert columns.tolist()[1] == -math.inf
    found = grads(rows.sum() + columns.sum(), x, y)
    assert all(bool(torch.isfinite(g).all()) for g in found)
    assert float(found[0][0].abs().max()) == 0
    assert float(found[1][1].abs().max()) == 0


@pytest.mark.parametrize("tile", [None, (3, 4)])
@pytest.mark.parametrize("scale", [1.5, 400.0])
def test_logsumexp_gradchecks(tile, scale):
    x, y = points(6, 3).requires_grad_(), points(5, 3, seed=1).requires_grad_()
    s = torch.tensor(scale, dtype=F64, requires_grad=True)

    def two(x, y, s):
        return pairs.masked_logsumexp(x, y, s / 100 if scale > 100 else s, (0, 4), tile=tile)

    def one(x, s):
        return pairs.masked_logsumexp(x, None, s / 100 if scale > 100 else s, (0,), tile=tile)[0]

    assert torch.autograd.gradcheck(two, (x, y, s))
    assert torch.autograd.gradgradcheck(two, (x, y, s))
    assert torch.autograd.gradcheck(one, (x, s))
    assert torch.autograd.gradgradcheck(one, (x, s))


@pytest.mark.parametrize("temperature", [0.5, 0.1, 0.03, 0.01])
@pytest.mark.parametrize("num", [64, 1200])
def test_float32_logsumexp_is_accurate(num, temperature):
    x = points(num, 32, dtype=torch.float32)
    rows = pairs.masked_logsumexp(x, None, 1 / temperature, (0,))[0]
    exact = _dense.masked_logsumexp(x.double(), None, 1 / temperature, (0,))[0]
    assert abs(float((rows - exact).mean())) < 2e-6
    assert float((rows - exact).abs().max()) < 1e-5


def test_logsumexp_away_from_the_sphere():
    x = 1e3 * points(30, 4, dtype=torch.float32, unit=False)
    rows, columns = pairs.masked_logsumexp(x, x.flip(0), 3.0, ())
    exact = _dense.masked_logsumexp(x.double(), x.flip(0).double(), 3.0, ())
    close(rows, exact[0])
    close(columns, exact[1])


# --- promises ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [2.0, 400.0])
def test_the_tile_does_not_matter(t):
    x = points(150, 5)
    values = [
        pairs.gaussian_potential(x, t, tile=tile) for tile in (None, (8, 8), (64, 64), (150, 7), (33, 100))
    ]
    sums = [
        pairs.masked_logsumexp(x, None, t, (0,), tile=tile)[0] for tile in (None, (8, 8), (64, 64), (33, 100))
    ]
    for value in values:
        close(value, values[0])
    for rows in sums:
        close(rows, sums[0])


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
    num, dim = 3000, 4
    x = points(num, dim, dtype=torch.float32).requires_grad_()
    with Largest() as largest:
        pairs.gaussian_potential(x, 2.0).backward()
        pairs.gaussian_potential(x, 1e4).backward()
        pairs.cross_gaussian_potential(x, x.detach(), 2.0).backward()
        for scale in (5.0, 80.0, 1000.0):
            pairs.masked_logsumexp(x, None, scale, (0,))[0].sum().backward()
            pairs.masked_logsumexp(x, x.detach(), scale, (0,))[0].sum().backward()
        pairs.gaussian_moments(x, 2.0)
        pairs.gaussian_log_rows(x, 1e4)
        pairs.nearest(x, 3)
    assert largest.numel <= max(2**20, (dim + 2) * num)


def test_inputs_are_left_alone_and_any_layout_works():
    base = points(60, 8)
    x = base[::2, 1::2].requires_grad_()
    assert not x.is_contiguous()
    version = base._version
    value = pairs.gaussian_potential(x, 2.0, tile=(7, 9))
    close(value, potential(x.detach().contiguous(), 2.0))
    close(grads(value, x)[0], grads(potential(x, 2.0), x)[0])
    rows = pairs.masked_logsumexp(x, None, 3.0, (0,))[0]
    rows.sum().backward()
    expanded = points(1, 4).expand(9, 4)
    assert abs(float(pairs.gaussian_potential(expanded, 2.0))) < 1e-12
    assert base._version == version


def test_no_grad_and_inference_mode():
    x = points(20, 4).requires_grad_()
    value = pairs.gaussian_potential(x, 2.0).item()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            inside = pairs.gaussian_potential(x, 2.0)
            assert not inside.requires_grad
            assert float(inside) == value
            assert float(pairs.gaussian_potential(points(20, 4), 2.0)) == value
            pairs.cross_gaussian_potential(x, x, 2.0)
            pairs.masked_logsumexp(x, None, 2.0, (0,))
            pairs.gaussian_moments(x, 2.0)


def test_autocast_does_not_reach_the_sums():
    x = points(900, 16, dtype=torch.float32).requires_grad_()
    plain = pairs.gaussian_potential(x, 2.0)
    rows = pairs.masked_logsumexp(x, None, 5.0, (0,))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = pairs.gaussian_potential(x, 2.0)
        cast_rows = pairs.masked_logsumexp(x, None, 5.0, (0,))[0]
        found = grads(cast + cast_rows.sum(), x)[0]
    assert cast.item() == plain.item()
    assert torch.equal(rows, cast_rows)
    assert torch.equal(found, grads(plain + rows.sum(), x)[0])


def test_the_global_generator_is_not_touched():
    state = torch.random.get_rng_state()
    x = points(1000, 3).requires_grad_()
    pairs.gaussian_potential(x, 2.0).backward()
    pairs.masked_logsumexp(x, None, 2.0, (0,))[0].sum().backward()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_number_of_threads_does_not_matter():
    x = points(1300, 16).requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            value = pairs.gaussian_potential(x, 2.0)
            rows = pairs.masked_logsumexp(x, None, 3.0, (0,))[0]
            found.append((value, grads(value, x)[0], rows))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            close(a, b)


def test_the_same_input_gives_the_same_bytes():
    x = points(1000, 8, dtype=torch.float32)
    assert float(pairs.gaussian_potential(x, 2.0)) == float(pairs.gaussian_potential(x, 2.0))


def test_the_backward_runs_twice_on_a_kept_graph():
    x = points(40, 4).requires_grad_()
    value = pairs.gaussian_potential(x, 2.0) + pairs.masked_logsumexp(x, None, 3.0, (0,))[0].sum()
    first = torch.autograd.grad(value, x, retain_graph=True)[0]
    close(torch.autograd.grad(value, x)[0], first, 0)


def test_second_derivatives_of_large_sets_are_refused_by_name():
    x = points(1025, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(pairs.gaussian_potential(x, 2.0), x, create_graph=True)
    close(gradient.detach(), torch.autograd.grad(pairs.gaussian_potential(x, 2.0), x)[0])
    with pytest.raises(UndefinedError) as caught:
        gradient.square().sum().backward()
    assert str(caught.value) == (
        "gaussian_potential: x must have at most 1024 rows to be differentiated twice, because second "
        "derivatives are taken through the full matrix of pairs. Got 1025 rows. Differentiate once, or pass "
        "fewer rows."
    )
    rows = pairs.masked_logsumexp(x, None, 2.0, (0,))[0]
    (gradient,) = torch.autograd.grad(rows.sum(), x, create_graph=True)
    with pytest.raises(UndefinedError, match="masked_logsumexp: x must have at most 1024 rows"):
        gradient.sum().backward()


def test_too_few_rows_are_refused():
    with pytest.raises(UndefinedError) as caught:
        pairs.gaussian_potential(points(1, 3), 2.0)
    assert str(caught.value) == (
        "gaussian_potential: x must have at least 2 rows, because a mean over pairs needs a pair. Got 1 row. "
        "Pass the whole set at once."
    )
    assert float(pairs.gaussian_potential(points(1, 3), 2.0, estimator="v")) == 0
    with pytest.raises(UndefinedError, match="gaussian_moments: x must have at least 2 rows"):
        pairs.gaussian_moments(points(1, 3), 2.0)
    with pytest.raises(UndefinedError, match="cross_gaussian_potential: x must have at least 1 row,"):
        pairs.cross_gaussian_potential(points(3, 3)[:0], points(2, 3), 2.0)


def test_importing_the_engine_does_not_import_the_compiler():
    code = "import sys, spherometer.pairs; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# torch looks at .grad behind a filter that -W error overrides; nobody sees this warning otherwise
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("num", [50, 800])
def test_inside_a_compiled_model(num):
    layer = torch.nn.Linear(6, 4)
    torch.nn.init.eye_(layer.weight)
    torch.nn.init.zeros_(layer.bias)

    def model(x):
        z = layer(x)
        rows, _ = pairs.masked_logsumexp(z, None, 2.0, (0,))
        return pairs.gaussian_potential(z, 2.0) + rows.mean() + z.sum() * 0

    x = points(num, 6, dtype=torch.float32)
    plain = model(x)
    expected = torch.autograd.grad(plain, layer.weight)[0]
    compiled = torch.compile(model, backend="eager")(x)
    assert compiled.item() == plain.item()
    close(torch.autograd.grad(compiled, layer.weight)[0], expected, 1e-6)


# --- neighbours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 19])
def test_nearest_by_sorting(k):
    x = points(20, 3)
    indices, distances = pairs.nearest(x, k)
    for i in range(20):
        order = sorted((float((x[i] - x[j]).square().sum()), j) for j in range(20) if j != i)[:k]
        assert indices[i].tolist() == [j for _, j in order]
        close(distances[i], torch.tensor([d for d, _ in order], dtype=F64))


def test_ties_go_to_the_lower_index(monkeypatch):
    x = points(3, 4, dtype=torch.float32).repeat(4, 1)  # rows i, i + 3, i + 6, i + 9 are one point
    indices, distances = pairs.nearest(x, 3)
    assert indices[0].tolist() == [3, 6, 9]
    assert indices[7].tolist() == [1, 4, 10]
    assert float(distances.abs().max()) == 0
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1], [0, 0]])
    monkeypatch.setattr("spherometer.pairs._nearest._BLOCK", 10)
    assert pairs.nearest(corners, 2)[0][4].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("levels", "falls_back"), [(10**6, False), (3, True)], ids=["distinct distances", "many ties"]
)
def test_nearest_is_exact_with_and_without_ties(levels, falls_back, monkeypatch):
    from spherometer.pairs import _nearest

    rows_done = []
    plain = _nearest._by_differences
    monkeypatch.setattr(
        _nearest, "_by_differences", lambda x, rows, k: rows_done.extend(rows.tolist()) or plain(x, rows, k)
    )
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(levels, (300, 3), generator=generator).double()
    indices, distances = pairs.nearest(x, 4)
    assert bool(rows_done) == falls_back
    for i in range(len(x)):
        d = [(float(((x[i] - x[j]) ** 2).sum()), j) for j in range(len(x)) if j != i]
        assert [(float(v), int(j)) for v, j in zip(distances[i], indices[i], strict=True)] == sorted(d)[:4]


def test_nearest_refuses_too_many():
    with pytest.raises(UndefinedError) as caught:
        pairs.nearest(points(5, 3), 5)
    assert str(caught.value) == (
        "nearest: k must be at least 1 and less than the number of rows, because a row is not its own "
        "neighbour. Got k=5 for 5 rows. Pass k <= 4."
    )
