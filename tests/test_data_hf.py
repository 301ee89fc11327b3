"""Data sets of Hugging Face: saved ones, their columns and parts, and names that only the hub could know."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spherometer.data import UnreadableImagesWarning, open_data, open_parts
from spherometer.errors import InputError, MissingExtraError

datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)


def png(row: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[row]).save(buffer, "png")
    return buffer.getvalue()


def dataset(rows, *, labels=None, bad=(), **more):
    """Images of the rows, in a column of images; those in ``bad`` are cut in the middle."""
    contents = [png(row) for row in rows]
    columns = {
        "picture": [
            {"bytes": c[:60] if r in bad else c, "path": None} for r, c in zip(rows, contents, strict=True)
        ]
    }
    features = {"picture": datasets.Image()}
    if labels is not None:
        columns["kind"] = labels
        features["kind"] = datasets.ClassLabel(names=["a", "b", "c"])
    for name, values in more.items():
        columns[name] = values
        features[name] = datasets.Value("string" if isinstance(values[0], str) else "int64")
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def save(tmp_path: Path, found) -> str:
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    found.save_to_disk(str(tmp_path / "set"))
    return f"hf:{tmp_path / 'set'}"


def refused(call, message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def test_images_and_classes_are_found_by_their_kind(tmp_path):
    name = save(tmp_path, dataset(range(8), labels=[0, 1, 2, 0, 1, 2, 0, 2], text=["x"] * 8))
    views = open_data(name, views="none")
    assert len(views) == 8
    assert (views.name, views.source) == ("set", f"data {name!r}")
    assert views.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 2]
    assert (views.load(torch.tensor([7, 0])).numpy() == PIXELS[[7, 0]].transpose(0, 3, 1, 2)).all()
    assert open_data(name).fingerprint() == open_data(name).fingerprint()
    assert open_data(save(tmp_path, dataset(range(7)))).fingerprint() != views.fingerprint()
    with pytest.raises(InputError, match=r"must have a part 'test'.*Got one without parts"):
        open_parts(name)


def test_parts_columns_and_texts_as_classes(tmp_path):
    train, test = dataset(range(4), word=["b", "c", "b", "c"]), dataset([5, 6], word=["a", "c"])
    name = save(tmp_path, datasets.DatasetDict(train=train, test=test))
    assert open_data(name).labels is None
    parts = open_parts(name, label="word", image="picture", size=4)
    assert parts.train.labels.tolist() == [1, 2, 1, 2]
    assert parts.test.labels.tolist() == [0, 2]
    assert parts.test.images(torch.arange(2)).shape == (2, 3, 4, 4)
    assert len(open_data(name)) == 4
    assert len(open_data(name, part="test")) == 2
    name = save(tmp_path, datasets.DatasetDict(train=train, validation=test))
    assert len(open_parts(name, label="word").test) == 2


def test_classes_that_are_not_known(tmp_path):
    assert open_data(save(tmp_path, dataset(range(3), labels=[-1] * 3))).labels is None
    name = save(tmp_path, dataset(range(3), number=[4, -2, 0]))
    refused(
        lambda: open_data(name, label="number"),
        f"open_data: data {name!r} must have a class in every row, because classes are numbers or texts. Got "
        "-2 "
        "in row 1 of column 'number'. Pass another label.",
    )


def test_columns_that_are_not_there(tmp_path):
    name = save(tmp_path, dataset(range(2), text=["x", "y"]))
    refused(
        lambda: open_data(name, image="photo"),
        f"open_data: data {name!r} must have the column 'photo', because it was named as image. Got picture "
        "(Image), text (Value). Pass another.",
    )
    with pytest.raises(InputError, match="must have one column of images, or its name given as image"):
        open_data(name, image="text")
    two = dataset(range(2)).add_column("other", [1, 2]).remove_columns("picture")
    with pytest.raises(InputError, match=r"one column of images.*Got other \(Value\)\. Pass image="):
        open_data(save(tmp_path, two))


def test_unreadable_images_are_counted(tmp_path):
    name = save(tmp_path, dataset(range(6), labels=[0, 1, 2, 0, 1, 2], bad=(1, 4)))
    with pytest.raises(InputError, match=r"Got 2 of 6 that are not, the first is 'row 1' \(.*--skip-bad 2"):
        open_data(name)
    with pytest.warns(UnreadableImagesWarning, match=r"2 of 6 images of data 'hf:.*the first is 'row 1'"):
        views = open_data(name, skip_bad=2)
    assert views.labels.tolist() == [0, 2, 0, 2]
    assert (views.load(torch.tensor([1]))[0].numpy() == PIXELS[2].transpose(2, 0, 1)).all()


def test_paths_are_read_only_when_they_are_regular_files(tmp_path, monkeypatch):
    (tmp_path / "0.png").write_bytes(png(0))
    paths = [str(tmp_path / "0.png"), "/dev/zero", str(tmp_path / "gone.png"), None]
    found = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": path} for path in paths]})
    found = found.cast_column("image", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda name: found)
    with pytest.raises(
        InputError, match=r"Got 3 of 4 that are not, the first is 'row 1' \(no regular file\)"
    ):
        open_data("hf:some/set", download=True)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: dataset([]))
    with pytest.raises(InputError, match=r"must hold images, because.*Got no rows"):
        open_data("hf:some/set", download=True)


def test_other_directories_and_damage(tmp_path):
    refused(
        lambda: open_data(f"hf:{tmp_path}"),
        f"open_data: data 'hf:{tmp_path}' must be a directory that save_to_disk wrote, or a name of the hub, "
        "because nothing else is read as a data set of Hugging Face. Got another directory. Save it with "
        "save_to_disk, or pass a folder of images without hf:.",
    )
    name = save(tmp_path, dataset(range(3)))
    with pytest.raises(InputError, match=r"which save_to_disk wrote\. Pass 'hf:"):
        open_data(tmp_path / "set")
    with pytest.raises(InputError, match="left must be left out for images"):
        open_data(name, left="text")
    for file in (tmp_path / "set").glob("*.arrow"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"^open_data: data 'hf:[^\n]* must be whole, because[^\n]*$"):
        open_data(name)


def test_names_of_the_hub_are_looked_up_only_when_there_is_no_such_path(tmp_path, monkeypatch):
    asked = []

    def hub(name, *rest, **more):
        asked.append((name, rest, more))
        if name == "gone/set":
            raise ConnectionError("Couldn't reach 'gone/set' on the Hub\n(offline).")
        return datasets.DatasetDict(train=dataset(range(4), labels=[0, 1, 0, 1]))

    monkeypatch.setattr(datasets, "load_dataset", hub)
    monkeypatch.chdir(tmp_path)
    refused(
        lambda: open_data("hf:some/set"),
        "open_data: data 'hf:some/set' must be a directory that exists, because the hub is asked only when "
        "you want a download. Got no such path. Pass download=True (--download) if it is a name of the hub.",
    )
    assert not asked
    assert open_data("hf:some/set", download=True).labels.tolist() == [0, 1, 0, 1]
    assert asked == [("some/set", (), {})]
    refused(
        lambda: open_data("hf:gone/set", download=True),
        "open_data: data 'hf:gone/set' must be a directory that exists, or a name of the hub that can be "
        "reached, "
        "because it is read with datasets. Got no such path, and from the hub: Couldn't reach 'gone/set' "
        "on the "
        "Hub (offline). Check the path or the name.",
    )
    (tmp_path / "some" / "set").mkdir(parents=True)
    with pytest.raises(InputError, match="Got another directory"):
        open_data("hf:some/set")
    assert len(asked) == 2


def test_without_the_library(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spherometer\[hf\]'"):
        open_data(f"hf:{tmp_path}")
