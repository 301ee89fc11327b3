"""Folders of images: order, classes, parts, pixels, sizes, and everything that is wrong with them."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spherometer.data import UnreadableImagesWarning, _decode, open_data, open_parts
from spherometer.errors import InputError


def picture(seed: int = 0, size: tuple[int, int] = (6, 8), channels: int = 3) -> Image.Image:
    """Random pixels, ``size`` is height and width."""
    shape = size if channels == 1 else (*size, channels)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def save(path: Path, image: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture() if image is None else image).save(path, **options)
    return path


def pixels(views, *rows: int) -> np.ndarray:
    return views.load(torch.tensor(rows or range(len(views)))).numpy()


def refused(call, message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header says how large it is, without the pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + bytes(13)


class TestOrder:
    def test_names_decide_and_first_folders_are_classes(self, tmp_path):
        names = ["b/2.png", "b/10.png", "a/z/1.png", "a/0.png", "c/.hidden.png", "c/notes.txt", ".git/x.png"]
        for seed, name in enumerate(names):
            path = tmp_path / name
            if path.suffix == ".png":
                save(path, picture(seed))
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_text("no image")
        views = open_data(tmp_path)
        expected = [3, 2, 1, 0]  # a/0, a/z/1, b/10, b/2
        assert pixels(views).tolist() == [
            np.asarray(picture(s)).transpose(2, 0, 1).tolist() for s in expected
        ]
        assert views.labels.tolist() == [0, 0, 1, 1]
        assert views.labels.dtype == torch.int64
        assert (views.name, views.source) == (tmp_path.name, f"folder {str(tmp_path)!r}")

    def test_without_sub_folders_or_with_images_beside_them_there_are_no_labels(self, tmp_path):
        save(tmp_path / "x" / "0.png")
        save(tmp_path / "x" / "1.png")
        assert open_data(tmp_path / "x").labels is None
        assert open_data(tmp_path).labels.tolist() == [0, 0]
        save(tmp_path / "2.png")
        assert open_data(tmp_path).labels is None

    def test_parts_number_their_classes_together(self, tmp_path):
        for name in ("train/b/0.png", "train/c/0.png", "test/a/0.png", "test/c/0.png"):
            save(tmp_path / name, picture(len(name)))
        parts = open_parts(tmp_path)
        assert (parts.train.labels.tolist(), parts.test.labels.tolist()) == ([1, 2], [0, 2])
        assert parts.train.images(torch.arange(2)).dtype == torch.float32
        assert open_data(tmp_path).labels.tolist() == [1, 2]
        assert open_data(tmp_path, part="test").labels.tolist() == [0, 2]
        save(tmp_path / "cats" / "0.png")  # now train and test are classes like cats
        assert open_data(tmp_path).labels.tolist() == [0, 1, 1, 2, 2]
        refused(
            lambda: open_parts(tmp_path),
            f"open_data: data {str(tmp_path)!r} must have a part 'test', because nothing is split "
            "off by chance. "
            "Got one without parts. Leave part (or --probe) out, or pass other data: named sets, "
            "folders with "
            "train/ and test/, .npz files with x_train, y_train, x_test and y_test, and hf: data "
            "sets with train "
            "and test have parts.",
        )

    def test_names_and_sizes_decide_the_fingerprint(self, tmp_path):
        save(tmp_path / "0.png")
        save(tmp_path / "1.png")
        first = open_data(tmp_path).fingerprint()
        os.utime(tmp_path / "0.png", (0, 0))
        assert open_data(tmp_path).fingerprint() == first
        assert open_data(tmp_path, seed=1).fingerprint() != first
        (tmp_path / "0.png").rename(tmp_path / "00.png")
        renamed = open_data(tmp_path).fingerprint()
        save(tmp_path / "00.png", dpi=(72, 72))
        assert len({first, renamed, open_data(tmp_path).fingerprint()}) == 3


class TestPixels:
    @pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "tiff", "ppm"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_lossless_formats_are_read_exactly(self, tmp_path, suffix, channels):
        image = picture(1, channels=channels)
        save(tmp_path / f"x.{suffix}", image)
        expected = np.asarray(image)
        expected = expected[None] if channels == 1 else expected.transpose(2, 0, 1)
        assert pixels(open_data(tmp_path))[0].tolist() == expected.tolist()

    def test_webp_gif_and_jpeg(self, tmp_path):
        image = picture(1)
        save(tmp_path / "a.webp", image, lossless=True)
        save(tmp_path / "b.jpeg", image, quality=100, subsampling=0)
        frames = [picture(seed, channels=1) for seed in (1, 2)]
        save(tmp_path / "c.gif", frames[0], save_all=True, append_images=frames[1:])
        found = pixels(open_data(tmp_path)).astype(int)
        expected = np.asarray(image).transpose(2, 0, 1).astype(int)
        assert (found[0] == expected).all()
        assert np.abs(found[1] - expected).mean() < 3
        assert (found[2] == np.asarray(frames[0])).all()

    def test_the_orientation_of_exif_is_applied(self, tmp_path):
        image = picture(3, (4, 6))
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        save(tmp_path / "x.png", image, exif=exif)
        views = open_data(tmp_path)
        turned = np.rot90(np.asarray(image), -1).transpose(2, 0, 1)
        assert views.images.shape == (3, 6, 4)
        assert (pixels(views)[0] == turned).all()

    def test_sixteen_bits_palettes_and_transparency(self, tmp_path):
        values = np.random.default_rng(0).integers(0, 2**16, (6, 8), dtype=np.uint16)
        save(tmp_path / "deep" / "0.png", Image.fromarray(values))
        assert (pixels(open_data(tmp_path / "deep"))[0, 0] == values >> 8).all()
        image = picture(2)
        alpha = image.copy()
        alpha.putalpha(7)
        save(tmp_path / "more" / "0.png", alpha)
        palette = image.quantize(16)
        save(tmp_path / "more" / "1.png", palette, transparency=bytes([0] * 8))
        found = pixels(open_data(tmp_path / "more"))
        assert (found[0] == np.asarray(image).transpose(2, 0, 1)).all()
        assert (found[1] == np.asarray(palette.convert("RGB")).transpose(2, 0, 1)).all()

    def test_grey_only_when_all_are(self, tmp_path):
        save(tmp_path / "0.png", picture(0, channels=1))
        assert open_data(tmp_path).images.shape == (1, 6, 8)
        save(tmp_path / "1.png", picture(1))
        found = pixels(open_data(tmp_path))
        assert found.shape == (2, 3, 6, 8)
        assert (found[0] == np.asarray(picture(0, channels=1))).all()

    def test_the_centre_is_cut_out_and_resized(self, tmp_path):
        wide = np.zeros((4, 10), dtype=np.uint8)
        wide[:, 3:7] = np.arange(16).reshape(4, 4) * 10
        save(tmp_path / "0.png", Image.fromarray(wide))
        save(tmp_path / "1.png", Image.fromarray(wide.T.copy()))
        found = pixels(open_data(tmp_path, size=4))
        assert (found[0, 0] == wide[:, 3:7]).all()
        assert (found[1, 0] == wide[:, 3:7].T).all()
        assert open_data(tmp_path, size=8)(0, torch.arange(2))[0].shape == (2, 1, 8, 8)

    def test_several_sizes_must_be_settled(self, tmp_path):
        save(tmp_path / "0.png", picture(0, (6, 8)))
        save(tmp_path / "1.png", picture(0, (9, 5)))
        refused(
            lambda: open_data(tmp_path),
            f"open_data: size must be given for folder {str(tmp_path)!r}, because a batch needs "
            "images of one "
            "size. Got 8 x 6 in '0.png' and 5 x 9 in '1.png' (width x height). Pass for instance "
            "size=5 (--size "
            "5): the centre is cut out and resized.",
        )

    def test_decoding_when_used_gives_the_same(self, tmp_path, monkeypatch):
        for seed in range(4):
            save(tmp_path / f"{seed}.jpg", picture(seed, (16, 20)))
        kept = open_data(tmp_path, size=8)
        monkeypatch.setattr(_decode, "KEPT_BYTES", 0)
        late = open_data(tmp_path, size=8)
        assert late.images.of.kept is None
        assert (pixels(kept, 3, 0, 3) == pixels(late, 3, 0, 3)).all()
        assert late.fingerprint() == kept.fingerprint()
        assert late.load(torch.zeros(0, dtype=torch.int64)).shape == (0, 3, 8, 8)
        (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:-200])
        with pytest.raises(InputError) as error:
            late.load(torch.tensor([1, 2]))
        assert str(error.value).startswith(
            f"open_data: folder {str(tmp_path)!r} must stay readable while it is trained on, "
            "because every image "
            "is used in every epoch. Got '2.jpg' ("
        )


def damaged(folder: Path) -> list[str]:
    """A folder with two good images; the names of the bad ones."""
    save(folder / "good" / "0.png")
    save(folder / "good" / "1.png", picture(1))
    content = save(folder / "bad" / "cut.png", picture(2, (40, 40))).read_bytes()
    (folder / "bad" / "cut.png").write_bytes(content[: len(content) // 2])
    (folder / "bad" / "empty.jpg").write_bytes(b"")
    (folder / "bad" / "text.gif").write_text("<html>not found</html>")
    (folder / "bad" / "bomb.png").write_bytes(png_of(60_000, 60_000))
    (folder / "bad" / "large.png").write_bytes(png_of(10_000, 10_000))
    (folder / "bad" / "device.png").symlink_to("/dev/zero")
    (folder / "bad" / "nowhere.png").symlink_to("nothing")
    os.mkfifo(folder / "bad" / "pipe.png")
    return sorted(path.name for path in (folder / "bad").iterdir())


class TestDamage:
    def test_unreadable_images_are_counted_and_the_first_is_named(self, tmp_path):
        names = damaged(tmp_path)
        assert len(names) == 8
        with pytest.raises(InputError) as error:
            open_data(tmp_path, size=6)
        start, _, end = str(error.value).partition(" 'bad/bomb.png' (")
        assert start == (
            f"open_data: all images of folder {str(tmp_path)!r} must be readable, because each is a "
            "sample. Got 8 "
            "of 10 that are not, the first is"
        )
        assert "decompression bomb" in end
        assert end.endswith("). Mend or remove them, or pass skip_bad=8 (--skip-bad 8).")
        assert "\n" not in str(error.value)
        with pytest.raises(InputError, match=r"but for 7 at most \(skip_bad\).*Got 8 of 10"):
            open_data(tmp_path, size=6, skip_bad=7)
        with pytest.warns(UnreadableImagesWarning) as caught:
            views = open_data(tmp_path, size=6, skip_bad=8)
        assert len(caught) == 1
        assert str(caught[0].message).startswith(
            f"open_data: 8 of 10 images of folder {str(tmp_path)!r} left out because they cannot be "
            "read, the first "
            "is 'bad/bomb.png' ("
        )
        assert (len(views), views.labels.tolist()) == (2, [1, 1])

    def test_every_truncation_is_found(self, tmp_path):
        for suffix in ("png", "jpg", "bmp"):
            folder = tmp_path / suffix
            content = save(folder / f"0.{suffix}", picture(0, (9, 9))).read_bytes()
            enough = {"png": 16, "jpg": 2, "bmp": 0}[suffix]  # an end without pixels may be missing
            for length in range(0, len(content) - enough, max(1, len(content) // 12)):
                (folder / f"0.{suffix}").write_bytes(content[:length])
                with pytest.raises(InputError, match="Got 1 of 1 that are not"):
                    open_data(folder)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp"])
    def test_whatever_the_bytes_are_there_are_pixels_or_one_line(self, tmp_path, suffix):
        image = picture(0, (16, 16))
        exif = {} if suffix in ("gif", "bmp") else {"exif": Image.Exif()}
        content = save(tmp_path / f"0.{suffix}", image, **exif).read_bytes()
        generator = np.random.default_rng(0)
        for num in (1, 2, 8) * 20:
            changed = bytearray(content)
            for place in generator.integers(0, min(len(content), 200), num):
                changed[place] = generator.integers(256)
            (tmp_path / f"0.{suffix}").write_bytes(changed)
            said = "Got 1 of 1 that are not"
            try:
                shape = pixels(open_data(tmp_path, size=4)).shape
            except InputError as error:
                said, shape = str(error), (1, 3, 4, 4)
            assert shape in ((1, 1, 4, 4), (1, 3, 4, 4))
            assert "Got 1 of 1 that are not" in said
            assert "\n" not in said

    def test_nothing_to_train_on(self, tmp_path):
        message = (
            "open_data: folder {!r} must hold images, because they are the training data. Got none "
            "of .png .jpg "
            ".jpeg .bmp .gif .tif .tiff .webp .ppm .pgm in it or below. Pass the folder that holds them."
        )
        refused(lambda: open_data(tmp_path), message.format(str(tmp_path)))
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "notes.txt").write_text("no image")
        refused(lambda: open_data(tmp_path), message.format(str(tmp_path)))
        (tmp_path / "a" / "0.png").write_bytes(b"")
        with pytest.raises(InputError, match="Got 1 of 1 that are not"):
            open_data(tmp_path)
        with (
            pytest.warns(UnreadableImagesWarning),
            pytest.raises(InputError, match=r"hold images.*no readable"),
        ):
            open_data(tmp_path, skip_bad=1)

    def test_links_are_followed_but_not_in_circles(self, tmp_path):
        save(tmp_path / "real" / "0.png")
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "a").symlink_to(tmp_path / "real")
        (tmp_path / "set" / "b").symlink_to(tmp_path / "real")
        assert open_data(tmp_path / "set").labels.tolist() == [0, 1]
        (tmp_path / "real" / "back").symlink_to(tmp_path / "set")
        with pytest.raises(
            InputError, match="must not lead back to itself, because its images would have no end"
        ):
            open_data(tmp_path / "set")
        (tmp_path / "set" / "c").symlink_to(tmp_path / "set" / "c")  # a link to itself is no folder
        (tmp_path / "real" / "back").unlink()
        assert len(open_data(tmp_path / "set")) == 2

    def test_options_of_other_kinds_are_refused(self, tmp_path):
        save(tmp_path / "0.png")
        for name in ("image", "label", "left", "right"):
            with pytest.raises(InputError, match=f"open_data: {name} must be left out for"):
                open_data(tmp_path, **{name: "x"})
        with pytest.raises(InputError, match="skip_bad must be a whole number of at least 0"):
            open_data(tmp_path, skip_bad=-1)

    def test_a_folder_that_may_not_be_read(self, tmp_path, monkeypatch):
        def scandir(path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "scandir", scandir)
        with pytest.raises(
            InputError, match=r"must be readable, because.*Got permission denied. Check its perm"
        ):
            open_data(tmp_path)

    def test_other_paths_say_what_is_possible(self, tmp_path):
        words = (
            "open_data: data must be a known set (cifar10, cifar100, digits, fashion_mnist, mnist, "
            "stl10) or the "
            "path of a folder of images, of a .npy or .npz file, of a .tsv, .csv or .jsonl file of "
            "pairs of texts, "
            "or hf:PATH, bids:PATH, volumes:PATH, scenes:LAYOUT or voc:PATH, because there is nothing "
            "else to read. Got {}. "
            "Pass one of these names, or "
            "check the path."
        )
        refused(lambda: open_data("cifar"), words.format("'cifar'"))
        (tmp_path / "x.parquet").write_bytes(b"PAR1")
        for path in (tmp_path / "x.parquet", "/dev/zero"):
            refused(
                lambda p=path: open_data(p), words.format(f"{str(path)!r}, which is another kind of file")
            )
