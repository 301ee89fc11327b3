"""Measuring what an encoder makes of images: as wholes and cell by cell, and the command that does it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spherometer as sm
from spherometer.cli import main
from spherometer.correspondence import match_cells
from spherometer.data import PRESETS, ArrayImages, ImageViews, LabelledImages
from spherometer.errors import InputError
from spherometer.training import DenseEncoder, build_encoder, measure_encoder, save_encoder
from spherometer.training._measuring import MEASURED_EPOCH

NUM = 24


@pytest.fixture(scope="module")
def views() -> ImageViews:
    generator = torch.Generator().manual_seed(0)
    images = ArrayImages("made", "made here", torch.rand(NUM, 1, 28, 28, generator=generator))
    return ImageViews(LabelledImages(images), PRESETS["fashion"], seed=0)


def encoder_of(kind: str = "dense"):
    inner = build_encoder("conv", dim=8, channels=1, width=8, hidden=16)
    return (DenseEncoder(inner, dense_dim=6) if kind == "dense" else inner).train()


def test_numbers_are_those_of_the_metrics(views: ImageViews) -> None:
    encoder = encoder_of()
    found = measure_encoder(encoder, views)
    assert encoder.training  # put back
    encoder.eval()
    index = torch.arange(NUM)
    with torch.no_grad():
        x, y = (encoder.everything(view) for view in views(MEASURED_EPOCH, index))
    assert found["alignment"].value == pytest.approx(float(sm.alignment(x.output, y.output)), rel=1e-5)
    assert found["uniformity"].value == pytest.approx(float(sm.uniformity(x.output)), rel=1e-5)
    geometry = views.geometry(MEASURED_EPOCH, index)
    grid = tuple(x.cells.shape[2:])
    matches = match_cells(NUM, (grid, grid), "geometric", geometry=geometry)
    dense = sm.dense_alignment(x.cells, y.cells, matching=matches)
    assert found["dense_alignment"].value == pytest.approx(float(dense), rel=1e-5)
    across, within = (
        float(sm.dense_uniformity(x.cells, pairs=pairs)) for pairs in ("cross_image", "within_image")
    )
    assert found["dense_uniformity"].value == pytest.approx(across, rel=1e-5)
    assert found["dense_uniformity_within"].value == pytest.approx(within, rel=1e-5)
    assert found["dense_alignment"].settings["matching"] == "geometric"


def test_without_a_dense_head_the_map_is_measured(views: ImageViews) -> None:
    found = measure_encoder(encoder_of("plain"), views, matching="index")
    assert {"alignment", "dense_alignment", "dense_uniformity"} <= set(found)


def test_parts_can_be_left_out(views: ImageViews) -> None:
    assert "alignment" not in measure_encoder(encoder_of(), views, whole=False)
    assert "dense_alignment" not in measure_encoder(encoder_of(), views, dense=False)


def test_few_samples_and_few_cells(views: ImageViews) -> None:
    found = measure_encoder(encoder_of(), views, num=10, num_dense=8, num_cells=40)
    assert found["alignment"].num == 10
    assert found["dense_uniformity"].num == 40


def test_views_without_a_place(views: ImageViews) -> None:
    class Elsewhere:
        def __len__(self) -> int:
            return NUM

        def __call__(self, epoch: int, index: torch.Tensor):
            return views(epoch, index)

    found = measure_encoder(encoder_of(), Elsewhere())
    assert found["dense_alignment"].settings["matching"] == "index"
    with pytest.raises(InputError, match="measure_encoder: matching must be"):
        measure_encoder(encoder_of(), Elsewhere(), matching="geometric")


def test_the_command_measures_images(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images.npy"
    np.save(images, np.random.default_rng(0).random((12, 1, 28, 28), dtype=np.float32))
    file = tmp_path / "encoder.safetensors"
    save_encoder(encoder_of(), file)
    command = ["measure", str(images), "--encoder", str(file), "--augment", "fashion"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "Dense alignment" in shown
    assert "within images" in shown


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["x.npy", "--augment", "fashion"], "measure: --encoder must be given with --augment"),
        (
            ["x.npy", "--encoder", "conv", "--views", "a", "b"],
            "measure: --views and --pair-id must be left out",
        ),
        (["x.npy", "--matching", "index"], "measure: --encoder must be given with --matching"),
        (["digits", "--encoder", "convv"], "build_encoder: name must be one of"),
        (["nowhere", "--encoder", "conv"], "open_data: "),
    ],
)
def test_messages(command: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", *command]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[0]
