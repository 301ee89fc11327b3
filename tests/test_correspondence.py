"""Cells of two views: geometry against views of coordinates, rules against definitions in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spherometer.correspondence import FlowField, Matches, ViewGeometry, match_cells
from spherometer.data import PRESETS, ArrayImages, DigitViews, ImageViews, LabelledImages, VolumeChanges
from spherometer.data._augment import Augmentation
from spherometer.data._draws import Draws
from spherometer.errors import InputError, ShapeError


def coordinates(size: tuple[int, ...]) -> Tensor:
    """An image of its own coordinates [K, *size]: the centre of pixel i is i + 1/2."""
    axes = [torch.arange(side, dtype=torch.float32) + 0.5 for side in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def inner(geometry: ViewGeometry, size: tuple[int, ...]) -> Tensor:
    """Which pixels of a view lie half a pixel or more within the image, where sampling is exact [B, S]."""
    places = geometry.centres(size)
    ends = torch.tensor([float(side) for side in size]) - 0.5
    return ((places >= 0.5) & (places <= ends)).all(dim=-1)


MOVES = Augmentation("moves", scale=(0.3, 1.0), flip=0.5, rotation=20.0)


@pytest.mark.parametrize(
    "changes",
    [
        MOVES,
        Augmentation("crop", scale=(0.2, 0.6)),
        Augmentation("flip", flip=0.5),
        Augmentation("turn", rotation=30.0),
        Augmentation("cut", size=(12, 12), scale=(0.5, 1.0)),
        Augmentation("still", size=(9, 9)),
    ],
    ids=lambda changes: changes.name,
)
def test_a_view_of_coordinates_shows_what_its_geometry_says(changes: Augmentation) -> None:
    size = (18, 27)
    image = coordinates(size).expand(16, -1, -1, -1)
    index, draws = torch.arange(16), Draws(3, 1, 0)
    # grey images of one channel each, so that nothing but places changes
    view = torch.cat([changes.view(image[:, k : k + 1], draws, index) for k in (0, 1)], dim=1)
    geometry = changes.geometry(draws, index, size)
    wanted = geometry.centres(view.shape[2:])
    ends = torch.tensor([17.5, 26.5])
    exact = ((wanted >= 0.5) & (wanted <= ends)).all(dim=-1)
    assert float(exact.double().mean()) > 0.5
    shown = view.flatten(2).mT.double()
    # antialiased shrinking of a ramp is exact away from its ends
    tolerance = 0.35 if changes.name == "still" else 2e-4
    assert float((shown - wanted)[exact].abs().max()) < tolerance


def test_the_digits_views_know_their_geometry() -> None:
    image = coordinates((16, 16)).expand(8, -1, -1, -1)
    views = DigitViews(image, seed=5, contrast=0.0, brightness=0.0, noise=0.0)
    index = torch.arange(8)
    for view, geometry in zip(views(2, index), views.geometry(2, index), strict=True):
        wanted = geometry.centres((16, 16))
        exact = ((wanted >= 0.5) & (wanted <= 15.5)).all(dim=-1)
        assert float((view.flatten(2).mT.double() - wanted)[exact].abs().max()) < 2e-4


def test_views_of_volumes_know_their_geometry() -> None:
    size = (8, 10, 12)
    volumes = coordinates(size).expand(12, -1, -1, -1, -1)
    index, draws = torch.arange(12), Draws(0, 4, 1)
    changes = VolumeChanges("all", noise=(1e-9, 1e-9), sigma=(1e-3, 1e-3), cutout=1e-9)
    shown = changes.view(volumes, draws, index).flatten(2).mT.double()
    wanted = changes.geometry(draws, index, size).centres(size)
    ends = torch.tensor([7.5, 9.5, 11.5])
    exact = ((wanted >= 0.5) & (wanted <= ends)).all(dim=-1)
    off = (shown - wanted).abs().amax(dim=-1)[exact]
    assert float(off.median()) < 1e-3
    assert float((off < 1e-3).double().mean()) > 0.99  # a cutout of one voxel is left


@pytest.mark.parametrize("changes", [MOVES, PRESETS["fashion"]], ids=["moves", "fashion"])
@pytest.mark.parametrize("grid", [(7, 7), (4, 4)])
def test_matched_cells_show_the_same_place_to_within_a_cell(
    changes: Augmentation, grid: tuple[int, int]
) -> None:
    images = ArrayImages("made", "made here", torch.rand(10, 1, 28, 28))
    views = ImageViews(LabelledImages(images), changes, seed=7)
    index = torch.tensor([0, 3, 9, 5])
    first, second = views.geometry(0, index)
    matches = match_cells(4, (grid, grid), "geometric", geometry=(first, second))
    assert len(matches) > 20
    there = first.centres(grid)[matches.image, matches.first]
    partner = second.centres(grid)[matches.image, matches.second]
    apart = torch.linalg.vector_norm(there - partner, dim=1)
    assert bool((apart <= second.diagonals(grid)[matches.image] / 2 + 1e-9).all())
    # and it is the nearest cell, wherever the view is not turned or stretched much
    unmatched = torch.ones(4, grid[0] * grid[1], dtype=torch.bool)
    unmatched[matches.image, matches.first] = False
    inside = second.in_view(first.centres(grid))
    assert bool(((inside.abs() > 1 - 1e-6).any(dim=-1))[unmatched].all())


def test_distances_count_in_diagonals_of_the_larger_cell() -> None:
    whole = ViewGeometry.whole(2, (8, 8))
    half = ViewGeometry.from_boxes(torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 2))
    for reach in (0.3, 0.7, 1.1):
        matches = match_cells(2, ((4, 4), (4, 4)), "geometric", geometry=(whole, half), max_distance=reach)
        wanted = set()
        for image in range(2):
            for s in range(16):
                for r in range(16):
                    a = (2 * (s // 4) + 1, 2 * (s % 4) + 1)
                    b = ((r // 4) + 0.5, (r % 4) + 0.5)
                    if math.dist(a, b) <= reach * math.hypot(2, 2):
                        wanted.add((image, s, r))
        found = zip(matches.image.tolist(), matches.first.tolist(), matches.second.tolist(), strict=True)
        assert set(found) == wanted


def test_geometry_of_boxes_mirrors_and_turns() -> None:
    boxes = torch.tensor([[2.0, 1.0, 4.0, 6.0]])
    plain = ViewGeometry.from_boxes(boxes)
    corner = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    assert plain.positions(corner)[0].tolist() == [[1.0, 2.0], [7.0, 6.0]]  # down, across
    mirrored = ViewGeometry.from_boxes(boxes, mirrored=torch.tensor([True]))
    assert mirrored.positions(corner)[0].tolist() == [[1.0, 6.0], [7.0, 2.0]]
    generator = torch.Generator().manual_seed(0)
    turned = ViewGeometry.from_boxes(boxes, angle=torch.tensor([0.4]))
    points = torch.rand(1, 9, 2, generator=generator, dtype=torch.float64) * 2 - 1
    assert torch.allclose(turned.in_view(turned.positions(points)), points, atol=1e-12)


def test_whole_views_match_cell_by_cell() -> None:
    whole = ViewGeometry.whole(3, (12, 20))
    matches = match_cells(3, ((3, 5), (3, 5)), "geometric", geometry=(whole, whole))
    assert torch.equal(matches.first, matches.second)
    assert matches.counts().tolist() == [15, 15, 15]
    # a finer map of the same view: the cell of y in which the centre lies
    finer = match_cells(3, ((2, 2), (4, 4)), "geometric", geometry=(whole, whole))
    assert finer.second[:4].tolist() == [5, 7, 13, 15]


def test_similarity_is_the_largest_cosine_of_the_same_image() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(5, 6, *grid, generator=generator) for grid in ((3, 4), (2, 5)))
    matches = match_cells(5, ((3, 4), (2, 5)), "similarity", features=(x, 7 * y))
    for image, first, second in zip(matches.image, matches.first, matches.second, strict=True):
        here, others = x[image].flatten(1)[:, first], y[image].flatten(1)
        cosines = torch.nn.functional.cosine_similarity(here[:, None], others, dim=0)
        assert int(cosines.argmax()) == int(second)
    assert len(matches) == 5 * 12


def test_a_flow_leads_to_the_pixel_it_names() -> None:
    disparity = torch.full((1, 4, 8), 2.0)
    disparity[0, 1, 5] = math.inf  # unknown
    matches = match_cells(1, ((4, 8), (4, 8)), "geometric", geometry=FlowField.from_disparity(disparity))
    partner = torch.full((32,), -1)
    partner[matches.first] = matches.second
    for row in range(4):
        for column in range(8):
            lost = column < 2 or (row, column) == (1, 5)
            assert int(partner[8 * row + column]) == (-1 if lost else 8 * row + column - 2)


def test_random_cells_are_a_function_of_the_generator() -> None:
    draws = [
        match_cells(3, ((4, 4), (5, 5)), "random", generator=torch.Generator().manual_seed(seed)).second
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert int(draws[0].max()) < 25
    state = torch.random.get_rng_state()
    match_cells(3, ((4, 4), (5, 5)), "random")
    assert torch.equal(state, torch.random.get_rng_state())


def test_explicit_partners() -> None:
    second = torch.tensor([[0, 2, -1, 1], [3, 3, 3, -1]])
    matches = match_cells(2, ((2, 2), (2, 2)), second)
    assert matches.image.tolist() == [0, 0, 0, 1, 1, 1]
    assert matches.first.tolist() == [0, 1, 3, 0, 1, 2]
    assert matches.second.tolist() == [0, 2, 1, 3, 3, 3]
    again = match_cells(2, ((2, 2), (2, 2)), matches)
    assert again is matches
    assert len(match_cells(3, ((2, 2), (2, 2)), torch.tensor([0, 1, 2, 3]))) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"matching": "nearest"},
            "match_cells: matching must be one of 'index', 'similarity', 'geometric', 'random'",
        ),
        ({"matching": "geometric"}, "match_cells: geometry must be the ViewGeometry of x and of y"),
        ({"matching": "similarity"}, "match_cells: match_features must be maps [N, C, ...]"),
        ({"max_distance": 0.7}, "match_cells: max_distance must be left out without"),
        ({"matching": torch.zeros(3, dtype=torch.int64)}, "match_cells: matching must be int64 of shape [4]"),
        ({"matching": torch.tensor([0, 1, 2, 9])}, "match_cells: matching must lie between -1 and 3"),
        ({"grids": ((2, 2), (3, 3))}, "match_cells: y must have maps of 2 x 2 cells, as x"),
        (
            {"matching": "geometric", "geometry": (ViewGeometry.whole(3, (4, 4)),) * 2},
            "match_cells: geometry must be of 2 images with 2 axes",
        ),
        (
            {"matching": Matches(torch.tensor([5]), torch.tensor([0]), torch.tensor([0]), 6)},
            "match_cells: matching must name cells of these maps",
        ),
    ],
)
def test_messages(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"num": 2, "grids": ((2, 2), (2, 2)), **arguments}
    with pytest.raises((InputError, ShapeError)) as error:
        match_cells(**given)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_messages_of_the_places() -> None:
    with pytest.raises(ShapeError, match="ViewGeometry: matrix must have shape"):
        ViewGeometry(torch.zeros(3, 4))
    with pytest.raises(InputError, match="ViewGeometry: matrix must be finite"):
        ViewGeometry(torch.full((1, 2, 3), math.nan))
    with pytest.raises(ShapeError, match="FlowField: displacement must have shape"):
        FlowField(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ShapeError, match=r"FlowField\.from_disparity: disparity must have shape"):
        FlowField.from_disparity(torch.zeros(4, 4))
