"""Images in NumPy files and in memory: layouts, dtypes, labels, parts, and what is refused."""

import numpy as np
import pytest
import torch

from spherometer.data import open_arrays, open_data, open_parts
from spherometer.errors import InputError

GENERATOR = np.random.default_rng(0)
BYTES = GENERATOR.integers(0, 256, (10, 3, 6, 5), dtype=np.uint8)  # [N, C, H, W]


def stored(layout: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """An array in some layout, and the pixels in [0, 1] as [N, C, H, W]."""
    images = BYTES[:, :1] if layout == "hw" else BYTES
    values = images if dtype == "uint8" else (images / 255).astype(dtype)
    arranged = {
        "hw": lambda: values[:, 0],
        "chw": lambda: values,
        "hwc": lambda: values.transpose(0, 2, 3, 1),
        "fortran": lambda: np.asfortranarray(values),
        "reversed": lambda: values[:, :, ::-1],
    }[layout]()
    expected = images[:, :, ::-1] if layout == "reversed" else images
    return arranged, expected / 255


def refused(call, message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("dtype", ["uint8", "float32", ">f4", "float16", "float64"])
@pytest.mark.parametrize("layout", ["hw", "chw", "hwc", "fortran", "reversed"])
def test_layouts_and_dtypes(tmp_path, dtype, layout):
    values, expected = stored(layout, dtype)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.NPZ", images=values)
    (tmp_path / "a.NPZ.npz").rename(tmp_path / "a.NPZ")
    kinds = [open_data(tmp_path / name, views="none") for name in ("a.npy", "a.NPZ")]
    kinds.append(open_arrays(values, views="none"))
    for views in kinds:
        x, y = views(0, torch.tensor([9, 2]))
        np.testing.assert_allclose(x.numpy(), expected[[9, 2]], atol=1e-3 if dtype == "float16" else 1e-6)
        assert torch.equal(x, y)
        assert x.dtype == torch.float32
        assert len(views) == 10
        assert views.labels is None


def test_tensors_and_their_labels():
    images = torch.from_numpy(BYTES).requires_grad_(False)
    views = open_arrays(images, torch.arange(10).to(torch.int32) % 3, seed=4, name="mine", size=4)
    assert (views.name, views.source, views.seed) == ("mine", "arrays in memory", 4)
    assert views.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert views(0, torch.arange(3))[0].shape == (3, 3, 4, 4)
    assert views.changes.name == "simclr_cifar"
    assert open_arrays(images[:, :1]).changes.name == "fashion"
    assert open_arrays(torch.zeros(2, 65, 3)).changes.name == "simclr"
    learnt = torch.zeros(4, 8, 8, requires_grad=True)
    assert not open_arrays(learnt).load(torch.arange(2)).requires_grad


def test_contents_and_labels_decide_the_fingerprint(tmp_path):
    np.save(tmp_path / "a.npy", BYTES)
    first = open_data(tmp_path / "a.npy").fingerprint()
    changed = BYTES.copy()
    changed[9, 2, 5, 4] ^= 1
    np.save(tmp_path / "labels.npy", np.arange(10))
    labelled = open_data(tmp_path / "a.npy", label=str(tmp_path / "labels.npy"))
    assert labelled.labels.tolist() == list(range(10))
    second = labelled.fingerprint()
    np.save(tmp_path / "a.npy", changed)
    assert len({first, second, open_data(tmp_path / "a.npy").fingerprint()}) == 3


@pytest.mark.parametrize("names", [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
def test_an_archive_with_parts(tmp_path, names):
    image, label = names
    held = {image.format("train"): BYTES, label.format("train"): np.arange(10)[:, None] % 2}
    held |= {image.format("test"): BYTES[:4], label.format("test"): np.arange(4) % 2}
    np.savez(tmp_path / "a.npz", **held)
    parts = open_parts(tmp_path / "a.npz")
    assert (len(parts.train), len(parts.test)) == (10, 4)
    assert parts.train.labels.tolist() == [0, 1] * 5
    assert (parts.test.pixels(torch.arange(4)).numpy() == BYTES[:4]).all()
    assert len(open_data(tmp_path / "a.npz")) == 10
    with pytest.raises(InputError, match=r"must have a part 'other'.*Got the parts train, test"):
        open_data(tmp_path / "a.npz", part="other")
    with pytest.raises(InputError, match="must have a part 'all'"):
        open_data(tmp_path / "a.npz", part="all")


def test_arrays_of_an_archive_by_name(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, pictures=BYTES, kinds=np.arange(10), y=np.zeros(10, dtype=int))
    views = open_data(path, image="pictures", label="kinds")
    assert views.labels.tolist() == list(range(10))
    assert open_data(path, image="pictures").labels.tolist() == [0] * 10
    message = "read: file {!r} must hold an array named {}, because it is looked up by name. Got {}. {}."
    have = "pictures, kinds, y"
    again = "Save the images with np.save"
    refused(lambda: open_data(path), message.format(str(path), "images or x", have, again))
    refused(lambda: open_data(path, image="z"), message.format(str(path), "z", have, again))
    other = message.format(str(path), "z", have, "Pass another label")
    refused(lambda: open_data(path, image="pictures", label="z"), other)
    np.save(tmp_path / "a.npy", BYTES)
    with pytest.raises(InputError, match=r"must be read without image, because it holds one array"):
        open_data(tmp_path / "a.npy", image="pictures")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 8)), r"have shape \[N, H, W\], \[N, C, H, W\] or \[N, H, W, C\].*Got shape \(4, 8\)"),
        (np.zeros((4, 3, 8, 3)), r"with C = 1 or 3 in one place"),
        (np.zeros((4, 2, 8, 8)), r"Got shape \(4, 2, 8, 8\)"),
        (np.zeros((0, 8, 8)), r"N >= 1"),
        (np.zeros((4, 8, 8), dtype=np.int32), r"hold uint8, or floating-point numbers.*Got dtype int32"),
        (np.zeros((4, 8, 8), dtype=bool), r"Got dtype bool"),
        (
            np.full((4, 8, 8), 255.0),
            r"hold numbers from 0 to 1.*Got values from 255 to 255.*Divide bytes by 255",
        ),
        (np.full((4, 8, 8), -0.1), r"hold numbers from 0 to 1"),
        (np.full((4, 8, 8), np.nan), r"hold numbers from 0 to 1.*Got values from nan to nan"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, words):
    np.save(tmp_path / "images.npy", array)
    np.savez(tmp_path / "images.npz", images=array)
    for suffix in ("npy", "npz"):
        with pytest.raises(InputError, match=rf"^read: file '.*\.{suffix}' must {'.*'}{words}[^\n]*$"):
            open_data(tmp_path / f"images.{suffix}")
    with pytest.raises(InputError, match=rf"^open_arrays: images must .*{words}[^\n]*$"):
        open_arrays(array)


def test_other_arguments_are_refused():
    for images, kind in (([[1]], "list"), (None, "NoneType")):
        refused(
            lambda images=images: open_arrays(images),
            "open_arrays: images must be a tensor or a NumPy array, because it is read by rows. "
            f"Got {kind}. Convert it first.",
        )
    for labels in (np.zeros(3, dtype=int), np.zeros(10), np.full(10, -1), np.array(["a"] * 10)):
        with pytest.raises(InputError, match="open_arrays: labels must hold 10 whole numbers from 0"):
            open_arrays(BYTES, labels)
    with pytest.raises(InputError, match="open_arrays: images must have shape"):
        open_arrays(np.ones((), dtype=np.float32))


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, BYTES)
    content = path.read_bytes()
    for length in (*range(0, len(content), 61), len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"^read: file [^\n]*$"):
            open_data(path)
    with pytest.raises(InputError, match="data must be a known set"):
        open_data(tmp_path / "none.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(InputError, match="must hold images"):
        open_data(tmp_path / "folder.npy")
