"""``spherometer train`` on data by path: folders, arrays, data sets of Hugging Face, pairs of texts."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spherometer.cli import main
from spherometer.data import _decode, open_parts
from spherometer.training import encode, load_encoder

SMALL = ["--steps", "3", "--batch-size", "4", "--dim", "4", "--device", "cpu", "--out", "out"]
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 9, 9), dtype=np.uint8)
LABELS = [0, 1] * 4
PARTS = (
    "must have a part 'test', because nothing is split off by chance. Got one without parts. Leave part (or "
    "--probe) out, or pass other data: named sets, folders with train/ and test/, .npz files with x_train, "
    "y_train, x_test and y_test, and hf: data sets with train and test have parts."
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def folder(name: str, num: int = 8) -> str:
    for row in range(num):
        path = Path(name, "ab"[LABELS[row % 8]], f"{row}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[row % 8]).save(path)
    return name


def parted(name: str) -> str:
    folder(f"{name}/train"), folder(f"{name}/test")
    return name


def archive(name: str) -> str:
    np.savez(name, x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:4], y_test=LABELS[:4])
    return name


def hugging_face(name: str) -> str:
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    columns = {"image": [Image.fromarray(each) for each in PIXELS], "label": LABELS}
    part = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    datasets.disable_progress_bars()
    datasets.DatasetDict(train=part, test=part).save_to_disk(name)
    datasets.enable_progress_bars()
    return f"hf:{name}"


def texts(name: str) -> str:
    rows = [f"the small cat {row}\tcat number {row}\t{'ab'[row % 2]}" for row in range(8)]
    Path(name).write_text("\n".join(["first\tsecond\tkind", *rows]))
    return name


def train(*more: str) -> int:
    return main(["train", *SMALL, *more])


def results() -> dict:
    return json.loads(Path("out/results.json").read_text())


def complaint(capsys) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("spherometer: ").rstrip("\n")


@pytest.mark.parametrize(
    ("make", "name", "part"),
    [
        (folder, "images", "train"),
        (parted, "images", "test"),
        (archive, "images.npz", "test"),
        (hugging_face, "saved", "test"),
    ],
)
def test_images(make, name, part, capsys):
    data = make(name)
    assert train("--data", data, "--loss", "info_nce") == 0
    found = results()
    assert (found["steps"], found["data"]["num"]) == (3, 8)
    assert (found["metrics"]["part"], found["encoder"]["kind"]) == (part, "conv")
    encoder, _ = load_encoder("out/encoder.safetensors")
    assert encode(encoder, torch.zeros(2, 1, 9, 9)).output.shape == (2, 4)
    capsys.readouterr()
    assert train("--data", data, "--loss", "info_nce") == 0
    assert "is finished: 3 steps" in capsys.readouterr().err
    if part == "train":
        assert train("--data", data, "--loss", "info_nce", "--probe", "--out", "more") == 2
        assert complaint(capsys) == f"open_data: data {data!r} {PARTS}"
        assert not Path("more").exists()
        return
    assert train("--data", data, "--loss", "info_nce", "--probe") == 0
    probes = results()["probes"]
    assert probes["trained"]["num_train"] == 8
    assert probes["raw_pixels"]["features"]["pixels"]["dim"] == 81
    assert len(open_parts(data).test) == probes["trained"]["num_test"]


def test_pairs_of_texts(capsys):
    data = texts("pairs.tsv")
    assert train("--data", data, "--loss", "info_nce") == 0
    found = results()
    assert (found["encoder"]["kind"], found["data"]["num"], found["metrics"]["part"]) == ("bag", 8, "train")
    encoder, _ = load_encoder("out/encoder.safetensors")
    assert encoder.config["max_length"] == 32
    assert encode(encoder, encoder.tokens(["a cat"])).output.shape == (1, 4)
    capsys.readouterr()
    for more, words in (
        (("--probe", "--out", "a"), f"open_data: data 'pairs.tsv' {PARTS}"),
        (("--size", "8", "--out", "a"), "open_data: size must be left out for pairs of texts"),
        (("--encoder", "conv", "--out", "a"), "build_encoder: vocabulary must be left out for 'conv'"),
    ):
        assert train("--data", data, *more) == 2
        assert complaint(capsys).startswith(words)


def test_columns_are_named_in_the_recipe(capsys):
    texts("pairs.tsv")
    sections = '[data]\nname = "pairs.tsv"\nleft = "second"\nright = "first"\nlabel = "kind"\n'
    Path("recipe.toml").write_text(sections + '[encoder]\nname = "gru"\nwidth = 4\nhidden = 4\n')
    assert train("--recipe", "recipe.toml", "--loss", "sup_con") == 0
    assert results()["recipe"]["data"] == {
        "name": "pairs.tsv",
        "views": "auto",
        "part": "auto",
        "skip_bad": 0,
        "left": "second",
        "right": "first",
        "label": "kind",
    }
    capsys.readouterr()
    Path("recipe.toml").write_text(sections.replace('"second"', '"third"'))
    assert train("--recipe", "recipe.toml", "--out", "more") == 2
    assert "have the column 'third'" in complaint(capsys)
    Path("recipe.toml").write_text(sections.replace("label", "lable"))
    assert train("--recipe", "recipe.toml", "--out", "more") == 2
    assert complaint(capsys).endswith("Got 'lable'. Did you mean 'label'.")


@pytest.mark.filterwarnings("default::spherometer.data.UnreadableImagesWarning")
def test_bad_images_are_counted_and_left_out_when_that_is_asked_for(capsys):
    folder("images", 11)
    for name in ("a/0.png", "b/1.png", "b/3.png"):
        Path("images", name).write_bytes(b"no image")
    assert train("--data", "images", "--skip-bad", "2") == 2
    assert complaint(capsys) == (
        "open_data: all images of folder 'images' must be readable but for 2 at most (skip_bad), "
        "because each is "
        "a sample. Got 3 of 11 that are not, the first is 'a/0.png' (no image). Mend or remove them, or pass "
        "skip_bad=3 (--skip-bad 3)."
    )
    assert not Path("out").exists()
    for workers in ("0", "1"):
        out = f"out{workers}"
        assert train("--data", "images", "--skip-bad", "3", "--workers", workers, "--out", out) == 0
        said = capsys.readouterr().err.splitlines()
        assert [line for line in said if "left out" in line] == [
            "train: open_data: 3 of 11 images of folder 'images' left out because they cannot be "
            "read, the first "
            "is 'a/0.png' (no image)"
        ]
        assert json.loads(Path(out, "results.json").read_text())["data"]["num"] == 8
    first, second = (
        [json.loads(line)["loss"] for line in Path(out, "log.jsonl").read_text().splitlines()]
        for out in ("out0", "out1")
    )
    assert first == second
    folder("whole/train", 11), folder("whole/test", 11)
    for part in ("train", "test"):
        Path("whole", part, "a/0.png").write_bytes(b"")
    assert train("--data", "whole", "--skip-bad", "1", "--probe") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == 2  # one for each part, however often it is opened


@pytest.mark.parametrize(("make", "name"), [(parted, "images"), (hugging_face, "saved")])
def test_decoding_by_workers_changes_nothing(make, name, monkeypatch):
    data = make(name)
    assert train("--data", data) == 0
    monkeypatch.setattr(_decode, "KEPT_BYTES", 0)
    assert train("--data", data, "--workers", "1", "--out", "late") == 0
    assert results()["data"] == json.loads(Path("late/results.json").read_text())["data"]
    first, second = (
        [json.loads(line)["loss"] for line in Path(out, "log.jsonl").read_text().splitlines()]
        for out in ("out", "late")
    )
    assert first == second


def test_images_that_are_damaged_later_end_the_run_with_one_line(capsys, monkeypatch):
    folder("images")
    monkeypatch.setattr(_decode, "KEPT_BYTES", 0)
    content = Path("images/a/0.png").read_bytes()
    Path("images/a/0.png").write_bytes(content[:60])  # the header is whole
    for workers in ("0", "1"):
        assert train("--data", "images", "--workers", workers, "--out", f"out{workers}") == 2
        said = capsys.readouterr().err.splitlines()
        assert "folder 'images' must stay readable while it is trained on" in said[-1]
        assert "'a/0.png'" in said[-1]
        assert "Traceback" not in "".join(said)


def test_too_little_to_train_on(capsys):
    os.mkdir("empty")
    assert train("--data", "empty") == 2
    assert complaint(capsys).startswith("open_data: folder 'empty' must hold images, because")
    folder("one", 1)
    assert train("--data", "one") == 2
    assert complaint(capsys) == (
        "train: views must hold at least 2 images, because losses compare images, and batch "
        "normalisation needs "
        "two. Got 1. Pass more images."
    )
    assert train("--data", "nowhere") == 2
    assert complaint(capsys).startswith("open_data: data must be a known set (")
    assert not Path("out").exists()


def test_no_batch_of_one_is_left_over(capsys):
    folder("images", 5)
    assert train("--data", "images", "--batch-size", "4", "--steps", "4") == 0
    folder("images", 9)
    assert train("--data", "images", "--batch-size", "4", "--steps", "4", "--out", "nine") == 0
    assert results()["epochs"] == 4.0  # one batch of five
    assert json.loads(Path("nine/results.json").read_text())["epochs"] == 2.0  # of five and four
    capsys.readouterr()
    Path("out/results.json").unlink()
    assert train("--data", "images", "--batch-size", "4", "--steps", "4") == 2
    assert "where the data were" in complaint(capsys)


def test_sizes_and_classes(capsys):
    folder("images")
    Image.fromarray(PIXELS[0][:7]).save("images/a/9.png")
    assert train("--data", "images") == 2
    assert complaint(capsys) == (
        "open_data: size must be given for folder 'images', because a batch needs images of one "
        "size. Got 9 x 9 "
        "in 'a/0.png' and 9 x 7 in 'a/9.png' (width x height). Pass for instance size=7 (--size 7): "
        "the centre is "
        "cut out and resized."
    )
    assert train("--data", "images", "--size", "8", "--loss", "sup_con") == 0
    Path("flat/train").mkdir(parents=True), Path("flat/test").mkdir()
    for part in ("train", "test"):
        Image.fromarray(PIXELS[0]).save(f"flat/{part}/0.png")
        Image.fromarray(PIXELS[1]).save(f"flat/{part}/1.png")
    capsys.readouterr()
    assert train("--data", "flat", "--probe", "--out", "more") == 2
    assert complaint(capsys) == (
        "train: data 'flat' must have labels of at least 2 classes for --probe, because a probe "
        "learns to tell "
        "classes apart. Got a training part without labels. Leave --probe out, or pass labelled data."
    )
    assert train("--data", "flat", "--loss", "sup_con", "--out", "more") == 2
    assert complaint(capsys).startswith("train: data must have classes for sup_con, because")


def test_a_finished_run_belongs_to_its_data(capsys):
    name = folder("images")
    assert main(["train", "--data", name, *SMALL]) == 0
    results = Path("out/results.json").read_bytes()
    assert main(["train", "--data", name, *SMALL]) == 0
    Image.fromarray(PIXELS[0]).save(Path(name, "a", "more.png"))
    capsys.readouterr()
    assert main(["train", "--data", name, *SMALL]) == 2
    assert "where the data were" in capsys.readouterr().err
    for file in Path(name).rglob("*.png"):
        file.unlink()
    assert main(["train", "--data", name, *SMALL]) == 0  # the data are gone, the results stand
    assert Path("out/results.json").read_bytes() == results
