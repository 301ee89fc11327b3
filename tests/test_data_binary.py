"""Public image sets in their binary formats: every pixel, every damage."""

import contextlib
import gzip
import math
import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spherometer.data import open_data, open_parts
from spherometer.data._cifar import read_cifar
from spherometer.data._idx import read_idx, read_idx_pair
from spherometer.data._locations import SYSTEM
from spherometer.data._stl10 import read_stl10
from spherometer.errors import InputError

FASHION = Path(SYSTEM["fashion_mnist"][0])


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    for word in (" must ", ", because ", ". Got "):
        assert word in message
    return message


def idx(array: np.ndarray) -> bytes:
    """The format as its publisher describes it: 0 0 type axes, sizes in big-endian order, bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def cifar(images: np.ndarray, *labels: list[int]) -> bytes:
    """Byte by byte: labels, then all of red, of green, of blue, each row after row."""
    out = bytearray()
    for row in range(len(images)):
        out += bytes(part[row] for part in labels)
        for colour in range(3):
            for y in range(32):
                out += bytes(int(images[row, colour, y, x]) for x in range(32))
    return bytes(out)


def stl10(images: np.ndarray) -> bytes:
    """Byte by byte: each colour column after column."""
    out = bytearray()
    for row in range(len(images)):
        for colour in range(3):
            for x in range(96):
                out += bytes(int(images[row, colour, y, x]) for y in range(96))
    return bytes(out)


class TestCifar10:
    @pytest.fixture
    def root(self, tmp_path):
        folder = tmp_path / "cifar-10-batches-bin"
        folder.mkdir()
        for number in range(1, 6):
            content = cifar(numbers(2, 3, 32, 32, seed=number), [number, 9 - number])
            (folder / f"data_batch_{number}.bin").write_bytes(content)
        (folder / "test_batch.bin").write_bytes(cifar(numbers(3, 3, 32, 32, seed=9), [0, 9, 4]))
        return tmp_path

    def test_every_pixel_and_label(self, root):
        parts = open_parts("cifar10", root)
        assert (len(parts.train), len(parts.test)) == (10, 3)
        expected = np.concatenate([numbers(2, 3, 32, 32, seed=number) for number in range(1, 6)])
        assert np.array_equal(parts.train.pixels(torch.arange(10)).numpy(), expected)
        assert np.array_equal(parts.test.pixels(torch.arange(3)).numpy(), numbers(3, 3, 32, 32, seed=9))
        assert parts.train.labels.tolist() == [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]
        assert parts.test.labels.tolist() == [0, 9, 4]
        assert parts.train.labels.dtype == torch.int64
        floats = parts.train.images(torch.tensor([7, 2]))
        assert torch.equal(floats, torch.from_numpy(expected[[7, 2]]).float() / 255)
        assert parts.train.source == "CIFAR-10 (Krizhevsky 2009), binary version, train part"

    def test_views(self, root):
        pytest.importorskip("kornia", reason="views are made by kornia")
        views = open_data("cifar10", data_dir=root, seed=3)
        x, y = views(0, torch.tensor([1, 4, 8]))
        assert x.shape == y.shape == (3, 3, 32, 32)
        assert torch.equal(views(0, torch.tensor([4]))[0], x[1:2])
        assert views.labels.tolist() == [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]
        assert views.fingerprint() == open_data("cifar10", data_dir=root, seed=3).fingerprint()

    def test_a_changed_pixel_is_other_data(self, root):
        before = open_data("cifar10", data_dir=root).fingerprint()
        path = root / "cifar-10-batches-bin" / "data_batch_3.bin"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert open_data("cifar10", data_dir=root).fingerprint() != before

    def test_the_directory_of_the_files_itself(self, root):
        assert len(open_data("cifar10", data_dir=root / "cifar-10-batches-bin")) == 10

    def test_environment(self, root, monkeypatch):
        monkeypatch.setenv("SPHEROMETER_DATA", str(root))
        assert len(open_data("cifar10", part="test")) == 3

    def test_a_missing_file(self, root):
        (root / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
        with pytest.raises(InputError) as error:
            open_data("cifar10", data_dir=root)
        assert one_line(error) == (
            "open_data: data set 'cifar10' must have its files (data_batch_1.bin, data_batch_2.bin, "
            "data_batch_3.bin, data_batch_4.bin, data_batch_5.bin) in the data directory, because nothing is "
            f"downloaded unless you ask for it. Got none in {str(root)!r}. Pass download=True (--download), "
            "or their directory as data_dir (--data-dir)."
        )
        assert len(open_data("cifar10", data_dir=root, part="test")) == 3

    def test_a_part_that_is_none(self, root):
        with pytest.raises(InputError, match=r"part .*unlabeled"):
            open_data("cifar10", data_dir=root, part="unlabeled")


class TestCifarDamage:
    @pytest.mark.parametrize("size", [0, 1, 2, 3072, 3074, 4000, 2 * 3073 - 1, 2 * 3073 + 1])
    def test_length(self, tmp_path, size):
        path = tmp_path / "data_batch_1.bin"
        path.write_bytes(bytes(size))
        with pytest.raises(InputError) as error:
            read_cifar([path])
        assert one_line(error) == (
            f"read: file {str(path)!r} must hold whole records of 3073 bytes, because a shorter or longer "
            f"file was damaged or is still being written. Got {size} bytes. Download it again."
        )

    def test_label(self, tmp_path):
        path = tmp_path / "data_batch_1.bin"
        path.write_bytes(cifar(numbers(3, 3, 32, 32), [0, 9, 10]))
        with pytest.raises(InputError) as error:
            read_cifar([path])
        assert one_line(error) == (
            f"read: file {str(path)!r} must hold labels from 0 to 9, because the set has 10 classes. "
            "Got 10 in row 2. Download it again."
        )

    @pytest.mark.parametrize(("size", "got"), [((1 << 40) + 1, "bytes"), (3073 << 30, "Got 1073741824")])
    def test_an_enormous_file_is_refused_before_memory_is_asked_for(self, tmp_path, size, got):
        path = tmp_path / "data_batch_1.bin"
        with path.open("wb") as file:
            file.truncate(size)
        tracemalloc.start()
        try:
            with pytest.raises(InputError) as error:
                read_cifar([path])
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
        assert got in one_line(error)

    @pytest.mark.parametrize("kind", ["missing", "directory", "pipe"])
    def test_no_file(self, tmp_path, kind):
        path = tmp_path / "train.bin"
        if kind == "directory":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        with pytest.raises(InputError) as error:
            read_cifar([path], num_classes=100)
        one_line(error)


class TestCifar100:
    def test_fine_classes_are_the_labels(self, tmp_path):
        images = numbers(4, 3, 32, 32)
        (tmp_path / "train.bin").write_bytes(cifar(images, [0, 19, 3, 4], [99, 0, 55, 20]))
        (tmp_path / "test.bin").write_bytes(cifar(images[:2], [1, 2], [7, 8]))
        parts = open_parts("cifar100", tmp_path)
        assert parts.train.labels.tolist() == [99, 0, 55, 20]
        assert parts.test.labels.tolist() == [7, 8]
        assert np.array_equal(parts.train.pixels(torch.arange(4)).numpy(), images)

    @pytest.mark.parametrize(
        ("coarse", "fine", "words"),
        [(20, 5, "labels from 0 to 19, because the set has 20 classes. Got 20 in row 1"),
         (3, 100, "labels from 0 to 99, because the set has 100 classes. Got 100 in row 1")],
    )  # fmt: skip
    def test_label(self, tmp_path, coarse, fine, words):
        path = tmp_path / "train.bin"
        path.write_bytes(cifar(numbers(2, 3, 32, 32), [0, coarse], [0, fine]))
        with pytest.raises(InputError) as error:
            read_cifar([path], num_classes=100)
        assert words in one_line(error)

    def test_files_of_cifar10_are_refused(self, tmp_path):
        path = tmp_path / "train.bin"
        path.write_bytes(cifar(numbers(2, 3, 32, 32), [0, 1]))
        with pytest.raises(InputError, match=r"whole records of 3074 bytes.*Got 6146 bytes"):
            read_cifar([path], num_classes=100)


class TestStl10:
    @pytest.fixture
    def root(self, tmp_path):
        folder = tmp_path / "stl10_binary"
        folder.mkdir()
        for name, num in (("train", 3), ("test", 2), ("unlabeled", 4)):
            (folder / f"{name}_X.bin").write_bytes(stl10(numbers(num, 3, 96, 96, seed=num)))
        (folder / "train_y.bin").write_bytes(bytes([1, 10, 4]))
        (folder / "test_y.bin").write_bytes(bytes([2, 3]))
        return tmp_path

    def test_every_pixel_and_label(self, root):
        parts = open_parts("stl10", root)
        for part, num in ((parts.train, 3), (parts.test, 2)):
            assert len(part) == num
            assert np.array_equal(part.pixels(torch.arange(num)).numpy(), numbers(num, 3, 96, 96, seed=num))
        assert parts.train.labels.tolist() == [0, 9, 3]
        assert parts.test.labels.tolist() == [1, 2]

    def test_encoders_are_trained_on_everything_but_the_test_images(self, root):
        pytest.importorskip("kornia", reason="views are made by kornia")
        views = open_data("stl10", data_dir=root)
        everything = np.concatenate([numbers(3, 3, 96, 96, seed=3), numbers(4, 3, 96, 96, seed=4)])
        assert len(views) == 7
        assert views.labels is None
        rows = torch.tensor([6, 0, 3, 2, 6])
        assert np.array_equal(views.load(rows).numpy(), everything[rows])
        assert views.load(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 96, 96)
        assert views(0, torch.tensor([5, 1]))[0].shape == (2, 3, 64, 64)
        assert views.source.endswith("train+unlabeled part")

    def test_a_row_is_read_when_it_is_needed(self, tmp_path):
        """The true number of unlabelled images, 2.6 GiB, in a file with a hole."""
        image = numbers(1, 3, 96, 96)
        with (tmp_path / "unlabeled_X.bin").open("wb") as file:
            file.seek(76_543 * 27_648)
            file.write(stl10(image))
            file.truncate(100_000 * 27_648)
        tracemalloc.start()
        try:
            views = open_data("stl10", data_dir=tmp_path, part="unlabeled")
            assert len(views) == 100_000
            found = views.load(torch.tensor([99_999, 76_543, 0]))
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
        assert found.dtype == torch.uint8
        assert np.array_equal(found[1].numpy(), image[0])
        assert int(found[[0, 2]].max()) == 0

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            (bytes([1, 0, 4]), "labels from 1 to 10, because the set has 10 classes. Got 0 in row 1"),
            (bytes([1, 2, 11]), "labels from 1 to 10, because the set has 10 classes. Got 11 in row 2"),
            (bytes([1, 2]), "hold 3 labels, because train_X.bin holds 3 images. Got 2"),
            (bytes([1, 2, 3, 4]), "hold 3 labels, because train_X.bin holds 3 images. Got 4"),
            (b"", "Got 0 bytes"),
        ],
    )
    def test_labels(self, root, labels, words):
        (root / "stl10_binary" / "train_y.bin").write_bytes(labels)
        with pytest.raises(InputError) as error:
            open_parts("stl10", root)
        assert words in one_line(error)

    @pytest.mark.parametrize("size", [0, 1, 27_647, 27_649, 3 * 27_648 - 1, 3 * 27_648 + 1])
    def test_length(self, root, size):
        path = root / "stl10_binary" / "train_X.bin"
        os.truncate(path, size)
        with pytest.raises(InputError) as error:
            read_stl10("stl10", "made here", path, None)
        assert f"must hold whole images of 27648 bytes, because a shorter or longer file was damaged or is " \
               f"still being written. Got {size} bytes." in one_line(error)  # fmt: skip

    def test_a_file_that_changes_while_training(self, root):
        views = open_data("stl10", data_dir=root, part="unlabeled")
        path = root / "stl10_binary" / "unlabeled_X.bin"
        os.truncate(path, 2 * 27_648)
        with pytest.raises(InputError) as error:
            views.load(torch.tensor([3]))
        assert "a file that was changed" in one_line(error)
        path.unlink()
        with pytest.raises(InputError) as error:
            views.load(torch.tensor([3]))
        assert "no such file or directory" in one_line(error)


class TestIdx:
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
    def test_what_was_written(self, tmp_path_factory, shape, packed, seed):
        path = tmp_path_factory.mktemp("idx") / "file"
        array = numbers(*shape, seed=seed)
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
        assert np.array_equal(read_idx(path).numpy(), array)

    @pytest.mark.parametrize("packed", [False, True])
    def test_cut_anywhere_or_longer(self, tmp_path, packed):
        path = tmp_path / "train-images-idx3-ubyte"
        content = idx(numbers(2, 5, 4))
        content = gzip.compress(content) if packed else content
        for num in range(len(content)):
            path.write_bytes(content[:num])
            with pytest.raises(InputError) as error:
                read_idx(path)
            one_line(error)
        for more in (b"\0", content, bytes(3000)):
            path.write_bytes(content + more)
            with pytest.raises(InputError) as error:
                read_idx(path)
            one_line(error)

    def test_every_bit_of_the_header(self, tmp_path):
        path = tmp_path / "train-images-idx3-ubyte"
        content = idx(numbers(2, 5, 4))
        for bit in range(8 * 16):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(InputError) as error:
                read_idx(path)
            one_line(error)

    def test_every_bit_of_a_packed_file(self, tmp_path):
        """Refused; or a bit that says nothing of the data: of the date, or the padding."""
        path = tmp_path / "train-images-idx3-ubyte.gz"
        array = numbers(2, 3, 3)
        content = gzip.compress(idx(array), mtime=0)
        for bit in range(8 * len(content)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with contextlib.suppress(InputError):
                assert np.array_equal(read_idx(path).numpy(), array)

    @pytest.mark.parametrize("shape", [(4, 4), (200_000, 28, 28), (4_000_000_000, 4_000_000_000)])
    def test_a_bomb_costs_nothing(self, tmp_path, shape):
        """100 MB of zeros in 100 kB, behind a header that says less, more than it can hold, and nonsense."""
        pack = zlib.compressobj(9, wbits=31)
        head = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        path = tmp_path / "train-images-idx3-ubyte.gz"
        with path.open("wb") as file:
            file.write(pack.compress(head))
            for _ in range(100):
                file.write(pack.compress(bytes(1 << 20)))
            file.write(pack.flush())
        tracemalloc.start()
        try:
            with pytest.raises(InputError) as error:
                read_idx(path)
            assert tracemalloc.get_traced_memory()[1] < 5 << 20
        finally:
            tracemalloc.stop()
        assert f"header of shape {shape}" in one_line(error) or f"data for shape {shape}" in one_line(error)
        assert path.stat().st_size * 1100 < math.prod(shape) or shape == (4, 4)

    def test_images_and_labels_belong_together(self, tmp_path):
        images, labels = tmp_path / "images", tmp_path / "labels"
        images.write_bytes(idx(numbers(3, 4, 4)))
        labels.write_bytes(idx(np.array([0, 9, 4], dtype=np.uint8)))
        pixels, classes = read_idx_pair(images, labels)
        assert np.array_equal(pixels[:, 0].numpy(), numbers(3, 4, 4))
        assert classes.tolist() == [0, 9, 4]
        for content, words in (
            (np.array([0, 9], dtype=np.uint8), "hold 3 labels, because images holds 3 images"),
            (np.array([0, 9, 10], dtype=np.uint8), "Got 10 in row 2"),
            (numbers(3, 4, 4), "hold 3 labels"),
        ):
            labels.write_bytes(idx(content))
            with pytest.raises(InputError) as error:
                read_idx_pair(images, labels)
            assert words in one_line(error)

    @pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
    def test_by_name(self, tmp_path, name):
        """Packed or not, in the sub-directory of the set."""
        folder = tmp_path / name
        folder.mkdir()
        for part, num in (("train", 4), ("t10k", 3)):
            images, labels = numbers(num, 28, 28, seed=num), np.arange(num, dtype=np.uint8)
            (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
            (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
        parts = open_parts(name, tmp_path)
        assert np.array_equal(parts.train.pixels(torch.arange(4))[:, 0].numpy(), numbers(4, 28, 28, seed=4))
        assert parts.test.labels.tolist() == [0, 1, 2]
        assert len(open_data(name, data_dir=tmp_path)) == 4


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    return open_parts("fashion_mnist", tmp_path_factory.mktemp("nothing"))


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
class TestFashionMnist:
    """Facts that the paper and the first rows of the published files state."""

    def test_sizes_and_classes(self, fashion):
        assert fashion.train.shape == fashion.test.shape == (1, 28, 28)
        assert torch.bincount(fashion.train.labels).tolist() == [6000] * 10
        assert torch.bincount(fashion.test.labels).tolist() == [1000] * 10

    def test_first_labels(self, fashion):
        assert fashion.train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
        assert fashion.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]

    def test_grey_values(self, fashion):
        pixels = fashion.train.pixels(torch.arange(60_000)).numpy()
        assert (pixels.min(), pixels.max()) == (0, 255)
        assert pixels.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
        assert pixels.std() / 255 == pytest.approx(0.3530, abs=5e-5)
