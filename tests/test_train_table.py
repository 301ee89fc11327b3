"""`spherometer train` on images with a table of meta-data beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spherometer.cli import main
from spherometer.training import recipe_from_dict
from spherometer.training._begin import open_probed, open_views

NUM = 40
AGES = [20 + (37 * row) % 61 for row in range(NUM)]
SEXES = ["FM"[row // 2 % 2] for row in range(NUM)]
SIZE = 8


def pixels() -> np.ndarray:
    """Noise whose brightness is the age and whose left column is the sex."""
    noise = np.random.default_rng(0).integers(0, 40, (NUM, SIZE, SIZE))
    bright = np.array(AGES)[:, None, None]
    images = noise + bright
    images[:, :, 0] = np.where(np.array(SEXES) == "M", 220, 20)[:, None]
    return images.astype(np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", pixels())
    table({"age": AGES, "sex": SEXES, "subject": [row // 2 for row in range(NUM)]})


def table(columns: dict[str, list[Any]], name: str = "table.csv") -> None:
    rows = zip(*columns.values(), strict=True)
    Path(name).write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))


OPTIONS = [
    "--data", "images.npy", "--metadata-file", "table.csv", "--metadata", "age,sex", "--loss", "y-aware",
    "--views", "none", "--dim", "8", "--batch-size", "16", "--steps", "3", "--device", "cpu", "--out", "out",
]  # fmt: skip


def train(*more: str) -> int:
    return main(["train", *OPTIONS, *more])


def results() -> dict[str, Any]:
    return json.loads(Path("out/results.json").read_text())


def complaint(capsys) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err.removeprefix("spherometer: ").rstrip("\n")


def settings(**more: Any) -> Any:
    wanted = {"name": "images.npy", "metadata_file": "table.csv", "metadata": ["age", "sex"], **more}
    return recipe_from_dict({"data": wanted, "method": {"name": "y_aware"}})


def test_arrays_are_trained_on_and_probed_by_subject(capsys):
    assert train("--probe") == 0
    found = results()
    assert found["data"]["num"] == 32  # a fifth of twenty subjects with two images is set apart
    assert found["metrics"]["part"] == "test"
    assert found["metrics"]["num"] == 8
    assert "conditional_alignment" in found["metrics"]["values"]
    split = found["probes"]["raw_pixels"]["metadata"]
    assert (split["num_train_subjects"], split["num_test_subjects"]) == (16, 4)
    assert split["columns"]["age"]["features"]["raw"]["ridge"]["r2"]["value"] > 0.9
    assert split["columns"]["sex"]["features"]["raw"]["linear"]["accuracy"] == 1.0
    assert "features" not in found["probes"]["trained"]  # there are no classes
    capsys.readouterr()
    assert train("--probe") == 0
    assert "is finished: 3 steps" in capsys.readouterr().err
    table({"age": [1, *AGES[1:]], "sex": SEXES, "subject": [row // 2 for row in range(NUM)]})
    assert train("--probe") == 2
    assert "where the data were" in complaint(capsys)


def test_parts_are_whole_subjects_and_hold_their_own_rows():
    made = settings()
    views, test = open_views(made), open_views(made, part="test")
    assert not set(views.groups) & set(test.groups)
    assert len(views) + len(test) == NUM
    images = torch.from_numpy(pixels())[:, None]
    for part in (views, test):
        rows = [AGES.index(int(age)) for age in part.metadata["age"]]
        assert part.metadata["sex"] == [SEXES[row] for row in rows]
        assert part.groups == [str(row // 2) for row in rows]
        assert torch.equal(part.load(torch.arange(len(part))), images[rows])
    probed = open_probed(made, views)
    assert probed.kinds == {"age": "number", "sex": "class"}
    clean = probed.clean.test.images(torch.tensor([1]))
    assert clean.dtype == torch.float32
    assert torch.equal((clean * 255).round().to(torch.uint8), test.load(torch.tensor([1])))
    assert len(open_views(settings(part="all"))) == NUM
    other = open_views(settings(split_seed=1), part="test")
    assert set(other.groups) != set(test.groups)


def test_folders_name_their_files(capsys):
    order = np.random.default_rng(1).permutation(NUM)
    for row, image in enumerate(pixels()):
        path = Path("images", "ab"[row % 2], f"{row:02d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    columns = {
        "file": [f"{'ab'[row % 2]}/{row:02d}.png" for row in order],
        "age": [AGES[row] for row in order], "sex": [SEXES[row] for row in order],
    }  # fmt: skip
    table(columns)
    assert train("--data", "images", "--probe") == 0
    probes = results()["probes"]
    assert probes["raw_pixels"]["metadata"]["columns"]["age"]["features"]["raw"]["ridge"]["r2"]["value"] > 0.9
    assert "linear" in probes["trained"]["features"]["output"]  # of the two folders, besides
    capsys.readouterr()
    table({name: values[1:] for name, values in columns.items()})
    assert train("--data", "images", "--out", "more") == 2
    assert complaint(capsys) == (
        "train: data.metadata_file 'table.csv' must have one row for each image, because it says what is "
        f"known about it. Got 1 of 40 images without one ({columns['file'][0]}). Complete the table."
    )
    table({"age": AGES, "sex": SEXES})
    assert train("--data", "images", "--out", "more") == 2
    assert complaint(capsys).startswith(
        "train: data.metadata_file 'table.csv' must have a column 'file', because"
    )


def test_digits_with_a_table():
    num = len(open_views(recipe_from_dict({"data": {"name": "digits"}})))
    table({"age": [row % 7 for row in range(num)]})
    made = settings(name="digits", metadata=["age"])
    assert len(open_views(made)) + len(open_views(made, part="test")) == num
    assert open_probed(made, open_views(made)).labelled


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--metadata", "agee"), "train: data.metadata_file 'table.csv' must have the column 'agee', because "
         "data.metadata names it. Got columns 'age', 'sex', 'subject'. Did you mean 'age'."),
        (("--metadata-file", "none.csv"), "read_table: file 'none.csv' must exist and be readable, because"),
        (("--data", "digits"), "train: data.metadata_file 'table.csv' must have one row for each sample, "
         "because row i is about sample i. Got 40 rows for 899 samples. Correct the table."),
        (("--data", "bids:tree"), "Recipe: data.metadata_file must be left out for volumes, because they "
         "have a table of their own. Got 'table.csv'. Leave it out."),
        (("--data", "texts.tsv", "--loss", "nt-xent"), "train: data.metadata_file 'table.csv' must be left "
         "out for texts"),
    ],
)  # fmt: skip
def test_bad_tables(more, message, capsys):
    Path("texts.tsv").write_text("\n".join(["first\tsecond", *(f"a {row}\tb {row}" for row in range(9))]))
    arguments = [each for each in OPTIONS if each not in ("--views", "none")]
    assert main(["train", *arguments, *more]) == 2
    assert complaint(capsys).startswith(message)
    assert not Path("out").exists()


def test_a_table_needs_columns(capsys):
    arguments = [each for each in OPTIONS if each not in ("--metadata", "age,sex")]
    assert main(["train", *arguments, "--loss", "nt-xent"]) == 2
    assert complaint(capsys).startswith(
        "Recipe: data.metadata must name columns, because they are compared or probed. Got none for "
        "data.metadata_file = 'table.csv'."
    )
