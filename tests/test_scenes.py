"""Scenes: a function of seed and number, masks that are where the things are, overlap, names of data, "
"parts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spherometer.data import (
    ArrayImages,
    SegmentedImages,
    SegmentedPart,
    _scenes,
    make_scenes,
    open_data,
    open_parts,
)
from spherometer.data._digits import load_digits
from spherometer.data._draws import Draws
from spherometer.errors import InputError, ShapeError


def all_of(scenes):
    index = torch.arange(len(scenes))
    return scenes.pixels(index), scenes.masks(index)


def squares(num=5, side=6):
    """Bright squares of ``num`` classes with a black rim."""
    images = torch.zeros(num, 1, side + 2, side + 2)
    images[:, :, 1:-1, 1:-1] = torch.linspace(0.5, 1, num).view(-1, 1, 1, 1)
    return images, torch.arange(num)


# --- what a scene is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", ["single", "multi", (3, 5)])
def test_a_scene_is_a_function_of_seed_part_and_number(objects):
    few, many = (make_scenes(num=num, objects=objects, seed=3) for num in (5, 300))  # two blocks
    for short, long in zip(all_of(few), all_of(many), strict=True):
        assert torch.equal(short, long[:5])
    assert few.fingerprint() == make_scenes(num=5, objects=objects, seed=3).fingerprint()
    for other in ({"seed": 4}, {"seed": 3, "part": "test"}):
        assert not torch.equal(
            few.pixels(torch.arange(5)), all_of(make_scenes(num=5, objects=objects, **other))[0]
        )


def test_no_global_generator_is_touched():
    before = torch.random.get_rng_state()
    make_scenes(num=3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_mask_is_where_the_scene_shows_the_thing_alone():
    images, labels = squares()
    pixels, masks = all_of(make_scenes((images, labels), num=60, objects="single", background="plain"))
    for scene, mask in zip(pixels[:, 0], masks, strict=True):
        (kind,) = mask[mask > 0].unique().tolist()
        bright = round(255 * float(images[kind - 1].max()))
        inside = mask == kind
        rows, columns = inside.nonzero().unbind(dim=1)
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert 0.95 * int(box) <= int(inside.sum()) <= int(box)  # a square, its corners rounded
        assert int(scene.max()) <= bright
        assert int(scene[inside].min()) >= round(0.25 * 255) - 1
        assert int(scene[~inside].max()) < round(0.25 * 255) + 1


def test_below_the_threshold_the_background_shines_through():
    """Independent of the code: light and opacity of one thing on a grey background, pixel by pixel."""
    images, labels = squares(1)
    plain, textured = (
        make_scenes((images, labels), num=8, objects=(1, 1), background=each, threshold=0.6)
        for each in ("plain", "textured")
    )
    thing, scene = (all_of(each)[0].double() / 255 for each in (plain, textured))
    behind = _scenes._backgrounds(torch.arange(8), Draws(0, 0, _scenes._TEXTURE), 56, "textured")
    # plain shows a v with a = min(1, v / .6): v = sqrt(.6 a v) below the threshold
    value = torch.where(thing < 0.6, (0.6 * thing).sqrt(), thing)
    expected = thing + (1 - (value / 0.6).clamp(max=1)) * torch.from_numpy(behind).double()[:, None]
    assert float((scene - expected).abs().max()) < 0.03  # bytes: steep where a v is small
    assert float((scene - expected).abs().median()) < 0.004


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.15, 0.5]))
@settings(max_examples=15, deadline=None)
def test_no_thing_loses_more_than_the_overlap(seed, overlap):
    images, labels = squares()
    things = _scenes._Things(images, labels.numpy() + 1, (), "", "")
    layout = _scenes.Layout((4, 8), (0.3, 0.6))
    for scene in _scenes._scenes(things, torch.arange(4), Draws(seed), layout, 40, overlap, 0.25):
        shown = np.bincount(scene.owners.ravel(), minlength=len(scene.areas) + 1)[1:]
        assert 1 <= len(scene.areas) <= 8
        assert all(left >= (1 - overlap) * area for left, area in zip(shown, scene.areas, strict=True))
        if overlap == 0:
            assert shown.tolist() == list(scene.areas)
        assert np.array_equal(scene.owners > 0, scene.classes > 0)


def test_how_many_things_and_how_large():
    images, labels = squares()
    for objects, sides in (("single", (0.5, 0.9)), ("multi", (0.3, 0.5))):
        layout = _scenes.LAYOUTS[objects]
        things = _scenes._Things(images, labels.numpy() + 1, (), "", "")
        scenes = _scenes._scenes(things, torch.arange(200), Draws(0), layout, 64, 0.15, 0.25)
        counts = {len(scene.areas) for scene in scenes}
        assert counts <= set(range(1, layout.objects[1] + 1))
        assert max(counts) == layout.objects[1]
        areas = [area for scene in scenes for area in scene.areas]
        assert max(areas) <= (sides[1] * 64) ** 2 + 1
        assert min(areas) >= (sides[0] * 64 * 0.75 - 1) ** 2  # the rim is a quarter of the side


def test_things_of_the_test_part_are_new():
    digits = load_digits()
    parts = {part: _scenes._things("digits", part, None).images for part in ("train", "validation", "test")}
    assert [len(each) for each in parts.values()] == [len(getattr(digits.split, part)) for part in parts]
    known = {each.numpy().tobytes() for each in digits.images[digits.split.train]}
    assert not known & {each.numpy().tobytes() for each in digits.images[digits.split.test]}


def test_colours_and_labels():
    images = torch.rand(6, 3, 5, 9)
    scenes = make_scenes((images, torch.tensor([0, 1, 2, 0, 1, 2])), num=40, objects=(1, 3), size=32)
    assert scenes.shape == (3, 32, 32)
    assert scenes.num_classes == 4
    index = torch.arange(40)
    masks, labels = scenes.masks(index), scenes.image_labels(index)
    for row in range(40):
        counts = [int((masks[row] == kind).sum()) for kind in (1, 2, 3)]
        assert labels[row].tolist() == [int(count > 0) for count in counts]
        assert int(scenes.labels[row]) == counts.index(max(counts))


# --- sets with masks ----------------------------------------------------------------------------------


def test_pixels_that_are_not_counted_and_images_of_nothing():
    maps = torch.tensor([[[0, 1], [255, 255]], [[0, 0], [0, 255]]], dtype=torch.uint8)
    images = ArrayImages("two", "made here", torch.zeros(2, 1, 2, 2))
    made = SegmentedImages.of(images, maps, ("background", "a", "b"))
    assert made.counts.tolist() == [[1, 1, 0], [3, 0, 0]]
    assert made.labels is None  # the second shows nothing
    assert made.masks(torch.tensor([0])).tolist() == [[[0, 1], [255, 255]]]
    late = SegmentedImages.of(images, lambda rows: maps[rows], ("background", "a", "b"))
    assert torch.equal(late.counts, made.counts)
    assert torch.equal(late.masks(torch.tensor([1, 0])), made.masks(torch.tensor([1, 0])))


def test_masks_follow_the_resized_images():
    scenes = make_scenes(num=4, size=60)
    part = SegmentedPart(scenes, torch.tensor([3, 1]), lambda pixels: pixels[:, :, ::2, ::2])
    assert torch.equal(part.masks(torch.tensor([0]))[0], scenes.masks(torch.tensor([3]))[0, 1::2, 1::2])
    assert torch.equal(part.image_labels(torch.tensor([1])), scenes.image_labels(torch.tensor([1])))
    same = SegmentedPart(scenes)
    assert torch.equal(same.masks(torch.arange(4)), scenes.masks(torch.arange(4)))


def test_data_by_name():
    views = open_data("scenes:multi,num=30", seed=5)
    index = torch.arange(30)
    made = make_scenes(num=30)
    assert torch.equal(views.load(index), made.pixels(index))
    assert torch.equal(views.images.masks(index), made.masks(index))
    assert torch.equal(views.labels, made.labels)
    x, y = views(0, index[:3])
    assert x.shape == y.shape == (3, 1, 56, 56)
    assert len(views.geometry(0, index[:3])[0]) == 3
    parts = open_parts("scenes:single,num=20,size=40,seed=2,background=plain")
    assert (len(parts.train), len(parts.test)) == (20, 10)
    assert parts.test.images(torch.arange(2)).shape == (2, 1, 40, 40)
    assert parts.test.masks(torch.arange(10)).shape == (10, 40, 40)
    smaller = open_parts("scenes:single,num=4", size=28)
    assert smaller.train.masks(torch.arange(4)).shape == smaller.train.images(torch.arange(4))[:, 0].shape


# --- messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: make_scenes("cifar10"),
            "make_scenes: source must be one of 'digits', 'mnist', 'fashion_mnist', or (images, labels), "
            "because its images are placed in the scenes. Got 'cifar10'. Pass for instance "
            "source='digits'.",
        ),
        (
            lambda: make_scenes((torch.rand(3, 5, 5), None)),
            "make_scenes: source must hold images and their labels, because pixels get the class of their "
            "thing. Got 'no labels'. Pass (images, labels).",
        ),
        (
            lambda: make_scenes(objects=(0, 2)),
            "make_scenes: objects must be 'single', 'multi' or (fewest, most) with 1 <= fewest <= most <= "
            "32, "
            "because a scene draws how many things it shows. Got (0, 2). Pass for instance (2, 4).",
        ),
        (
            lambda: make_scenes(scale=(0.5, 1.5)),
            "make_scenes: scale must be (smallest, largest) with 0 < smallest <= largest <= 1, because a "
            "thing "
            "draws its side as a share of the scene's. Got (0.5, 1.5). Pass for instance (0.3, 0.5).",
        ),
        (
            lambda: make_scenes(overlap=1.5),
            "make_scenes: overlap must be a number from 0 to 1, because it is a share. Got 1.5. "
            "Pass for instance overlap=0.25.",
        ),
        (
            lambda: make_scenes(size=4),
            "make_scenes: size must be a whole number of at least 8, because it counts something. Got 4. "
            "Pass for instance size=8.",
        ),
        (
            lambda: open_data("scenes:many"),
            "open_data: data must be scenes:single or scenes:multi, because the layout says how many "
            "things a "
            "scene shows. Got 'scenes:many'. Pass for instance scenes:multi,source=digits,num=2000.",
        ),
        (
            lambda: open_data("scenes:multi,nums=3"),
            "open_data: data 'scenes:multi,nums=3' must have options from background, num, overlap, seed, "
            "size, "
            "source, threshold, because they are those of make_scenes. Got 'nums=3'. Did you mean num=....",
        ),
        (
            lambda: open_data("scenes:multi,num=many"),
            "open_data: option num of data 'scenes:multi,num=many' must be a number, because it counts or "
            "measures something. Got 'many'. Pass for instance num=1.",
        ),
        (
            lambda: open_data("scenes:multi", part="all"),
            "open_data: data 'scenes:multi' must have a part 'all', because nothing is split off by "
            "chance. Got "
            "the parts train, validation, test. Leave part (or --probe) out, or pass other data: named "
            "sets, "
            "folders with train/ and test/, .npz files with x_train, y_train, x_test and y_test, and hf: "
            "data sets "
            "with train and test have parts.",
        ),
        (
            lambda: open_data("scenes:multi", label="x"),
            "open_data: label must be left out for images with masks, because it says something about "
            "other "
            "kinds of data. Got 'x'. Leave it out.",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


def test_messages_of_maps():
    images = ArrayImages("two", "made here", torch.zeros(2, 1, 4, 4))
    with pytest.raises(ShapeError) as error:
        SegmentedImages.of(images, torch.zeros(2, 3, 4, dtype=torch.uint8), ("background",))
    assert str(error.value) == (
        "SegmentedImages: maps must be uint8 of shape (2, 4, 4), because every pixel of every image has a "
        "class. "
        "Got uint8 of shape (2, 3, 4). Pass one map for each image, in its size."
    )
    maps = torch.zeros(2, 4, 4, dtype=torch.uint8)
    maps[1, 2, 2] = 7
    with pytest.raises(ShapeError) as error:
        SegmentedImages.of(images, maps, ("background", "a"))
    assert str(error.value) == (
        "SegmentedImages: maps must hold classes from 0 to 1, or 255, because there are 2 names, and 255 "
        "is not "
        "counted. Got 7 in image 1. Name every class."
    )
