"""SupCon, decoupled uniformity and hyperspherical energy: definitions, closed forms, relations, refusals."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

import oracles
from spherometer import losses, metrics, sphere
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.losses import (
    AlignUniformLoss,
    CombinedLoss,
    DecoupledUniformityLoss,
    HypersphericalEnergyLoss,
    SupConLoss,
)

LABELS = [0, 3, 1, 0, 0, 1, 7]  # classes of 3, 2, 1 and 1
SETTINGS = pytest.mark.parametrize("temperature", [0.02, 0.1, 0.5, 2.5])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(num: int, dim: int, num_views: int = 2, seed: int = 0, spread: float = 0.5) -> list[torch.Tensor]:
    """Correlated views of rows of any length."""
    centre = draw(num, dim, seed=seed)
    return [3 * centre + 3 * spread * draw(num, dim, seed=seed + 1 + v) for v in range(num_views)]


def number(value: torch.Tensor) -> float:
    return float(value.detach())


def unit_rows(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


def sup_con_matrix(z: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """The full matrix, for many rows; ``z`` [N, V, D]."""
    rows = unit_rows(z.transpose(0, 1).flatten(0, 1))
    labels = labels.repeat(z.shape[1])
    own = torch.eye(len(rows), dtype=torch.bool)
    logits = (rows @ rows.T / temperature).masked_fill(own, -math.inf)
    positive = (labels[:, None] == labels) & ~own
    count = positive.sum(dim=1)
    shares = torch.logsumexp(logits, dim=1) - torch.where(positive, logits, 0.0).sum(dim=1) / count
    return shares[count > 0].mean()


# --- SupCon -------------------------------------------------------------------------------------------


@SETTINGS
@pytest.mark.parametrize("num_views", [1, 2, 3])
@pytest.mark.parametrize("labels", [LABELS, [5] * 7, [0, 1, 2, 3, 4, 5, 5]], ids=str)
def test_sup_con_is_the_definition(temperature, num_views, labels):
    z = views(7, 5, num_views)
    expected = oracles.sup_con(z, labels, temperature)
    value = losses.sup_con_loss(torch.stack(z, dim=1), labels=labels, temperature=temperature)
    assert number(value) == pytest.approx(expected, rel=1e-12, abs=1e-13 / temperature)


@SETTINGS
@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sup_con_of_distinct_classes_is_nt_xent(temperature, num_views, dtype):
    z = torch.stack(views(9, 6, num_views), dim=1).to(dtype).requires_grad_()
    found = losses.sup_con_loss(z, labels=torch.arange(9).flip(0), temperature=temperature)
    expected = losses.nt_xent_loss(z, temperature=temperature)
    close = {"rtol": 1e-12, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(found, expected, **close)
    gradients = [torch.autograd.grad(loss, z)[0] for loss in (found, expected)]
    bound = 1e-12 if dtype == torch.float64 else 2e-6
    assert (gradients[0] - gradients[1]).norm() <= bound * gradients[1].norm() / min(temperature, 1.0)


@pytest.mark.parametrize("temperature", [0.05, 0.025, 0.01])
def test_sup_con_of_single_samples_keeps_the_accuracy_of_tiny_losses(temperature):
    z = torch.eye(5, dtype=torch.float64)
    value = losses.sup_con_loss(z, z, torch.arange(5), temperature=temperature)
    tiny = math.log1p(8 * math.exp(-1 / temperature))
    assert float(value) == pytest.approx(tiny, rel=1e-12)


@SETTINGS
def test_sup_con_of_classes_on_a_simplex(temperature):
    # 3 classes of 4 samples at the corners of a triangle, two views: 7 positives and 16 others at -1/2
    corners = sphere.simplex(3, 2)
    labels = torch.arange(3).repeat_interleave(4)
    z = corners[labels]
    value = losses.sup_con_loss(z, z, labels, temperature=temperature)
    expected = math.log(7) + math.log1p(16 / 7 * math.exp(-1.5 / temperature))
    assert float(value) == pytest.approx(expected, rel=1e-13)
    z = z.float()
    value = losses.sup_con_loss(z, z, labels, temperature=temperature)
    assert float(value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("eps", [1e-2, 1e-4, 1e-6])
def test_class_means_are_as_accurate_as_differences(eps):
    """Positives nearer than float32 products could tell from 1: alignment by class sums, against the loop."""
    directions = sphere.sample_uniform(1, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (directions + eps * draw(40, 32, seed=1) / math.sqrt(32)).float()
    labels = torch.arange(40) % 4
    loss = SupConLoss(temperature=1.0)
    loss(x[:, None].double(), labels=labels)
    unit = oracles.unit(x.double().numpy())
    squared = [
        np.mean([oracles.squared_distance(unit[i], unit[p]) for p in range(40) if p != i and p % 4 == i % 4])
        for i in range(40)
    ]
    found = 2 * (1 + float(loss.terms["alignment"]))  # mean squared distance of positives
    # all that is left is the rounding of cosines near 1
    assert abs(found - math.fsum(squared) / 40) <= 4e-16


@pytest.mark.parametrize("temperature", [0.5, 0.05])
@pytest.mark.parametrize(("num", "num_views"), [(400, 2), (700, 1)])
def test_sup_con_of_many_rows_agrees_with_the_full_matrix(temperature, num, num_views):
    z = torch.stack(views(num, 8, num_views), dim=1).requires_grad_()
    labels = torch.randint(0, 30, (num,), generator=torch.Generator().manual_seed(1))
    value = losses.sup_con_loss(z, labels=labels, temperature=temperature)
    expected = sup_con_matrix(z, labels, temperature)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    found, wanted = (torch.autograd.grad(each, z)[0] for each in (value, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_terms_of_sup_con_add_up_and_are_what_they_say(num_views):
    z = views(7, 5, num_views)
    loss = SupConLoss(temperature=0.3)
    value = loss(torch.stack(z, dim=1), LABELS)
    terms = {name: float(term) for name, term in loss.terms.items()}
    assert list(terms) == ["alignment", "uniformity", "log_candidates"]
    assert math.fsum(terms.values()) == pytest.approx(float(value), rel=1e-14)
    assert terms["log_candidates"] == pytest.approx(math.log(7 * num_views - 1), rel=1e-15)
    rows = [(oracles.unit(view)[n], LABELS[n]) for view in z for n in range(7)]
    means = []
    for i, (row, label) in enumerate(rows):
        cosines = [float(row @ other) for j, (other, name) in enumerate(rows) if j != i and name == label]
        if cosines:
            means.append(math.fsum(cosines) / len(cosines))
    assert terms["alignment"] == pytest.approx(-math.fsum(means) / len(means) / 0.3, rel=1e-13)


def test_names_of_classes_mean_nothing_and_rows_permute():
    z = torch.stack(views(7, 5), dim=1)
    value = losses.sup_con_loss(z, labels=LABELS)
    others = [-4, 10**12, 6, -4, -4, 6, 0]
    assert torch.equal(losses.sup_con_loss(z, labels=others), value)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    permuted = losses.sup_con_loss(z[order], labels=torch.tensor(LABELS)[order])
    torch.testing.assert_close(permuted, value, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "dress",
    [
        torch.tensor,
        np.array,
        tuple,
        lambda labels: torch.tensor(labels, dtype=torch.uint8),
        lambda labels: np.array(labels, dtype=np.int16)[::-1][::-1],
    ],
    ids=["tensor", "array", "tuple", "bytes", "strided"],
)
def test_labels_of_any_whole_kind_and_place(dress):
    x, y = views(7, 5)
    value = losses.sup_con_loss(x, y, LABELS)
    stacked = torch.stack([x, y], dim=1)
    assert torch.equal(losses.sup_con_loss(x, y, dress(LABELS)), value)
    assert torch.equal(losses.sup_con_loss(stacked, labels=dress(LABELS)), value)
    assert torch.equal(losses.sup_con_loss(stacked, dress(LABELS)), value)
    assert torch.equal(SupConLoss()(stacked, dress(LABELS)), value)
    assert torch.equal(
        losses.sup_con_loss(x, y, np.array(LABELS) > 2), losses.sup_con_loss(x, y, [0, 1, 0, 0, 0, 0, 1])
    )


def test_rows_without_a_positive_are_candidates_only():
    z = draw(5, 4).requires_grad_()
    value = losses.sup_con_loss(z[:, None], labels=[0, 0, 1, 2, 3])
    assert number(value) == pytest.approx(oracles.sup_con([z.detach()], [0, 0, 1, 2, 3], 0.1), rel=1e-12)
    (grad,) = torch.autograd.grad(value, z)
    assert (grad.norm(dim=1) > 1e-8).all()  # pushed away by the two anchors
    assert not torch.allclose(value, losses.sup_con_loss(z[:2, None], labels=[0, 0]))


@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_first_and_second_derivatives_of_sup_con(num_views):
    z = draw(5, num_views, 3).requires_grad_()
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    call = lambda z, temperature: losses.sup_con_loss(z, labels=[0, 1, 0, 2, 0], temperature=temperature)
    assert torch.autograd.gradcheck(call, (z, temperature), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(call, (z, temperature), eps=1e-6, atol=1e-6, fast_mode=True)


def test_zero_rows_of_a_class_have_similarity_zero():
    z = draw(6, 2, 4)
    z[1, 0], z[3] = 0, 0
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    rows = torch.nn.functional.normalize(z, dim=2)
    logits = rows.transpose(0, 1).flatten(0, 1)
    logits = (logits @ logits.T / 0.1).fill_diagonal_(-math.inf)
    positive = (labels.repeat(2)[:, None] == labels.repeat(2)) & ~torch.eye(12, dtype=torch.bool)
    means = torch.where(positive, logits, 0.0).sum(dim=1) / positive.sum(dim=1)
    expected = (torch.logsumexp(logits, dim=1) - means).mean()
    torch.testing.assert_close(losses.sup_con_loss(z, labels=labels), expected, rtol=1e-12, atol=0)


# --- decoupled uniformity -----------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("num_views", [2, 3, 5])
def test_decoupled_uniformity_is_the_definition(t, num_views):
    z = views(8, 5, num_views)
    expected = oracles.decoupled_uniformity(z, t)
    value = losses.decoupled_uniformity_loss(torch.stack(z, dim=1), t=t)
    assert float(value) == pytest.approx(expected, rel=1e-13)


def test_decoupled_uniformity_of_aligned_views_is_uniformity():
    x = draw(9, 4)
    torch.testing.assert_close(
        losses.decoupled_uniformity_loss(x, 3 * x), losses.uniform_loss(x), rtol=1e-13, atol=0
    )
    stacked = x[:, None].repeat(1, 4, 1)
    torch.testing.assert_close(
        losses.decoupled_uniformity_loss(stacked, t=3.0), losses.uniform_loss(x, 3.0), rtol=1e-13, atol=0
    )


def test_decoupled_uniformity_of_opposite_views_is_that_of_one_point():
    x = draw(9, 4)
    assert float(losses.decoupled_uniformity_loss(x, -x)) == 0


@pytest.mark.parametrize("spread", [1e-5, 0.1, 2.0])
@pytest.mark.parametrize("num_views", [2, 3])
def test_terms_of_decoupled_uniformity(num_views, spread):
    z = views(8, 5, num_views, spread=spread)
    loss = DecoupledUniformityLoss()
    value = loss(torch.stack(z, dim=1))
    assert list(loss.terms) == ["alignment", "uniformity"]
    assert loss.terms["uniformity"] == value
    direct = AlignUniformLoss()
    direct(torch.stack(z, dim=1))
    torch.testing.assert_close(loss.terms["alignment"], direct.terms["alignment"], rtol=1e-9, atol=0)
    means = sum(unit_rows(view) for view in z) / num_views
    identity = 2 * num_views / (num_views - 1) * (1 - means.square().sum(dim=1).mean())  # 4 (1 - mean |mu|^2)
    torch.testing.assert_close(loss.terms["alignment"], identity, rtol=0, atol=1e-14)


@pytest.mark.parametrize("num_views", [2, 3])
def test_first_and_second_derivatives_of_decoupled_uniformity(num_views):
    z = draw(4, num_views, 3).requires_grad_()
    t = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    call = lambda z, t: losses.decoupled_uniformity_loss(z, t=t)
    assert torch.autograd.gradcheck(call, (z, t), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(call, (z, t), eps=1e-6, atol=1e-6, fast_mode=True)


def test_decoupled_uniformity_pulls_views_together():
    torch.manual_seed(0)
    z = torch.stack(views(16, 8, spread=1.0), dim=1).requires_grad_()
    loss, optimizer = DecoupledUniformityLoss(), torch.optim.SGD([z], lr=20.0)
    first = None
    for _ in range(60):
        optimizer.zero_grad()
        loss(z).backward()
        optimizer.step()
        first = first or float(loss.terms["alignment"])
    assert float(loss.terms["alignment"]) < 0.1 * first


# --- hyperspherical energy ----------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0, 0.5, 1.0, 2, 3.0, 20.0])
def test_energy_is_the_definition_and_the_metric(power):
    x, y = views(9, 4)
    expected = [oracles.hyperspherical_energy(z, power) for z in (x, y)]
    value = losses.hyperspherical_energy_loss(x, y, power=power, eps=1e-12)
    assert float(value) == pytest.approx(math.fsum(expected) / 2, rel=1e-13)
    both = [metrics.hyperspherical_energy(z, power=power) for z in (x, y)]
    torch.testing.assert_close(value, torch.stack(both).mean(), rtol=1e-12, atol=0)
    loss = HypersphericalEnergyLoss(power, eps=1e-12)
    assert loss(torch.stack([x, y], dim=1)) == value
    assert list(loss.terms) == ["energy"]
    assert float(loss.terms["energy"]) == float(value)
    for one in (x, x[:, None]):
        assert float(loss(one)) == pytest.approx(expected[0], rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("power", [0, 1.0, 2.0, 4.0])
def test_the_floor_bounds_the_energy_of_coinciding_rows(dtype, power):
    x = draw(6, 3).to(dtype)
    x[3], x[5] = x[0], x[0]
    x.requires_grad_()
    eps = 1e-4
    value = losses.hyperspherical_energy_loss(x, power=power, eps=eps)
    unit = oracles.unit(x.detach().double().numpy())
    squared = [max(oracles.squared_distance(unit[i], unit[j]), eps) for i in range(6) for j in range(i)]
    parts = [each ** (-power / 2) if power else -math.log(each) / 2 for each in squared]
    assert number(value) == pytest.approx(
        math.fsum(parts) / 15, rel=2e-6 if dtype != torch.float64 else 1e-12
    )
    (grad,) = torch.autograd.grad(value, x)
    assert torch.isfinite(grad).all()
    assert grad.abs().max() < 1e3  # of the pairs that differ: the three in one place do not push each other
    torch.testing.assert_close(grad[3], grad[0], rtol=1e-2 if dtype == torch.bfloat16 else 5e-3, atol=1e-6)


@pytest.mark.parametrize("power", [0, 1.0, 3.0])
def test_pairs_below_the_floor_have_no_gradient_and_others_all_of_it(power):
    angle = torch.tensor([0.0, 0.05, 2.0], dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin()], dim=1).requires_grad_()
    floored = losses.hyperspherical_energy_loss(x, power=power, eps=0.01)
    (found,) = torch.autograd.grad(floored, x)
    far = losses.hyperspherical_energy_loss(x[[0, 2]], power=power) / 3
    far = far + losses.hyperspherical_energy_loss(x[[1, 2]], power=power) / 3
    (expected,) = torch.autograd.grad(far, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    free = losses.hyperspherical_energy_loss(x, power=power, eps=1e-3)
    assert torch.autograd.grad(free, x)[0].norm() > 2 * found.norm()


@pytest.mark.parametrize("power", [0, 1.0, 2.0, 3.5])
def test_first_and_second_derivatives_of_the_energy(power):
    z = draw(5, 2, 3).requires_grad_()
    call = lambda z: losses.hyperspherical_energy_loss(z, power=power)
    assert torch.autograd.gradcheck(call, (z,), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(call, (z,), eps=1e-6, atol=1e-6, fast_mode=True)
    duplicated = draw(4, 3)
    duplicated[1] = duplicated[0] + 0.01
    duplicated.requires_grad_()
    floored = lambda z: losses.hyperspherical_energy_loss(z, power=power, eps=0.1)
    assert torch.autograd.gradcheck(floored, (duplicated,), eps=1e-6, atol=1e-7)


def test_descent_on_the_energy_finds_the_tetrahedron():
    x = draw(4, 3, seed=3).requires_grad_()
    optimizer = torch.optim.SGD([x], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        losses.hyperspherical_energy_loss(x).backward()
        optimizer.step()
    best = metrics.hyperspherical_energy(sphere.simplex(4, 3))
    assert float(losses.hyperspherical_energy_loss(x.detach())) == pytest.approx(float(best), rel=1e-6)


# --- all three ----------------------------------------------------------------------------------------

MODULES = {
    "sup_con": lambda: SupConLoss(0.2),
    "decoupled": DecoupledUniformityLoss,
    "energy": HypersphericalEnergyLoss,
    "log energy": lambda: HypersphericalEnergyLoss(0),
}


def call(loss, x, y):
    return loss(x, y, [i % 3 for i in range(len(x))]) if isinstance(loss, SupConLoss) else loss(x, y)


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("num", [3, 64, 257])
def test_float32_agrees_with_float64(make, num):
    z = [view.float().requires_grad_() for view in views(num, 16)]
    exact = [view.detach().double().requires_grad_() for view in z]
    value, reference = call(make(), *z), call(make(), *exact)
    assert value.dtype == torch.float32
    assert abs(number(value) - number(reference)) <= 2e-6 + 6e-8 * abs(number(reference))
    found, wanted = torch.autograd.grad(value, z), torch.autograd.grad(reference, exact)
    for grad, expected in zip(found, wanted, strict=True):
        assert torch.cosine_similarity(grad.double().flatten(), expected.flatten(), dim=0) >= 1 - 1e-6


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_gradients_are_tangential_and_scale_inversely(make):
    x, y = (z.requires_grad_() for z in views(9, 6))
    grads = torch.autograd.grad(call(make(), x, y), (x, y))
    for z, grad in zip((x, y), grads, strict=True):
        assert (z * grad).sum(dim=1).abs().max() < 1e-14
        assert grad.abs().max() > 1e-4
    scaled = [(4.3 * z).detach().requires_grad_() for z in (x, y)]
    for grad, other in zip(grads, torch.autograd.grad(call(make(), *scaled), scaled), strict=True):
        torch.testing.assert_close(other, grad / 4.3, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_modules_are_copied_pickled_and_hold_no_graph(make):
    loss = make()
    x, y = (z.requires_grad_() for z in views(9, 4))
    value = call(loss, x, y)
    assert all(term.grad_fn is None and term.shape == () for term in loss.terms.values())
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert call(twin, x, y) == value
    assert loss.state_dict() == {}


@pytest.mark.parametrize("make", [SupConLoss, DecoupledUniformityLoss], ids=["sup_con", "decoupled"])
def test_a_parameter_is_registered_trained_and_saved(make):
    loss = make(torch.nn.Parameter(torch.tensor(0.7)))
    x, y = (view.float() for view in views(16, 6))
    before = call(loss, x, y)
    before.backward()
    (parameter,) = loss.parameters()
    with torch.no_grad():
        parameter -= 0.01 * parameter.grad.sign()
    assert call(loss, x, y) < before
    assert "0.7" in repr(make(torch.tensor(0.7)))


def test_a_weighted_sum_knows_their_names():
    x, y = views(9, 6)
    loss = CombinedLoss([(1.0, AlignUniformLoss(uniform_weight=0.0)), (0.1, HypersphericalEnergyLoss())])
    value = loss(x, y)
    parts = losses.align_loss(x, y), losses.hyperspherical_energy_loss(x, y)
    torch.testing.assert_close(value, parts[0] + 0.1 * parts[1], rtol=1e-13, atol=0)
    assert {"hyperspherical_energy", "hyperspherical_energy.energy"} < set(loss.terms)


@pytest.mark.parametrize("make", [DecoupledUniformityLoss, HypersphericalEnergyLoss], ids=lambda m: m.name)
def test_second_derivatives_of_many_rows_are_refused_by_name(make):
    z = [view.requires_grad_() for view in views(1030, 2)]
    grads = torch.autograd.grad(make()(*z), z, create_graph=True)
    with pytest.raises(UndefinedError) as caught:
        torch.autograd.grad(grads[0].square().sum(), z)
    name = "riesz_energy" if make is HypersphericalEnergyLoss else "gaussian_potential"
    assert str(caught.value) == (
        f"{name}: x must have at most 1024 rows to be differentiated twice, because second derivatives are "
        "taken through the full matrix of pairs. Got 1030 rows. Differentiate once, or pass fewer rows."
    )


def test_modules_show_their_settings():
    assert repr(SupConLoss()) == "SupConLoss(temperature=0.1)"
    assert repr(SupConLoss(gather=False)) == "SupConLoss(temperature=0.1, gather=False)"
    assert repr(DecoupledUniformityLoss(3)) == "DecoupledUniformityLoss(t=3)"
    assert repr(HypersphericalEnergyLoss(0, eps=1e-3)) == "HypersphericalEnergyLoss(power=0, eps=0.001)"


# --- refusals, in full --------------------------------------------------------------------------------

Z = torch.eye(3, 2)
LABEL_RULE = (
    "labels must be whole numbers, because each names the class of a row, and a row without one has no "
    "positives. Got {}. Pass one whole number for each row, or use nt_xent_loss without labels."
)
ERRORS = [
    (lambda: losses.sup_con_loss(Z, Z), InputError, "sup_con_loss: " + LABEL_RULE.format("None")),
    (
        lambda: SupConLoss()(Z, Z, torch.tensor([0.0, math.nan, 1.0])),
        InputError,
        "SupConLoss: " + LABEL_RULE.format("dtype float32"),
    ),
    (
        lambda: losses.sup_con_loss(Z, Z, np.array([0.0, 1.0, 2.0])),
        InputError,
        "sup_con_loss: " + LABEL_RULE.format("dtype float64"),
    ),
    (
        lambda: losses.sup_con_loss(Z, Z, [0, None, 1]),
        InputError,
        "sup_con_loss: " + LABEL_RULE.format("[0, None, 1]"),
    ),
    (
        lambda: losses.sup_con_loss(Z, Z, ["a", "b", "a"]),
        InputError,
        "sup_con_loss: " + LABEL_RULE.format("dtype <U1"),
    ),
    (
        lambda: losses.sup_con_loss(Z, Z, [0, 1]),
        ShapeError,
        "sup_con_loss: labels must have one entry for each row, because entry i is the class of row i in "
        "every view. Got shape (2,) for 3 rows. Pass a tensor, an array or a list of N whole numbers.",
    ),
    (
        lambda: losses.sup_con_loss(Z, Z, torch.zeros(3, 1, dtype=torch.int64)),
        ShapeError,
        "sup_con_loss: labels must have one entry for each row, because entry i is the class of row i in "
        "every view. Got shape (3, 1) for 3 rows. Pass a tensor, an array or a list of N whole numbers.",
    ),
    (
        lambda: losses.sup_con_loss(Z[:, None], labels=[0, 1, 2]),
        UndefinedError,
        "sup_con_loss: labels must hold at least one class with two rows when there is one view, because a "
        "row is pulled towards the other rows of its class. Got 3 classes for 3 rows. Pass class labels, not "
        "row identifiers, or two views.",
    ),
    (
        lambda: losses.sup_con_loss(Z, labels=[0, 1, 2]),
        ShapeError,
        "sup_con_loss: z1 must have shape [N, V, D] with V >= 2 when z2 is not given, because a positive "
        "pair is two views of one sample. Got shape (3, 2). Pass z1 and z2 of shape [N, D] each, or "
        "torch.stack([z1, z2], dim=1).",
    ),
    (
        lambda: losses.sup_con_loss(Z[:1, None], labels=[0]),
        UndefinedError,
        "sup_con_loss: z1 must have at least 2 rows, because the quantity is a mean over pairs of rows. Got "
        "1 row. Pass the whole set at once.",
    ),
    (
        lambda: SupConLoss(temperature=0),
        InputError,
        "SupConLoss: temperature must be a finite number greater than 0, because the formula is defined only "
        "there. Got 0. Pass for instance temperature=2.",
    ),
    (
        lambda: SupConLoss(gather=True),
        InputError,
        'SupConLoss: gather must be "auto" or False, because a loss is taken over the rows of all ranks, or '
        'of one rank alone. Got True. Pass gather="auto", or gather=False in calls that only some ranks '
        "make.",
    ),
    (
        lambda: losses.decoupled_uniformity_loss(Z[:, None]),
        ShapeError,
        "decoupled_uniformity_loss: z1 must have shape [N, V, D] with V >= 2 when z2 is not given, because a "
        "positive pair is two views of one sample. Got shape (3, 1, 2). Pass z1 and z2 of shape [N, D] each, "
        "or torch.stack([z1, z2], dim=1).",
    ),
    (
        lambda: DecoupledUniformityLoss(t=torch.ones(2)),
        ShapeError,
        "DecoupledUniformityLoss: t must be a number or a tensor of shape (), because one value serves all "
        "rows. Got shape (2,). Pass t.reshape(()) if it holds one value.",
    ),
    (
        lambda: losses.hyperspherical_energy_loss(Z, power=-1),
        InputError,
        "hyperspherical_energy_loss: power must be a finite number of at least 0, because rows repel each "
        "other by distance^-power, or by log(1 / distance) for 0. Got -1. Pass for instance power=1.0.",
    ),
    (
        lambda: HypersphericalEnergyLoss(power=True),
        InputError,
        "HypersphericalEnergyLoss: power must be a finite number of at least 0, because rows repel each "
        "other by distance^-power, or by log(1 / distance) for 0. Got True. Pass for instance power=1.0.",
    ),
    (
        lambda: HypersphericalEnergyLoss(eps=0.0),
        InputError,
        "HypersphericalEnergyLoss: eps must be a finite number greater than 0, because the formula is "
        "defined only there. Got 0. Pass for instance eps=2.",
    ),
    (
        lambda: losses.hyperspherical_energy_loss(Z[:1]),
        UndefinedError,
        "hyperspherical_energy_loss: z1 must have at least 2 rows, because the quantity is a mean over pairs "
        "of rows. Got 1 row. Pass the whole set at once.",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_refusals(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message
