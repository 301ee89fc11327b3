"""Losses of cells: definitions in loops, the metrics, limits, derivatives, queues, refusals.

Several processes: the cases "dense ..." of ``distributed_worker.py``.
"""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

import spherometer as sm
from registry import DENSE_LOSSES
from spherometer import metrics, sphere
from spherometer.correspondence import Matches, ViewGeometry, match_cells
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.losses import (
    AlignUniformLoss,
    DenseAlignUniformLoss,
    DenseInfoNCELoss,
    InfoNCELoss,
    MemoryQueue,
)

POPULATIONS = ("cross_image", "within_image", "all")
PARTNER = torch.tensor([[3, -1, 0, 0], [-1, -1, 2, -1], [1, 0, 3, 2]])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(num: int = 3, dim: int = 3, grid: tuple[int, ...] = (2, 2), seed: int = 0) -> tuple[Tensor, Tensor]:
    x = draw(num, dim, *grid, seed=seed)
    return x, x + 0.7 * draw(num, dim, *grid, seed=seed + 50)


def unit(row: Tensor) -> list[float]:
    length = math.sqrt(math.fsum(float(v) ** 2 for v in row))
    return [float(v) / length for v in row]


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(u * v for u, v in zip(a, b, strict=True))


def contrast_by_loop(
    z1: Tensor, z2: Tensor, partner: Tensor, temperature: float, negatives: Tensor | None = None
) -> float:
    """The dense loss; ``negatives``: rows of a queue."""
    one, two = z1.flatten(2).mT, z2.flatten(2).mT
    keys = [unit(image.mean(dim=0)) for image in two]
    losses = []
    for n, row in enumerate(partner.tolist()):
        for s, r in enumerate(row):
            if r < 0:
                continue
            query, positive = unit(one[n, s]), unit(two[n, r])
            others = [key for m, key in enumerate(keys) if m != n]
            if negatives is not None:
                others = [[float(v) for v in key] for key in negatives]
            own = math.exp(dot(query, positive) / temperature)
            losses.append(
                -math.log(own / (own + math.fsum(math.exp(dot(query, k) / temperature) for k in others)))
            )
    return math.fsum(losses) / len(losses)


def message(call: object, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        call()  # type: ignore[operator]
    assert type(caught.value) is error
    return str(caught.value)


# --- definitions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("grid", [(2, 2), (2, 1, 3)], ids=str)
def test_alignment_and_uniformity_are_those_of_the_metrics(population, grid):
    z1, z2 = views(4, 5, grid)
    for rule, alpha, t in (("index", 2.0, 2.0), ("similarity", 1.0, 3.0)):
        loss = DenseAlignUniformLoss(2.0, 0.5, matching=rule, alpha=alpha, t=t, pairs=population)
        found = loss(z1, z2)
        align = metrics.dense_alignment(z1, z2, matching=rule, alpha=alpha)
        uniform = [metrics.dense_uniformity(z, t=t, pairs=population) for z in (z1, z2)]
        torch.testing.assert_close(found, 2 * align + 0.25 * (uniform[0] + uniform[1]))
        torch.testing.assert_close(loss.terms["alignment"], align)
        torch.testing.assert_close(loss.terms["uniformity"], (uniform[0] + uniform[1]) / 2)
        assert float(loss.terms["matched"]) == 1


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_the_contrast_of_cells_is_its_definition(temperature):
    z1, z2 = views()
    loss = DenseInfoNCELoss(temperature, dense_weight=1.0)
    assert float(loss(z1, z2, matches=PARTNER)) == pytest.approx(
        contrast_by_loop(z1, z2, PARTNER, temperature), abs=1e-12
    )
    similar = match_cells(3, ((2, 2), (2, 2)), "similarity", features=(z1, z2))
    wanted = contrast_by_loop(z1, z2, similar.second.view(3, 4), temperature)
    assert float(loss(z1, z2)) == pytest.approx(wanted, abs=1e-12)
    queue = MemoryQueue(3, 5).double()
    queue.enqueue(draw(4, 3, seed=9))
    queued = DenseInfoNCELoss(temperature, dense_weight=1.0, queue=queue)
    wanted = contrast_by_loop(z1, z2, PARTNER, temperature, queue.rows())
    assert float(queued(z1, z2, matches=PARTNER)) == pytest.approx(wanted, abs=1e-12)


def test_volumes_and_maps_of_different_sides():
    z1, z2 = draw(3, 4, 2, 2, 2), draw(3, 4, 1, 2, 1, seed=1)
    partner = torch.tensor([[0, 0, 1, -1, 1, 0, -1, 1]] * 3)
    loss = DenseInfoNCELoss(0.3, dense_weight=1.0)
    wanted = contrast_by_loop(z1, z2, partner, 0.3)
    assert float(loss(z1, z2, matches=partner)) == pytest.approx(wanted, abs=1e-12)
    found = DenseAlignUniformLoss(uniform_weight=0.0)(z1, z2, matches=partner)
    torch.testing.assert_close(found, metrics.dense_alignment(z1, z2, matching=partner))


def test_several_partners_of_a_cell():
    z1, z2 = views(num=4, grid=(4, 4))
    geometry = ViewGeometry.whole(4, (8, 8))
    matches = match_cells(4, ((4, 4),) * 2, "geometric", geometry=(geometry, geometry), max_distance=0.8)
    loss = DenseInfoNCELoss(0.3, dense_weight=1.0)
    total = 0.0
    for n, s, r in zip(matches.image, matches.first, matches.second, strict=True):
        partner = torch.full((4, 16), -1)
        partner[n, s] = r
        total += contrast_by_loop(z1, z2, partner, 0.3)
    assert float(loss(z1, z2, matches=matches)) == pytest.approx(total / len(matches), abs=1e-11)
    assert float(loss.terms["matched"]) == len(matches) / 64 > 1
    both = DenseAlignUniformLoss()(z1, z2, matches=matches)
    torch.testing.assert_close(
        both, metrics.dense_alignment(z1, z2, matching=matches)
        + (metrics.dense_uniformity(z1) + metrics.dense_uniformity(z2)) / 2,
    )  # fmt: skip


# --- relations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [2, 3])
def test_maps_of_one_cell_are_the_instance_losses(axes):
    z1, z2 = (z.view(6, 4, *(1,) * axes) for z in views(6, 4, (1,)))
    rows = z1.flatten(1), z2.flatten(1)
    for rule in ("index", "similarity", "random"):
        torch.testing.assert_close(DenseAlignUniformLoss(matching=rule)(z1, z2), AlignUniformLoss()(*rows))
    queue = MemoryQueue(4, 8).double()
    queue.enqueue(draw(7, 4, seed=5))
    dense = DenseInfoNCELoss(0.3, dense_weight=1.0, queue=queue)
    whole = InfoNCELoss(0.3, queue=queue)
    torch.testing.assert_close(dense(z1, z2), whole(*rows))
    for name in ("alignment", "uniformity", "log_candidates"):
        torch.testing.assert_close(dense.terms[name], whole.terms[name])
    # without a queue: one direction of InfoNCE
    dense = DenseInfoNCELoss(0.3, dense_weight=1.0)
    both = dense(z1, z2) + dense(z2, z1)
    torch.testing.assert_close(both / 2, InfoNCELoss(0.3)(*rows))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_weight_shares_between_cells_and_wholes(share):
    z1, z2 = (z.requires_grad_() for z in views())
    g1, g2 = (g.requires_grad_() for g in (draw(3, 5, seed=3), draw(3, 5, seed=4)))
    loss = DenseInfoNCELoss(0.4, dense_weight=share)
    found = loss(z1, z2, instance=(g1, g2))
    dense = DenseInfoNCELoss(0.4, dense_weight=1.0)(z1, z2)
    whole = InfoNCELoss(0.4)(g1, g2)
    torch.testing.assert_close(found, (1 - share) * whole + share * dense)
    torch.testing.assert_close(loss.terms["dense"], dense.detach())
    torch.testing.assert_close(loss.terms["instance"], whole.detach())
    parts = sum(float(loss.terms[name]) for name in ("alignment", "uniformity", "log_candidates"))
    assert parts == pytest.approx(float(dense.detach()), abs=1e-12)
    gradients = torch.autograd.grad(found, (z1, z2, g1, g2), allow_unused=True)
    assert [gradient is None for gradient in gradients] == [share == 0] * 2 + [share == 1] * 2


def test_the_same_permutation_lengths_and_rotations_change_nothing():
    z1, z2 = views(4, 5, (2, 3))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    moved = [z.flatten(2)[:, :, order].view_as(z) for z in (z1, z2)]
    turn = torch.linalg.qr(draw(5, 5, seed=8)).Q
    turned = [torch.einsum("ndhw,de->nehw", 3 * z, turn) for z in (z1, z2)]
    for rule in ("index", "similarity"):
        for loss in (DenseAlignUniformLoss(matching=rule), DenseInfoNCELoss(dense_weight=1.0, matching=rule)):
            value = loss(z1, z2)
            torch.testing.assert_close(loss(*moved), value)
            torch.testing.assert_close(loss(*turned), value)


def test_collapsed_maps():
    z = torch.ones(5, 4, 2, 2, dtype=torch.float64)
    assert float(DenseAlignUniformLoss(matching="index")(z, z)) == pytest.approx(0, abs=1e-14)
    assert float(DenseInfoNCELoss(dense_weight=1.0)(z, z)) == pytest.approx(math.log(5), abs=1e-12)


def test_geometry_finds_the_cells_of_the_same_place():
    places = draw(6, 4, 4, 4, seed=1)  # features of an image of 4 x 4 cells of 2 x 2 pixels
    left = ViewGeometry.from_boxes(torch.tensor([[0.0, 0.0, 4.0, 8.0]] * 6))
    right = ViewGeometry.from_boxes(torch.tensor([[2.0, 0.0, 6.0, 8.0]] * 6))
    z1, z2 = places[:, :, :, :2], places[:, :, :, 1:]
    loss = DenseAlignUniformLoss(uniform_weight=0.0)
    assert float(loss(z1, z2, geometry=(left, right))) == 0
    assert float(loss.terms["matched"]) == 0.5  # of the two columns of z1 the second is seen by z2
    assert float(DenseAlignUniformLoss(uniform_weight=0.0, matching="similarity")(z1, z2)) > 0
    swapped = DenseInfoNCELoss(dense_weight=1.0, matching="geometric")
    assert float(swapped(z1, z2, geometry=(left, right))) < float(swapped(z1, z2, geometry=(right, left)))


# --- derivatives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("population", POPULATIONS)
def test_gradient_of_alignment_and_uniformity(population):
    inputs = [z.requires_grad_() for z in views(grid=(1, 3))]
    t = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    def call(z1: Tensor, z2: Tensor, t: Tensor) -> Tensor:
        loss = DenseAlignUniformLoss(0.7, 1.3, t=t, pairs=population, num_cells=8)
        return loss(z1, z2, matches=torch.tensor([2, -1, 0]))

    assert torch.autograd.gradcheck(call, (*inputs, t))
    assert torch.autograd.gradgradcheck(call, (*inputs, t))


@pytest.mark.parametrize("queued", [False, True])
def test_gradient_of_the_contrast(queued):
    inputs = [z.requires_grad_() for z in (*views(grid=(1, 3)), draw(3, 4, seed=3), draw(3, 4, seed=4))]
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    queue = MemoryQueue(3, 6).double()
    queue.enqueue(draw(5, 3, seed=7))

    def call(z1: Tensor, z2: Tensor, g1: Tensor, g2: Tensor, temperature: Tensor) -> Tensor:
        loss = DenseInfoNCELoss(temperature, dense_weight=0.4, queue=queue if queued else None)
        return loss(z1, z2, matches=torch.tensor([[2, -1, 0]] * 3), instance=(g1, g2))

    assert torch.autograd.gradcheck(call, (*inputs, temperature))
    assert torch.autograd.gradgradcheck(call, (*inputs, temperature))


def test_pairs_that_coincide_and_cells_of_zeros_have_finite_gradients():
    z = views()[0].requires_grad_()
    DenseAlignUniformLoss(alpha=1.0, matching="index")(z, z.detach()).backward()
    assert bool(z.grad.isfinite().all())
    empty = views()[0]
    empty[0, :, 0, 0] = 0
    empty.requires_grad_()
    for loss in (DenseAlignUniformLoss(matching="index"), DenseInfoNCELoss(dense_weight=1.0)):
        empty.grad = None
        value = loss(empty, views()[1])
        value.backward()
        assert math.isfinite(float(value.detach()))
        assert bool(empty.grad.isfinite().all())
        assert float(empty.grad[0, :, 0, 0].abs().max()) < 1e9


@pytest.mark.parametrize(
    "make", [DenseAlignUniformLoss, lambda **given: DenseInfoNCELoss(dense_weight=1.0, **given)]
)
def test_precision(make):
    loss = make(matching="index")
    z1, z2 = views(12, 16, (3, 3))
    exact = loss(z1, z2)
    assert float(loss(z1.float(), z2.float())) == pytest.approx(float(exact), abs=2e-6)
    half = loss(z1.half(), z2.half())
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(loss(z1.half().double(), z2.half().double())), abs=3e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(loss(z1.float(), z2.float())) == pytest.approx(float(exact), abs=2e-6)
    z1[1, 0, 0, 0] = torch.nan
    assert math.isnan(float(loss(z1, z2)))


# --- state --------------------------------------------------------------------------------------------


def test_queues_and_draws_are_in_the_state():
    def make() -> DenseInfoNCELoss:
        return DenseInfoNCELoss(
            matching="random", queue=MemoryQueue(3, 6).double(), global_queue=MemoryQueue(5, 4).double()
        )

    z1, z2 = views()
    wholes = draw(3, 5, seed=3), draw(3, 5, seed=4)
    first, second = make(), make()
    for loss in (first, second):
        loss.queue.enqueue(draw(2, 3, seed=2))
        loss.global_queue.enqueue(draw(2, 5, seed=2))
    values = []
    for _ in range(2):
        values.append(float(first(z1, z2, instance=wholes)))
        first.queue.enqueue(first.keys(z2))
        first.global_queue.enqueue(wholes[1])
    assert len(first.queue) == 6
    second.load_state_dict(first.state_dict())
    assert float(second(z1, z2, instance=wholes)) == float(first(z1, z2, instance=wholes))
    assert int(first.draws) == 3
    torch.testing.assert_close(first.keys(z2), sphere.normalize(z2.flatten(2).mean(dim=2)), rtol=0, atol=0)
    whole = InfoNCELoss(0.2, queue=first.global_queue)(*wholes)
    torch.testing.assert_close(first.terms["instance"], whole)


def test_draws_differ_from_call_to_call_and_can_be_given():
    z1, z2 = views(8, 3, (3, 3))
    before = torch.get_rng_state()
    for loss in (
        DenseAlignUniformLoss(matching="random"),
        DenseAlignUniformLoss(matching="index", num_cells=20),
        DenseInfoNCELoss(dense_weight=1.0, matching="random"),
    ):
        one, two = float(loss(z1, z2)), float(loss(z1, z2))
        assert one != two
        given = [float(loss(z1, z2, generator=torch.Generator().manual_seed(0))) for _ in range(2)]
        assert given == [one, one]
        assert int(loss.draws) == 2
    assert torch.equal(before, torch.get_rng_state())
    still = DenseAlignUniformLoss(matching="index")
    still(z1, z2)
    assert int(still.draws) == 0


# --- refusals -----------------------------------------------------------------------------------------


def test_maps_that_do_not_fit():
    z1, z2 = views()
    loss = DenseAlignUniformLoss(matching="index")
    assert message(lambda: loss(z1[0], z2[0]), ShapeError) == (
        "DenseAlignUniformLoss: z1 must be floating-point of shape [N, D, H, W] or [N, D, H, W, Z], "
        "because "
        "each cell of a map is one point in D dimensions. Got float64 of shape (3, 2, 2). Pass maps with "
        "their "
        "channels second."
    )
    assert message(lambda: loss(z1, z2.float()), ShapeError) == (
        "DenseAlignUniformLoss: z2 must have the images, channels, axes, dtype and device of z1, because "
        "map i "
        "of one belongs to map i of the other. Got z1 (3, 3, 2, 2) float64 on cpu, z2 (3, 3, 2, 2) "
        "float32 on "
        "cpu. Pass the maps of two views of the same images."
    )
    assert message(lambda: loss(z1, z2[:, :, :1]), ShapeError) == (
        'DenseAlignUniformLoss: y must have maps of 2 x 2 cells, as x, because matching="index" pairs '
        "cells at "
        'the same place. Got 1 x 2. Resize the maps, or pass matching="geometric" with their geometry.'
    )
    assert "z2 must be a torch tensor" in message(lambda: loss(z1, z2.numpy()), InputError)


def test_batches_without_pairs():
    z1, z2 = views()
    none = torch.full((4,), -1)
    for loss in (DenseAlignUniformLoss(), DenseInfoNCELoss(dense_weight=1.0)):
        assert message(lambda loss=loss: loss(z1, z2, matches=none), UndefinedError) == (
            f"{type(loss).__name__}: matching must pair at least one cell, because the loss is a mean over "
            "pairs. Got none in the whole batch. Pass views that overlap, or another rule."
        )
    assert message(lambda: DenseAlignUniformLoss(matching="index")(z1[:1], z2[:1]), UndefinedError) == (
        'DenseAlignUniformLoss: z1 must hold a pair of cells for pairs="cross_image", because uniformity '
        "is a "
        "mean over pairs of cells. Got 4 cells of 1 images. Pass more images, or another population such "
        "as "
        'pairs="all".'
    )
    assert "z1 must have at least 2 rows" in message(
        lambda: DenseInfoNCELoss(dense_weight=1.0)(z1[:1], z2[:1]), UndefinedError
    )


def test_settings_and_what_else_is_given():
    z1, z2 = views()
    wide = MemoryQueue(4, 8).double()
    for call, start in (
        (lambda: DenseAlignUniformLoss(align_weight=-1.0), "DenseAlignUniformLoss: align_weight must be"),
        (
            lambda: DenseAlignUniformLoss(0.0, 0.0),
            "DenseAlignUniformLoss: align_weight and uniform_weight must",
        ),
        (
            lambda: DenseAlignUniformLoss(alpha=0.5),
            "DenseAlignUniformLoss: alpha must be a finite number at l",
        ),
        (lambda: DenseAlignUniformLoss(t=0.0), "DenseAlignUniformLoss: t must be a finite number greater"),
        (lambda: DenseAlignUniformLoss(matching="near"), "DenseAlignUniformLoss: matching must be one of"),
        (lambda: DenseAlignUniformLoss(pairs="between"), "DenseAlignUniformLoss: pairs must be one of"),
        (
            lambda: DenseAlignUniformLoss(num_cells=0),
            "DenseAlignUniformLoss: num_cells must be a whole number",
        ),
        (lambda: DenseAlignUniformLoss(gather=True), 'DenseAlignUniformLoss: gather must be "auto" or False'),
        (lambda: DenseInfoNCELoss(-0.1), "DenseInfoNCELoss: temperature must be a finite number greater"),
        (
            lambda: DenseInfoNCELoss(dense_weight=1.5),
            "DenseInfoNCELoss: dense_weight must lie between 0 and 1",
        ),
        (lambda: DenseInfoNCELoss(queue=draw(3, 3)), "DenseInfoNCELoss: queue must be a MemoryQueue or None"),
        (lambda: DenseAlignUniformLoss()(z1, z2), "DenseAlignUniformLoss: geometry must be the ViewGeometry"),
        (
            lambda: DenseInfoNCELoss()(z1, z2),
            "DenseInfoNCELoss: instance must be two tensors [N, E], because",
        ),
    ):
        assert message(call, InputError).startswith(start)
    assert message(lambda: DenseInfoNCELoss()(z1, z2, instance=(z1[:2, :, 0, 0],) * 2), ShapeError) == (
        "DenseInfoNCELoss: instance must have a row for each map, because row i belongs to map i. Got 2 "
        "rows for "
        "3 maps. Pass the vectors of the same images."
    )
    assert message(lambda: DenseInfoNCELoss(dense_weight=1.0, queue=wide)(z1, z2), ShapeError) == (
        "DenseInfoNCELoss: queue must have the columns and the device of what meets it, because both live "
        "on "
        "one sphere. Got 4 columns on cpu for 3 on cpu. Make the queue with MemoryQueue(dim=D, size=...), "
        "and "
        "move it with the loss."
    )
    with pytest.raises(ShapeError, match="matching must name cells of these maps"):
        DenseAlignUniformLoss()(z1, z2, matches=Matches(torch.tensor([5]), *torch.zeros(2, 1).long(), 6))


@pytest.mark.parametrize("name", sorted(DENSE_LOSSES))
def test_docstrings_citations_and_what_is_shown(name):
    made = getattr(sm.losses, name)
    text = inspect.getdoc(made)
    for section in ("Args:", "Raises:", "Cost:", "Source:", "Example:"):
        assert section in text, section
    assert all(f"    {each}:" in text for each in inspect.signature(made).parameters)
    assert sm.citation(name).startswith("@")
    assert "matching='random'" in repr(made(matching="random", gather=False))
    assert "gather=False" in repr(made(matching="random", gather=False))
