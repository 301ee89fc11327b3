"""Folders of images and masks: pairs, parts, classes, sizes, and everything that is wrong with them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spherometer.data import UnreadableImagesWarning, _decode, _voc, open_data, open_parts
from spherometer.errors import InputError, ShapeError


def save_mask(path: Path, classes: np.ndarray, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(classes.astype(np.uint8))
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(path)


def save_image(path: Path, size: tuple[int, int], seed: int) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def tree(
    root: Path, names=("a", "b", "c"), size=(6, 8), folders=("JPEGImages", "SegmentationClass"), largest=3
):
    """A folder of random images and masks; pixels and masks by name."""
    found = {}
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed + 100)
        classes = rng.integers(0, largest + 1, size)
        classes[0, :2] = 255, largest
        pixels = save_image(root / folders[0] / f"{name}.png", size, seed)
        save_mask(root / folders[1] / f"{name}.png", classes, "P" if seed % 2 else "L")
        found[name] = pixels, classes
    return found


def lists(root: Path, **parts: str) -> None:
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    for part, text in parts.items():
        (folder / f"{part}.txt").write_text(text)


def refused(call, message: str, error=InputError) -> None:
    with pytest.raises(error) as found:
        call()
    assert str(found.value) == message


@pytest.mark.parametrize("folders", [("JPEGImages", "SegmentationClass"), ("images", "masks")])
def test_images_and_masks_belong_together_by_name(tmp_path, folders):
    truth = tree(tmp_path, ("b", "a", "10", "9"), folders=folders)
    save_image(tmp_path / folders[0] / "without_mask.png", (3, 3), 9)
    views = open_data(f"voc:{tmp_path}")
    part = views.images
    for row, name in enumerate(("10", "9", "a", "b")):
        pixels, classes = truth[name]
        assert np.array_equal(part.pixels(torch.tensor([row]))[0].permute(1, 2, 0).numpy(), pixels)
        assert np.array_equal(part.masks(torch.tensor([row]))[0].numpy(), classes)
        counts = [int((classes == kind).sum()) for kind in (1, 2, 3)]
        assert int(views.labels[row]) == counts.index(max(counts))
        labels = part.image_labels(torch.tensor([row]))[0].tolist()
        assert labels[:3] == [int(count > 0) for count in counts]
    named = folders[1] == "SegmentationClass"
    assert part.of.num_classes == (21 if named else 4)
    assert part.of.class_names[:2] == ("background", "aeroplane" if named else "1")
    x, _ = views(0, torch.arange(2))
    assert x.shape == (2, 3, 6, 8)


def test_lists_name_the_parts(tmp_path):
    tree(tmp_path, "abcde", folders=("images", "masks"))
    save_mask(tmp_path / "masks" / "e.png", np.full((6, 8), 9))
    lists(tmp_path, train="b\nd\n\n", val="a\n")
    assert len(open_data(f"voc:{tmp_path}")) == 2
    parts = open_parts(f"voc:{tmp_path}")
    assert (len(parts.train), len(parts.test)) == (2, 1)
    assert parts.train.of.num_classes == parts.test.of.num_classes == 10  # those of all masks
    assert len(open_data(f"voc:{tmp_path}", part="val")) == 1
    assert parts.train.fingerprint() != parts.test.fingerprint()
    (tmp_path / "classes.txt").write_text("\n".join(["nothing", *"abcdefghi"]))
    assert open_data(f"voc:{tmp_path}").images.of.class_names[9] == "i"


def test_other_sizes_are_cut_and_resized_alike(tmp_path):
    """A mask that is a copy of its image stays one."""
    for seed, size in enumerate([(40, 60), (50, 30)]):
        blocks = np.kron(
            np.random.default_rng(seed).integers(0, 2, (5, 6)), np.ones((size[0] // 5, size[1] // 6))
        )
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray((255 * blocks).astype(np.uint8)).save(tmp_path / "images" / f"{seed}.png")
        save_mask(tmp_path / "masks" / f"{seed}.png", blocks)
    part = open_parts_of_all(f"voc:{tmp_path}", 20)
    pixels, masks = part.pixels(torch.arange(2))[:, 0], part.masks(torch.arange(2))
    assert masks.shape == (2, 20, 20)
    sure = (pixels < 20) | (pixels > 235)
    assert float(sure.float().mean()) > 0.6
    assert torch.equal(masks[sure], (pixels > 128).long()[sure])
    refused(
        lambda: open_data(f"voc:{tmp_path}"),
        f"open_data: size must be given for folder {str(tmp_path)!r}, because a batch needs images of one "
        f"size. "
        "Got 60 x 40 in '0' and 30 x 50 in '1' (width x height). Pass for instance size=30 (--size 30): "
        "the centre "
        "is cut out and resized.",
    )


def open_parts_of_all(name, size):
    return open_data(name, size=size).images


def test_reading_when_used_gives_the_same(tmp_path, monkeypatch):
    tree(tmp_path)
    kept = open_data(f"voc:{tmp_path}").images
    monkeypatch.setattr(_decode, "KEPT_BYTES", 0)
    late = open_data(f"voc:{tmp_path}").images
    assert callable(late.of.maps)
    index = torch.tensor([2, 0])
    assert torch.equal(late.masks(index), kept.masks(index))
    assert torch.equal(late.labels, kept.labels)
    (tmp_path / "SegmentationClass" / "a.png").write_bytes(b"")
    refused(
        lambda: late.masks(index),
        "open_data: all masks must stay readable while they are used, because each belongs to an image. "
        "Got mask "
        "a.png: no image. Mend it, and start again.",
    )


def test_a_changed_file_is_another_set(tmp_path):
    tree(tmp_path)
    first = open_data(f"voc:{tmp_path}").fingerprint()
    assert open_data(f"voc:{tmp_path}").fingerprint() == first
    save_mask(tmp_path / "SegmentationClass" / "b.png", np.ones((6, 8)))
    assert open_data(f"voc:{tmp_path}").fingerprint() != first


# --- damage -------------------------------------------------------------------------------------------


def spoil(root: Path) -> None:
    tree(root, "abcdefgh")
    masks, images = root / "SegmentationClass", root / "JPEGImages"
    (masks / "b.png").write_bytes((masks / "b.png").read_bytes()[:60])
    save_mask(masks / "c.png", np.zeros((6, 9)))
    Image.fromarray(np.zeros((6, 8, 3), dtype=np.uint8)).save(masks / "d.png")
    (images / "e.png").unlink()
    (masks / "f.png").unlink()
    os.mkfifo(masks / "f.png")
    (images / "g.png").write_text("no image")


def test_bad_files_are_counted_and_named(tmp_path):
    spoil(tmp_path)
    with pytest.raises(InputError) as error:
        open_data(f"voc:{tmp_path}")
    text = str(error.value)
    assert text.startswith(
        f"open_data: all images of folder {str(tmp_path)!r} must be readable, because each is a "
        "sample. Got 6 of 8 that are not, the first is 'b' (mask b.png: "
    )
    assert text.endswith("). Mend or remove them, or pass skip_bad=6 (--skip-bad 6).")
    assert "\n" not in text
    with pytest.warns(UnreadableImagesWarning):
        part = open_data(f"voc:{tmp_path}", skip_bad=6).images
    assert part.of.images.names == ["a", "h"]
    assert part.masks(torch.arange(2)).shape == (2, 6, 8)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("c", "mask c.png: 9 x 6, the image 8 x 6"),
        ("d", "mask d.png: of mode RGB, not palette or grey of 8 bits"),
        ("e", "no image of this name"),
        ("f", "mask f.png: no regular file"),
        ("g", "no image"),
    ],
)
def test_why_a_file_is_bad(tmp_path, name, reason):
    spoil(tmp_path)
    lists(tmp_path, train=f"{name}\na")
    refused(
        lambda: open_data(f"voc:{tmp_path}"),
        f"open_data: all images of folder {str(tmp_path)!r} must be readable, because each is a sample. "
        f"Got 1 of 2 "
        f"that are not, the first is {name!r} ({reason}). Mend or remove them, or pass skip_bad=1 "
        f"(--skip-bad 1).",
    )


def test_what_else_is_wrong(tmp_path):
    refused(
        lambda: open_data("voc:"),
        "open_data: data must name a folder behind voc:, because images and masks are read from there. "
        "Got 'voc:'. "
        "Add it.",
    )
    refused(
        lambda: open_data(f"voc:{tmp_path}"),
        f"open_data: folder {str(tmp_path)!r} must hold a folder JPEGImages or images, because images are "
        f"read from "
        "there. Got a folder without. Pass the folder that holds JPEGImages and SegmentationClass (or "
        "images and "
        "masks).",
    )
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    refused(
        lambda: open_data(f"voc:{tmp_path}"),
        f"open_data: folder {str(tmp_path)!r} must hold masks, because they are the data. Got none. Add "
        f"them, or "
        "check the path.",
    )
    tree(tmp_path, folders=("images", "masks"))
    lists(tmp_path, train="../a")
    refused(
        lambda: open_data(f"voc:{tmp_path}"),
        f"open_data: list 'train' of {str(tmp_path)!r} must hold names of images, because they are looked "
        f"for in "
        "its folders. Got '../a'. Write one name without folder and ending on each line.",
    )
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb")
    (tmp_path / "classes.txt").write_text("nothing\nsomething\n")
    refused(
        lambda: open_data(f"voc:{tmp_path}"),
        "SegmentedImages: maps must hold classes from 0 to 1, or 255, because there are 2 names, and 255 "
        "is not "
        "counted. Got 3 in image 0. Name every class.",
        ShapeError,
    )
    assert _voc.parts_of(tmp_path) == ("train",)
