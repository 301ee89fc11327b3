"""Gradients of the losses, and their accuracy in every precision."""

import math
import re

import mpmath
import pytest
import torch

from spherometer import losses
from spherometer.errors import UndefinedError
from spherometer.losses import AlignUniformLoss, CombinedLoss, InfoNCELoss, NTXentLoss

MODULES = {
    "align": AlignUniformLoss(uniform_weight=0.0),
    "align_1": AlignUniformLoss(uniform_weight=0.0, alpha=1.0),
    "align_3": AlignUniformLoss(uniform_weight=0.0, alpha=3.0),
    "align_uniform": AlignUniformLoss(),
    "uniform_5": AlignUniformLoss(align_weight=0.0, t=5.0),
    "info_nce": InfoNCELoss(),
    "info_nce_cold": InfoNCELoss(0.05),
    "nt_xent": NTXentLoss(),
    "nt_xent_cold": NTXentLoss(0.05),
    "combined": CombinedLoss([(1.0, AlignUniformLoss()), (0.5, InfoNCELoss(0.2))]),
}
EVERY = pytest.mark.parametrize("loss", MODULES.values(), ids=MODULES)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def number(value: torch.Tensor) -> float:
    return float(value.detach())


def views(num: int, dim: int, seed: int = 0, spread: float = 0.5) -> list[torch.Tensor]:
    centre = draw(num, dim, seed=seed)
    return [centre + spread * draw(num, dim, seed=seed + 1 + v) for v in range(2)]


@EVERY
@pytest.mark.parametrize("num_views", [2, 3])
def test_first_and_second_derivatives(loss, num_views):
    z = draw(4, num_views, 3).requires_grad_()
    assert torch.autograd.gradcheck(loss, (z,), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(loss, (z,), eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("function", [losses.info_nce_loss, losses.nt_xent_loss])
@pytest.mark.parametrize("num_views", [2, 3])
def test_a_learnable_temperature(function, num_views):
    z = draw(4, num_views, 3).requires_grad_()
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    call = lambda z, temperature: function(z, temperature=temperature)
    assert torch.autograd.gradcheck(call, (z, temperature), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(call, (z, temperature), eps=1e-6, atol=1e-6, fast_mode=True)
    scale = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)  # the logarithm of 1 / temperature
    assert torch.autograd.gradcheck(
        lambda z, s: function(z, temperature=torch.exp(-s)), (z, scale), fast_mode=True
    )


def test_a_learnable_t():
    z = draw(5, 2, 3).requires_grad_()
    t = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    call = lambda z, t: losses.align_uniform_loss(z, t=t)
    assert torch.autograd.gradcheck(call, (z, t), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(call, (z, t), eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(
    ("module", "name"), [(InfoNCELoss, "temperature"), (NTXentLoss, "temperature"), (AlignUniformLoss, "t")]
)
def test_a_parameter_is_registered_trained_and_saved(module, name):
    loss = module(**{name: torch.nn.Parameter(torch.tensor(0.4))})
    (parameter,) = loss.parameters()
    z = [view.float() for view in views(16, 6)]
    before = number(loss(*z))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    loss(*z).backward()
    assert parameter.grad is not None
    assert torch.isfinite(parameter.grad)
    assert parameter.grad != 0
    optimizer.step()
    assert number(loss(*z)) < before
    assert list(loss.state_dict()) == [name]
    assert f"{name}={float(parameter.detach()):g} (learnable)" in repr(loss)


@EVERY
@pytest.mark.parametrize("num", [2, 3, 64, 257])
def test_float32_agrees_with_float64(loss, num):
    z = [view.float() for view in views(num, 16)]
    exact = [view.double().requires_grad_() for view in z]
    z = [view.requires_grad_() for view in z]
    value, reference = loss(*z), loss(*exact)
    assert value.dtype == torch.float32
    assert abs(number(value) - number(reference)) <= 2e-6 + 6e-8 * abs(number(reference))
    for grad, expected in zip(
        torch.autograd.grad(value, z), torch.autograd.grad(reference, exact), strict=True
    ):
        if expected.abs().max() > 1e-12:  # two points: the negative of each has none
            assert torch.cosine_similarity(grad.double().flatten(), expected.flatten(), dim=0) >= 1 - 1e-6


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    z = [view.to(dtype).requires_grad_() for view in views(65, 16)]
    exact = [view.detach().double().requires_grad_() for view in z]
    value, reference = loss(*z), loss(*exact)
    assert value.dtype == torch.float32
    assert abs(number(value) - number(reference)) <= 2e-6 + 6e-8 * abs(number(reference))
    grads = torch.autograd.grad(value, z)
    for grad, expected in zip(grads, torch.autograd.grad(reference, exact), strict=True):
        assert grad.dtype == dtype
        assert torch.cosine_similarity(grad.double().flatten(), expected.flatten(), dim=0) >= 0.999


@pytest.mark.parametrize("eps", [1.0, 1e-1, 1e-2])
def test_alignment_of_close_pairs_in_float32(eps):
    # directions that float32 rows represent exactly, so only our arithmetic is measured
    x = torch.nn.functional.normalize(draw(1000, 64), dim=1).float()
    y = (x.double() + eps * draw(1000, 64, seed=1) / 8).float()
    a, b = (torch.nn.functional.normalize(z.double(), dim=1) for z in (x, y))
    expected = float((a - b).square().sum(1).mean())
    assert float(losses.align_loss(x, y)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.align_loss(x.double(), y.double())) == pytest.approx(expected, rel=4e-15)


@pytest.mark.parametrize("temperature", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("spread", [0.01, 0.2])
def test_info_nce_of_nearly_aligned_rows_against_50_digits(temperature, spread):
    x, y = (view.float() for view in views(6, 12, spread=spread))
    expected = info_nce_50_digits(x, y, temperature)
    value = number(losses.info_nce_loss(x.double(), y.double(), temperature=temperature))
    assert abs(value - expected) <= 1e-12 * max(expected, 1e-300) / temperature
    value = float(losses.info_nce_loss(x, y, temperature=temperature))
    # the rounding of a float32 logit is 6e-8 / temperature, relative, however small the loss
    assert abs(value - expected) <= min(2e-6, 4e-7 / temperature * expected) + 6e-8 * expected


def info_nce_50_digits(x: torch.Tensor, y: torch.Tensor, temperature: float) -> float:
    with mpmath.workdps(50):
        rows = []
        for z in (x, y):
            exact = [[mpmath.mpf(float(v)) for v in row] for row in z]
            rows.append([[v / mpmath.norm(row) for v in row] for row in exact])
        s = [[mpmath.fdot(a, b) / mpmath.mpf(temperature) for b in rows[1]] for a in rows[0]]
        num = range(len(s))
        down = [mpmath.log1p(mpmath.fsum(mpmath.exp(s[i][j] - s[i][i]) for j in num if j != i)) for i in num]
        over = [mpmath.log1p(mpmath.fsum(mpmath.exp(s[j][i] - s[i][i]) for j in num if j != i)) for i in num]
        return float((mpmath.fsum(down) + mpmath.fsum(over)) / (2 * len(s)))


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [losses.info_nce_loss, losses.nt_xent_loss])
def test_extreme_temperatures_stay_finite(function, temperature, dtype):
    z = [view.to(dtype).requires_grad_() for view in views(20, 4, spread=2.0)]
    value = function(*z, temperature=temperature)
    assert 0 <= number(value) <= math.log(40) + 2 / temperature
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(value, z))


@pytest.mark.parametrize("t", [1e-3, 30.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_t_stays_within_the_bounds(t, dtype):
    z = draw(20, 8).to(dtype).requires_grad_()
    value = losses.uniform_loss(z, t)
    assert -2 * t * 20 / 19 * (1 + 1e-6) <= number(value) <= 0
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(value, z))


@pytest.mark.parametrize("loss", [AlignUniformLoss(), InfoNCELoss(), NTXentLoss()], ids=lambda m: m.name)
def test_second_derivatives_of_many_rows_are_refused_by_name(loss):
    z = [view.requires_grad_() for view in views(1030, 2)]
    grads = torch.autograd.grad(loss(*z), z, create_graph=True)
    with pytest.raises(UndefinedError) as caught:
        torch.autograd.grad(grads[0].square().sum(), z)
    assert re.fullmatch(
        r"(gaussian_potential|masked_logsumexp): x must have at most 1024 rows to be differentiated twice, "
        r"because second derivatives are taken through the full matrix of pairs. Got (1030|2060) rows. "
        r"Differentiate once, or pass fewer rows.",
        str(caught.value),
    )


@pytest.mark.parametrize("temperature", [0.5, 0.01])
@pytest.mark.parametrize("name", ["info_nce", "nt_xent"])
def test_many_rows_agree_with_the_full_matrix(name, temperature):
    z = [view.requires_grad_() for view in views(1100, 8)]
    a, b = (torch.nn.functional.normalize(view, dim=1) for view in z)
    cross_entropy = torch.nn.functional.cross_entropy
    if name == "info_nce":
        value = losses.info_nce_loss(*z, temperature=temperature)
        logits, labels = a @ b.T / temperature, torch.arange(1100)
        expected = (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
    else:
        value = losses.nt_xent_loss(*z, temperature=temperature)
        logits = torch.cat([a, b]) @ torch.cat([a, b]).T / temperature
        own = torch.eye(2200, dtype=torch.bool)
        expected = cross_entropy(logits.masked_fill(own, -math.inf), torch.arange(2200).roll(1100))
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    grads, references = torch.autograd.grad(value, z), torch.autograd.grad(expected, z)
    torch.testing.assert_close(grads, references, rtol=1e-9, atol=1e-13)
