"""Small sets as one tile with gradients in one pass, and groups in squares, against definitions."""

import math

import pytest
import torch

from spherometer import pairs
from spherometer.kernels import Categorical, Gaussian
from spherometer.losses import DenseAlignUniformLoss, DenseInfoNCELoss
from spherometer.pairs import _conditional, _populations

F64 = torch.float64


def points(num, dim=5, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randn(dim, generator=generator, dtype=F64)
    return torch.nn.functional.normalize(
        shift + spread * torch.randn(num, dim, generator=generator, dtype=F64)
    )


def ages(num):
    return 20 + 50 * torch.rand(num, generator=torch.Generator().manual_seed(3), dtype=F64)


def similarity(num, kernel, dtype=F64):
    """As the engine takes it, and in full: w with ones on the diagonal."""
    values = ages(num) if isinstance(kernel, Gaussian) else torch.arange(num) % 4
    return pairs.Similarity(kernel, kernel.rows(kernel.encode(values), dtype)), kernel(values)


def agree(found, wanted, inputs, within, scale=1.0):
    """Values and gradients."""
    torch.testing.assert_close(found.double(), wanted, rtol=within, atol=within * scale)
    one, two = (torch.autograd.grad(each, inputs, retain_graph=True) for each in (found, wanted))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=within, atol=within * float(b.abs().max()))


KERNELS = pytest.mark.parametrize(
    "kernel", [Gaussian(9.0), Gaussian(1e-6), Gaussian(1e6), Categorical()], ids=str
)
PRECISION = pytest.mark.parametrize(("dtype", "within"), [(F64, 1e-11), (torch.float32, 2e-5)])


@KERNELS
@PRECISION
@pytest.mark.parametrize("spread", [1.0, 1e-2])
def test_the_mean_over_anchors_is_that_of_the_matrix(kernel, dtype, within, spread):
    x, y = (points(30, seed=seed, spread=spread).to(dtype).double().requires_grad_() for seed in (0, 0))
    y = (y.detach() + 0.1 * spread * points(30, seed=9)).to(dtype).double().requires_grad_()
    given, w = similarity(30, kernel, dtype)
    found = pairs.anchor_mean(x.to(dtype), y.to(dtype), given, 2.0)
    squared = (x[:, None] - y).square().sum(dim=2)
    wanted = ((w * squared).sum(dim=1) / w.sum(dim=1)).mean()
    # the gradients of rows that lie close together are differences of the same products
    agree(found, wanted, (x, y), within if dtype == F64 else within / spread, scale=float(wanted.detach()))


@KERNELS
@PRECISION
@pytest.mark.parametrize("small", [512, 8])
def test_the_gap_between_partner_and_positives(kernel, dtype, within, small, monkeypatch):
    monkeypatch.setattr(_conditional, "_SMALL", small)
    x, y = (points(30, seed=seed).to(dtype).double().requires_grad_() for seed in (0, 1))
    given, w = similarity(30, kernel, dtype)
    found = pairs.mean_gap(x.to(dtype), y.to(dtype), given)
    z, both = torch.cat([x, y]), w.repeat(2, 2).fill_diagonal_(0)
    shares = both / both.sum(dim=1, keepdim=True)
    wanted = (z * (z.roll(30, 0) - shares @ z)).sum(dim=1).mean()
    agree(found, wanted, (x, y), within)


def test_no_gap_where_the_kernel_tells_all_samples_apart():
    given, _ = similarity(30, Gaussian(1e-6), torch.float32)
    assert float(pairs.mean_gap(points(30).float(), points(30, seed=1).float(), given)) == 0


def test_second_derivatives_of_one_tile():
    given, _ = similarity(6, Gaussian(20.0))
    x, y = (points(6, 3, seed).requires_grad_() for seed in (0, 1))
    for function in (
        lambda x, y: pairs.anchor_mean(x, y, given, 2.0),
        lambda x, y: pairs.mean_gap(x, y, given),
    ):
        assert torch.autograd.gradgradcheck(function, (x, y))


@pytest.mark.parametrize("sizes", [(4,) * 5, (1, 4, 3, 4), (7,), (2, 1)], ids=str)
@pytest.mark.parametrize("batch", [1 << 17, 1])
@pytest.mark.parametrize("t", [2.0, 300.0])
@PRECISION
def test_pairs_within_groups_of_one_size_and_of_several(sizes, batch, t, dtype, within, monkeypatch):
    monkeypatch.setattr(_populations, "_BATCH", batch)
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    x = points(len(groups)).to(dtype).double().requires_grad_()
    sharp = torch.tensor(t, dtype=F64, requires_grad=True)
    found = pairs.population_log_sum(x.to(dtype), sharp, groups, "within")
    together = (groups[:, None] == groups).fill_diagonal_(False)
    exponents = -sharp * (x[:, None] - x).square().sum(dim=2)
    wanted = torch.logsumexp(exponents[together], 0)
    agree(found, wanted, (x, sharp), within * max(1.0, t / 10))
    count = int(together.sum())
    assert pairs.num_meetings(groups, "within") == count
    assert pairs.num_meetings(groups, "all") == len(groups) * (len(groups) - 1)
    assert pairs.num_meetings(groups, "between") == len(groups) * (len(groups) - 1) - count


@pytest.mark.parametrize(
    "loss", [DenseAlignUniformLoss(matching="index"), DenseInfoNCELoss(dense_weight=1.0)], ids=str
)
def test_pairs_of_all_cells_are_those_that_are_named(loss):
    z = [points(3 * 4, 4, seed).view(3, 2, 2, 4).movedim(3, 1).contiguous() for seed in (0, 1)]
    one, two = (each.flatten(2).mT for each in z)
    index = loss.matching == "index"
    named = torch.arange(4).expand(3, 4).contiguous() if index else (one @ two.mT).argmax(dim=2)
    found = []
    for matches in (None, named):
        leaves = [each.clone().requires_grad_() for each in z]
        value = loss(*leaves, matches=matches)
        found.append((value.detach(), *torch.autograd.grad(value, leaves), loss.terms["matched"]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_sets_on_both_sides_of_the_limit_agree():
    num = 490  # one tile for the pull, three for the push
    given, w = similarity(num, Gaussian(9.0))
    x = points(num)
    value, mass = pairs.conditional_potential(x, 2.0, given)
    tiled, tiled_mass = pairs.conditional_potential(x, 2.0, given, tile=(64, 100))
    torch.testing.assert_close(
        torch.stack([value, mass]), torch.stack([tiled, tiled_mass]), rtol=1e-12, atol=0
    )
    assert float(mass) == pytest.approx(math.log(float((1 - w).sum())), rel=1e-12)
