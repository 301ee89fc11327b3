"""Two processes give the curve of one with the same global batch, which they share unevenly."""

import json
from pathlib import Path

import pytest

from training_run import Setting
from zygote import Zygote

# float32; the sums run in another order. 33 pairs: 17 and 16.
TOLERANCE = 1e-5
RECIPE = """
[encoder]
norm = "none"
dim = 8
width = 4
hidden = 16
[log]
every = 1
"""


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    with Zygote(tmp_path_factory.mktemp("children"), "training_run:warm", "zygote") as zygote:
        yield zygote


def curve(out: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [[line["loss"], *line["terms"].values()] for line in lines]


@pytest.mark.parametrize(
    "more",
    [
        ("--loss", "align_uniform"),
        ("--loss", "nt_xent", "--cached-batch", "9"),
        ("--loss", "info_nce", "--queue", "100", "--momentum", "0.9"),
        ("--loss", "supervised"),
    ],
    ids=lambda more: " ".join(more[1:]),
)
def test_same_curve(zygote, tmp_path, more):
    curves = []
    children = []
    for world in (1, 2):
        directory = tmp_path / f"world-{world}"
        directory.mkdir()
        setting = Setting(zygote, directory, world=world)
        setting.recipe.write_text(RECIPE)
        setting.options = ["--steps", "5", "--batch-size", "33", "--device", "cpu"]
        children += setting.start(directory / "out", *more)
    for child in children:
        assert child.wait() == 0, child.out + child.err
    curves = [curve(tmp_path / f"world-{world}" / "out") for world in (1, 2)]
    assert len(curves[0]) == 5
    for one, two in zip(*curves, strict=True):
        assert two == pytest.approx(one, rel=TOLERANCE, abs=TOLERANCE)
    results = [json.loads((tmp_path / f"world-{world}/out/results.json").read_text()) for world in (1, 2)]
    assert [found["processes"] for found in results] == [1, 2]
    values = [found["metrics"]["values"]["uniformity"]["value"] for found in results]
    assert values[1] == pytest.approx(values[0], rel=1e-4)


def test_another_number_of_processes_is_refused(zygote, tmp_path):
    setting = Setting(zygote, tmp_path, world=1, steps=2)
    (child,) = setting.start(tmp_path / "out")
    assert child.wait() == 0
    (tmp_path / "out" / "results.json").unlink()
    setting.world = 2
    children = setting.start(tmp_path / "out")
    assert [child.wait() for child in children] == [2, 2]
    assert "the number of processes was 1 and is 2" in children[0].err
