"""What the losses are: closed forms, definitions written as loops, relations that must hold."""

import math
from itertools import combinations

import pytest
import torch

from spherometer import losses, sphere
from spherometer.losses import AlignUniformLoss, CombinedLoss, InfoNCELoss, NTXentLoss

TEMPERATURES = [0.02, 0.1, 0.5, 2.5]
TWO_VIEW = {
    "align_uniform": losses.align_uniform_loss,
    "align_uniform_1_3": lambda *z: losses.align_uniform_loss(*z, align_weight=3.0, alpha=1.0, t=3.0),
    "info_nce": losses.info_nce_loss,
    "info_nce_cold": lambda *z: losses.info_nce_loss(*z, temperature=0.05),
    "nt_xent": losses.nt_xent_loss,
    "nt_xent_cold": lambda *z: losses.nt_xent_loss(*z, temperature=0.05),
}
EVERY = pytest.mark.parametrize("loss", TWO_VIEW.values(), ids=TWO_VIEW)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(num: int, dim: int, num_views: int = 2, seed: int = 0, spread: float = 0.5) -> list[torch.Tensor]:
    """Correlated views of rows of any length."""
    centre = draw(num, dim, seed=seed)
    return [3 * centre + 3 * spread * draw(num, dim, seed=seed + 1 + v) for v in range(num_views)]


# --- definitions, one pair at a time --------------------------------------------------------------------


def unit(row: torch.Tensor) -> list[float]:
    length = math.sqrt(math.fsum(float(v) ** 2 for v in row))
    return [float(v) / length for v in row]


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(u * v for u, v in zip(a, b, strict=True))


def squared(a: list[float], b: list[float]) -> float:
    return math.fsum((u - v) ** 2 for u, v in zip(a, b, strict=True))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def align_by_loop(x, y, alpha):
    return mean([math.sqrt(squared(unit(a), unit(b))) ** alpha for a, b in zip(x, y, strict=True)])


def uniform_by_loop(x, t):
    rows = [unit(a) for a in x]
    return math.log(mean([math.exp(-t * squared(a, b)) for a, b in combinations(rows, 2)]))


def info_nce_by_loop(x, y, temperature):
    a, b = [unit(row) for row in x], [unit(row) for row in y]
    s = [[cosine(p, q) / temperature for q in b] for p in a]
    num = len(a)
    rows = [math.log(math.fsum(math.exp(s[i][j] - s[i][i]) for j in range(num))) for i in range(num)]
    columns = [math.log(math.fsum(math.exp(s[i][j] - s[j][j]) for i in range(num))) for j in range(num)]
    return (mean(rows) + mean(columns)) / 2


def nt_xent_by_loop(all_views, temperature):
    rows = [(n, v, unit(z[n])) for v, z in enumerate(all_views) for n in range(len(z))]
    values = []
    for n, v, z in rows:
        others = [(m, w, cosine(z, q) / temperature) for m, w, q in rows if (m, w) != (n, v)]
        for m, _, positive in others:
            if m == n:
                values.append(math.log(math.fsum(math.exp(s - positive) for _, _, s in others)))
    return mean(values)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 3.0])
def test_align_is_the_loop(alpha):
    x, y = views(7, 5)
    assert float(losses.align_loss(x, y, alpha)) == pytest.approx(align_by_loop(x, y, alpha), rel=1e-13)


@pytest.mark.parametrize("t", [0.5, 2.0, 8.0])
def test_uniform_is_the_loop(t):
    x = draw(9, 4)
    assert float(losses.uniform_loss(x, t)) == pytest.approx(uniform_by_loop(x, t), abs=1e-13)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_info_nce_is_the_loop(temperature):
    x, y = views(8, 5)
    expected = info_nce_by_loop(x, y, temperature)
    assert float(losses.info_nce_loss(x, y, temperature=temperature)) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("num_views", [2, 3, 5])
def test_nt_xent_is_the_loop(temperature, num_views):
    z = views(6, 5, num_views)
    expected = nt_xent_by_loop(z, temperature)
    value = losses.nt_xent_loss(torch.stack(z, dim=1), temperature=temperature)
    assert float(value) == pytest.approx(expected, rel=1e-11)


def test_more_views_are_means_over_pairs_and_over_views():
    z = views(6, 5, 4)
    stacked = torch.stack(z, dim=1)
    pairs = list(combinations(z, 2))
    nce = mean([info_nce_by_loop(x, y, 0.3) for x, y in pairs])
    assert float(losses.info_nce_loss(stacked, temperature=0.3)) == pytest.approx(nce, rel=1e-12)
    align = mean([align_by_loop(x, y, 2) for x, y in pairs])
    uniform = mean([uniform_by_loop(x, 2) for x in z])
    value = losses.align_uniform_loss(stacked, align_weight=0.7, uniform_weight=0.4)
    assert float(value) == pytest.approx(0.7 * align + 0.4 * uniform, rel=1e-12)


def test_the_two_functions_keep_the_reference_names_order_and_defaults():
    x, y = (sphere.normalize(z) for z in views(16, 8))
    reference_align = (x - y).norm(p=2, dim=1).pow(2).mean()
    reference_uniform = torch.pdist(x, p=2).pow(2).mul(-2).exp().mean().log()
    torch.testing.assert_close(losses.align_loss(x, y), reference_align, rtol=1e-13, atol=0)
    torch.testing.assert_close(losses.uniform_loss(x), reference_uniform, rtol=1e-13, atol=0)
    torch.testing.assert_close(losses.align_loss(x, y, 1), (x - y).norm(dim=1).mean(), rtol=1e-13, atol=0)
    assert losses.uniform_loss(x, 3) == losses.uniform_loss(x=x, t=3)
    assert losses.align_loss(x, y, 1) == losses.align_loss(x=x, y=y, alpha=1)


# --- closed forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [2, 256])
def test_collapsed_points(num):
    z = torch.ones(num, 5, dtype=torch.float64)
    assert float(losses.info_nce_loss(z, z, temperature=0.07)) == pytest.approx(math.log(num), rel=1e-13)
    nt_xent = losses.nt_xent_loss(z, z, temperature=0.07)
    assert float(nt_xent) == pytest.approx(math.log(2 * num - 1), rel=1e-13)
    assert float(losses.align_uniform_loss(z, z)) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("num", "temperature", "value"),
    [
        (4, 0.1, 1.3619051493825363e-4),
        (4, 0.5, 0.34075295391313117),
        (4, 1.0, 0.74366838062867916),
        (256, 0.1, 0.011510481590220385),
        (256, 0.07, 1.5933041872598440e-4),
    ],
)
def test_info_nce_of_aligned_orthonormal_points(num, temperature, value):
    z = torch.eye(num, dtype=torch.float64)
    assert float(losses.info_nce_loss(z, z, temperature=temperature)) == pytest.approx(value, rel=1e-14)
    assert float(losses.info_nce_loss(z.float(), z.float(), temperature=temperature)) == pytest.approx(
        value, rel=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.05, 0.025, 0.01, 0.002])
def test_tiny_losses_keep_their_accuracy(temperature, dtype):
    num = 5
    z = torch.eye(num, dtype=dtype)
    rel = 1e-13 if dtype == torch.float64 else 1e-6
    tiny = math.log1p((num - 1) * math.exp(-1 / temperature))
    # float32 holds no value below 1e-45
    value = losses.info_nce_loss(z, z, temperature=temperature)
    assert float(value) == pytest.approx(tiny, rel=rel, abs=1e-45 if dtype == torch.float32 else 0)
    # NT-Xent: 2 (N - 1) others at a right angle
    tiny = math.log1p(2 * (num - 1) * math.exp(-1 / temperature))
    value = losses.nt_xent_loss(z, z, temperature=temperature)
    assert float(value) == pytest.approx(tiny, rel=rel, abs=1e-45 if dtype == torch.float32 else 0)


@pytest.mark.parametrize(
    ("num", "temperature", "value"),
    [
        (4, 0.1, 4.8587785730541037e-6),
        (4, 0.5, 0.18933883936464216),
        (256, 0.1, 0.011070267356881216),
    ],
)
def test_info_nce_is_lowest_on_the_simplex(num, temperature, value):
    z = sphere.simplex(num, num - 1)
    assert float(losses.info_nce_loss(z, z, temperature=temperature)) == pytest.approx(value, rel=1e-12)


def test_alignment_and_uniformity_of_known_points():
    eye = torch.eye(6, dtype=torch.float64)
    for alpha in (1, 2, 3):
        assert float(losses.align_loss(eye, -eye, alpha)) == pytest.approx(2**alpha, rel=1e-15)
        turned = eye.roll(1, dims=0)
        assert float(losses.align_loss(eye, turned, alpha)) == pytest.approx(2 ** (alpha / 2), rel=1e-15)
        assert float(losses.align_loss(eye, eye, alpha)) == 0
    assert float(losses.uniform_loss(eye, 3)) == pytest.approx(-6, rel=1e-14)
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert float(losses.uniform_loss(pair)) == pytest.approx(-8, rel=1e-14)
    assert float(losses.uniform_loss(sphere.simplex(8, 7))) == pytest.approx(-2 * 2 * 8 / 7, rel=1e-13)


# --- the decomposition --------------------------------------------------------------------------------


def test_decomposition_limit_of_aligned_uniform_points():
    # -1/temperature + log 0F1(; 3/2; 1/(4 temperature^2)) at temperature .5
    limit = -1.4047798079457772
    excess = []
    for num in (100, 1000, 4000):
        z = sphere.sample_uniform(num, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        loss = InfoNCELoss(temperature=0.5)
        excess.append(float(loss(z, z)) - math.log(num) - limit)
    assert [abs(gap) for gap in excess] == sorted((abs(gap) for gap in excess), reverse=True)
    assert abs(excess[-1]) < 2e-3


@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("module", [InfoNCELoss, NTXentLoss])
def test_terms_add_up_to_the_loss_and_are_what_they_say(module, num_views):
    z = views(7, 5, num_views)
    temperature, num = 0.3, 7
    loss = module(temperature)
    value = loss(torch.stack(z, dim=1))
    terms = {name: float(term) for name, term in loss.terms.items()}
    assert list(terms) == ["alignment", "uniformity", "log_candidates"]
    assert math.fsum(terms.values()) == pytest.approx(float(value), rel=1e-14)
    x = [[unit(row) for row in view] for view in z]
    pairs = list(combinations(range(num_views), 2))
    positive = mean([cosine(x[v][n], x[w][n]) / temperature for v, w in pairs for n in range(num)])
    assert terms["alignment"] == pytest.approx(-positive, rel=1e-13)
    if module is InfoNCELoss:
        logs = [
            math.log(mean([math.exp(cosine(x[v][n], other) / temperature) for other in x[w]]))
            for pair in pairs
            for v, w in (pair, pair[::-1])
            for n in range(num)
        ]
        candidates = num
    else:
        flat = [row for view in x for row in view]
        logs = [
            math.log(mean([math.exp(cosine(z, q) / temperature) for k, q in enumerate(flat) if k != i]))
            for i, z in enumerate(flat)
        ]
        candidates = num_views * num - 1
    assert terms["log_candidates"] == pytest.approx(math.log(candidates), rel=1e-15)
    assert terms["uniformity"] == pytest.approx(mean(logs), rel=1e-12)


def test_terms_of_align_uniform_are_unweighted_and_those_of_a_sum_are_prefixed():
    x, y = views(7, 5)
    loss = AlignUniformLoss(align_weight=0.25, uniform_weight=3.0, alpha=1, t=3)
    value = loss(x, y)
    align, uniform = (float(loss.terms[name]) for name in ("alignment", "uniformity"))
    assert align == pytest.approx(align_by_loop(x, y, 1), rel=1e-13)
    assert uniform == pytest.approx((uniform_by_loop(x, 3) + uniform_by_loop(y, 3)) / 2, rel=1e-13)
    assert float(value) == pytest.approx(0.25 * align + 3 * uniform, rel=1e-14)

    both = CombinedLoss(
        [(2.0, loss), (0.5, InfoNCELoss(0.1)), (0, InfoNCELoss(0.2)), (1, torch.nn.MSELoss())]
    )
    total = both(x, y)
    assert [name for name in both.terms if "." not in name] == [
        "align_uniform",
        "info_nce",
        "info_nce_2",
        "MSELoss",
    ]
    assert float(both.terms["align_uniform.alignment"]) == align
    parts = {name: float(both.terms[name]) for name in ("align_uniform", "info_nce", "MSELoss")}
    expected = 2 * parts["align_uniform"] + 0.5 * parts["info_nce"] + parts["MSELoss"]
    assert float(total) == pytest.approx(expected, rel=1e-14)
    assert float(both.terms["info_nce_2"]) == pytest.approx(info_nce_by_loop(x, y, 0.2), rel=1e-12)


def test_uniformity_is_averaged_per_view_not_pooled():
    x, y = views(12, 4, spread=0.1)
    loss = AlignUniformLoss()
    loss(x, y)
    per_view = (uniform_by_loop(x, 2) + uniform_by_loop(y, 2)) / 2
    pooled = uniform_by_loop(torch.cat([x, y]), 2)
    assert float(loss.terms["uniformity"]) == pytest.approx(per_view, rel=1e-13)
    assert abs(per_view - pooled) > 0.1


# --- relations ----------------------------------------------------------------------------------------


@EVERY
def test_two_tensors_or_one_stacked(loss):
    x, y = views(9, 6)
    assert float(loss(x, y)) == float(loss(torch.stack([x, y], dim=1)))


@EVERY
def test_views_swap_and_rows_permute(loss):
    x, y = views(9, 6)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    value = float(loss(x, y))
    assert float(loss(y, x)) == pytest.approx(value, rel=1e-13)
    assert float(loss(x[order], y[order])) == pytest.approx(value, rel=1e-13)


@EVERY
def test_rotation_changes_nothing(loss):
    x, y = views(9, 6)
    rotation = torch.linalg.qr(draw(6, 6, seed=5)).Q
    assert float(loss(x @ rotation, y @ rotation)) == pytest.approx(float(loss(x, y)), rel=1e-12)


@EVERY
def test_zero_coordinates_change_nothing(loss):
    x, y = (torch.nn.functional.pad(z, (0, 3)) for z in views(9, 6))
    assert float(loss(x, y)) == pytest.approx(float(loss(x[:, :6], y[:, :6])), rel=1e-13)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_rows_by_powers_of_two_changes_no_bit(loss, dtype):
    x, y = (z.to(dtype) for z in views(9, 6))
    powers = torch.tensor([2.0**k for k in (-30, -8, -1, 0, 1, 2, 3, 9, 40)], dtype=dtype)[:, None]
    assert float(loss(x * powers, y / powers)) == float(loss(x, y))
    assert float(loss(0.37 * x, 11.3 * y)) == pytest.approx(float(loss(x, y)), rel=2e-6)


@EVERY
def test_gradients_are_tangential_and_scale_inversely(loss):
    x, y = (z.requires_grad_() for z in views(9, 6))
    grads = torch.autograd.grad(loss(x, y), (x, y))
    for z, grad in zip((x, y), grads, strict=True):
        assert (z * grad).sum(dim=1).abs().max() < 1e-15
        assert grad.abs().max() > 1e-4
    scaled = [(4.3 * z).detach().requires_grad_() for z in (x, y)]
    for grad, other in zip(grads, torch.autograd.grad(loss(*scaled), scaled), strict=True):
        torch.testing.assert_close(other, grad / 4.3, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_info_nce_lies_within_its_bounds(temperature):
    for seed in range(5):
        x, y = views(10, 4, seed=10 * seed)
        value = float(losses.info_nce_loss(x, y, temperature=temperature))
        low = math.log1p(9 * math.exp(-10 / (9 * temperature)))
        high = math.log1p(9 * math.exp(2 / temperature))
        assert low <= value <= high


def test_jensen_bounds_the_uniformity_term_by_the_uniformity_loss():
    # E log mean <= log E mean, with t = 1 / (2 temperature); NT-Xent leaves out self pairs as the loss does
    z = draw(20, 5)
    temperature = 0.25
    loss = NTXentLoss(temperature)
    loss(z[:10], z[10:])
    bound = 1 / temperature + float(losses.uniform_loss(z, 1 / (2 * temperature)))
    assert float(loss.terms["uniformity"]) <= bound


def test_a_term_without_weight_is_measured_but_moves_nothing():
    x, y = (z.requires_grad_() for z in views(9, 6))
    for weights, alone in (
        ((1.0, 0.0), lambda: losses.align_loss(x, y)),
        ((0.0, 1.0), lambda: (losses.uniform_loss(x) + losses.uniform_loss(y)) / 2),
    ):
        loss = AlignUniformLoss(*weights)
        grads = torch.autograd.grad(loss(x, y), (x, y))
        assert set(loss.terms) == {"alignment", "uniformity"}
        for grad, expected in zip(grads, torch.autograd.grad(alone(), (x, y)), strict=True):
            torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-15)
    both = CombinedLoss([(1.0, InfoNCELoss()), (0.0, AlignUniformLoss())])
    grads = torch.autograd.grad(both(x, y), (x, y))
    expected = torch.autograd.grad(losses.info_nce_loss(x, y), (x, y))
    torch.testing.assert_close(grads, expected, rtol=0, atol=0)
