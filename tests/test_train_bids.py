"""`spherometer train` on a BIDS folder: trained, killed, resumed with equal bits, probed by subject."""

from __future__ import annotations

import json
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spherometer.cli import main
from spherometer.data import open_data, open_parts
from spherometer.training import load_encoder
from training_run import Setting, differing, left
from zygote import shared

pytest.importorskip("nibabel", reason="the extra neuro is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")

SIDES = (10, 12, 9)
RECIPE = """
[encoder]
name = "conv3d"
dim = 8
width = 4
[method]
temperature = 0.1
[checkpoints]
every_steps = 2
keep_last = 4
[log]
every = 1
[monitor]
every = 3
"""
OPTIONS = [
    "--metadata", "age,sex", "--kernel", "age:gaussian:5", "--kernel", "sex:categorical",
    "--loss", "y-aware", "--batch-size", "8", "--device", "cpu",
]  # fmt: skip


def volume(age: float, sex: str, seed: int) -> np.ndarray:
    """A bright ball, smaller with age, whose core is dark in one sex, in noise."""
    noise = np.random.default_rng(seed).normal(0, 0.1, SIDES)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in SIDES), indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in axes))
    ball = (distance < 1.1 - age / 120).astype(float)
    core = (distance < 0.35).astype(float)
    return (ball - 0.6 * core * (sex == "M") + noise).clip(0.01).astype(np.float32)


def subject(number: int) -> tuple[str, float, str]:
    """Name, age and sex."""
    return f"sub-{number:02d}", 20.0 + (37 * number % 59), "FM"[number * 7 % 5 > 2]


def bids(root: Path, num: int = 25) -> Path:
    """A BIDS folder; every fifth subject came twice."""
    import nibabel

    lines = ["participant_id\tage\tsex\tsite"]
    for number in range(1, num + 1):
        name, age, sex = subject(number)
        lines.append(f"{name}\t{age}\t{sex}\tparis")
        for session in (1, 2) if number % 5 == 0 else (1,):
            path = root / name / f"ses-{session}" / "anat" / f"{name}_ses-{session}_T1w.nii.gz"
            path.parent.mkdir(parents=True)
            image = nibabel.Nifti1Image(volume(age, sex, 2 * number + session), np.diag([4.0, 4, 4, 1]))
            nibabel.save(image, path)
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "made by a test", "BIDSVersion": "1.8.0"}')
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return bids(tmp_path_factory.mktemp("bids") / "tree")


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPHEROMETER_DATA", str(tmp_path / "cache"))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def train(tree: Path, *more: str, out: str = "out", steps: int = 4) -> int:
    where = ["--recipe", "recipe.toml", "--data", f"bids:{tree}", "--out", out, "--steps", str(steps)]
    return main(["train", *where, *OPTIONS, *more])


def results(out: str = "out") -> dict[str, Any]:
    return json.loads(Path(out, "results.json").read_text())


def complaint(capsys) -> str:
    """The one line."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err.removeprefix("spherometer: ").rstrip("\n")


def test_killed_and_resumed_with_equal_bits_and_probed_by_subject(tmp_path, tree):
    setting = Setting(shared(), tmp_path, steps=9)
    setting.recipe.write_text(RECIPE)
    cache = f'[data]\ncache_dir = "{tmp_path / "cache"}"\n'
    setting.recipe.write_text(RECIPE + cache)
    setting.options = ["--data", f"bids:{tree}", "--steps", "9", *OPTIONS, "--probe"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    setting.run(whole)
    for step in (3, 6):  # in the middle of an epoch of three steps, and at the end of one
        setting.run(killed, stops=[[step, int(signal.SIGKILL)]], expect=-signal.SIGKILL)
        assert not (killed / "results.json").exists()
    (child,) = setting.run(killed)
    assert "going on after step 4" in child.err
    assert not differing(left(whole), left(killed))

    found = json.loads((killed / "results.json").read_text())
    assert found["steps"] == 9
    assert found["encoder"]["kind"] == "conv3d"
    assert found["metadata"]["columns"] == ["age", "sex"]
    assert found["metadata"]["kernel"]["columns"]["age"]["bandwidth"] == 5.0
    values = found["metrics"]["values"]
    assert found["metrics"]["part"] == "test"
    assert {"conditional_alignment", "conditional_uniformity", "uniformity"} <= set(values)
    probes = found["probes"]
    assert set(probes) == {"trained", "untrained", "raw_voxels"}
    for name, features in (
        ("trained", {"output", "penultimate"}), ("untrained", {"output", "penultimate"}),
        ("raw_voxels", {"raw"}),
    ):  # fmt: skip
        split = probes[name]["metadata"]
        assert (split["num_train_subjects"], split["num_test_subjects"]) == (20, 5)
        assert split["num_train"] + split["num_test"] == 30
        assert set(split["columns"]["age"]["features"]) == features
        for scores in split["columns"]["age"]["features"].values():
            assert set(scores["ridge"]) == {"mae", "r2", "strength"}
        for scores in split["columns"]["sex"]["features"].values():
            assert 0 <= scores["linear"]["accuracy"] <= 1
    parts = open_parts(f"bids:{tree}", metadata=("age", "sex"), cache_dir=str(tmp_path / "cache"))
    assert not set(parts.train.groups) & set(parts.test.groups)
    views = open_data(f"bids:{tree}", metadata=("age", "sex"), cache_dir=str(tmp_path / "cache"))
    assert not set(views.groups) & set(parts.test.groups)  # nobody trains on who is tested
    assert found["data"]["num"] == len(views) == len(parts.train)
    encoder, _ = load_encoder(killed / "encoder.safetensors")
    assert encoder(torch.zeros(2, 1, *SIDES)).shape == (2, 8)


def test_what_it_prints_and_that_it_is_finished(here, tree, capsys):
    assert train(tree, "--probe") == 0
    out, _ = capsys.readouterr()
    shown = [line.split() for line in out.splitlines()]
    assert any(words[0] == "conditional_alignment" for words in shown)
    probes = [words for words in shown if words[0] in ("trained", "untrained", "raw_voxels")]
    assert len(probes) == 10  # two columns of output and penultimate, twice, and of voxels
    assert probes[0][1:4] == ["output", "age:", "R2"]
    assert train(tree, "--probe") == 0
    assert "is finished: 4 steps" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["align-uniform", "conditional-align-uniform", "decoupled-uniformity"])
def test_other_losses(here, tree, loss):
    assert train(tree, "--loss", loss) == 0
    assert {"conditional_alignment", "conditional_uniformity"} <= set(results()["metrics"]["values"])
    assert results()["recipe"]["method"]["name"] == loss.replace("-", "_")


def test_rules_look_at_those_who_are_trained_on(here, tree):
    where = ["--recipe", "recipe.toml", "--data", f"bids:{tree}", "--out", "out", "--steps", "1"]
    rest = ["--metadata", "age,sex", "--loss", "y-aware", "--batch-size", "8", "--device", "cpu"]
    assert main(["train", *where, *rest]) == 0
    ages = torch.tensor(open_data(f"bids:{tree}", metadata=("age",)).metadata["age"], dtype=torch.float64)
    distances = torch.pdist(ages[:, None])
    kernel = results()["metadata"]["kernel"]["columns"]["age"]
    assert (kernel["bandwidth"], kernel["rule"]) == (float(distances[distances > 0].median()), "median")


def test_another_table_is_another_run(here, tree, capsys):
    import shutil

    copy = Path(shutil.copytree(tree, here / "copy"))
    assert train(copy) == 0
    table = (copy / "participants.tsv").read_text()
    (copy / "participants.tsv").write_text(table.replace("\t57.0\t", "\t58.0\t"))
    assert table != (copy / "participants.tsv").read_text()
    capsys.readouterr()
    assert train(copy) == 2
    assert "where the data were " in complaint(capsys)
    Path("out/results.json").unlink()
    assert train(copy) == 2
    assert "where the data were " in complaint(capsys)


def edited(here: Path, tree: Path, edit: Any) -> Path:
    """A copy of the folder with another table."""
    import shutil

    copy = Path(shutil.copytree(tree, here / "copy"))
    rows = [line.split("\t") for line in (copy / "participants.tsv").read_text().splitlines()]
    edit(rows)
    (copy / "participants.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return copy


class TestRefusals:
    @pytest.mark.filterwarnings("default::spherometer.training.MissingMetadataWarning")
    def test_ages_that_are_missing(self, here, tree, capsys):
        def edit(rows):
            for row in rows[1::2]:
                row[1] = "n/a"

        copy = edited(here, tree, edit)
        assert train(copy) == 2
        line = complaint(capsys)
        assert line.startswith(
            "train: data.metadata 'age' must be there for every sample, because missing values have no "
            "similarity. Got "
        )
        assert line.endswith('Complete the table, or pass method.missing = "drop" or "neutral".')
        assert not Path("out").exists()
        Path("recipe.toml").write_text(RECIPE.replace("[method]", '[method]\nmissing = "drop"'))
        assert train(copy) == 0
        _, err = capsys.readouterr()
        said = [one for one in err.splitlines() if "left out because age or sex is missing" in one]
        assert len(said) == 1
        assert results()["data"]["num"] < 20
        Path("recipe.toml").write_text(RECIPE.replace("[method]", '[method]\nmissing = "neutral"'))
        assert train(copy, out="more") == 0
        assert results("more")["data"]["num"] > 20

    def test_a_constant_column(self, here, tree, capsys):
        assert train(tree, "--metadata", "age,sex,site", "--kernel", "site:categorical") == 2
        assert complaint(capsys).startswith("train: data.metadata 'site' must vary, because a constant tells")
        assert train(tree, "--metadata", "age,sex,site", "--probe") == 2
        assert complaint(capsys) == (
            "train: data.metadata 'site' must have at least 2 different entries in the train part for "
            "--probe, because a probe predicts it for subjects that it has not seen. Got 1 in "
            f"{len(open_parts(f'bids:{tree}').train)} of {len(open_parts(f'bids:{tree}').train)} samples. "
            "Leave that column (or --probe) out."
        )
        assert not Path("out").exists()

    def test_columns_and_kernels(self, here, tree, capsys):
        for more, words in (
            (("--metadata", "agee,sex"), "Recipe: method.kernel must be among 'agee', 'sex', because"),
            (("--metadata", "age,sex,height"), "height"),
            (("--kernel", "age:gaussian:-1"), "Gaussian: bandwidth must"),
            (("--kernel", "sex:gaussian:1", "--kernel", "age:gauss"), "kernel_from_text: kernel must have"),
            (("--metadata", "age,,sex"), "Recipe: data.metadata must be text that is not empty"),
            (("--encoder", "conv"), "ConvEncoder: x must be images [B, 1, H, W], because"),
        ):
            assert train(tree, *more) == 2
            assert words in complaint(capsys)
            assert not Path("out").exists()

    def test_training_on_those_who_are_tested(self, here, tree, capsys):
        Path("recipe.toml").write_text(RECIPE + '[data]\npart = "all"\n')
        assert train(tree, "--probe") == 2
        line = complaint(capsys)
        assert line.startswith(
            "train: data.part must leave out the subjects that probes are tested on, because y_aware would "
            "have read their meta-data. Got 5 of them, the first is sub-"
        )
        assert train(tree) == 0
        assert results()["data"]["num"] == 30

    def test_no_table_no_volumes(self, here, tree, capsys):
        (here / "empty").mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert train(here / "empty") == 2
        complaint(capsys)
        assert main(["train", "--data", "digits", "--metadata", "age", "--steps", "2", "--out", "out"]) == 2
        assert "metadata" in complaint(capsys)
        assert not Path("out").exists()


@pytest.mark.parametrize("processes", [2])
def test_two_processes_train_the_same(tmp_path, tree, processes):
    setting = Setting(shared(), tmp_path, steps=4)
    setting.recipe.write_text(RECIPE.replace("width = 4", 'width = 4\nnorm = "none"'))
    cache = f'\n[data]\ncache_dir = "{tmp_path / "cache"}"\n'
    setting.recipe.write_text(setting.recipe.read_text() + cache)
    setting.options = ["--data", f"bids:{tree}", "--steps", "4", *OPTIONS]
    setting.run(tmp_path / "one")
    setting.world = processes
    setting.run(tmp_path / "two")
    one, two = (
        [json.loads(line)["loss"] for line in (tmp_path / out / "log.jsonl").read_text().splitlines()]
        for out in ("one", "two")
    )
    assert two == pytest.approx(one, abs=1e-5)
