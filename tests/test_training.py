"""Encoder, recipe, loop and encoder files."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch

from spherometer.data import DigitViews
from spherometer.errors import InputError
from spherometer.losses import AlignUniformLoss
from spherometer.stores import sweep_temporaries, write_file
from spherometer.training import (
    ConvEncoder,
    OptimizerRecipe,
    Recipe,
    RunRecipe,
    batches,
    encode,
    load_encoder,
    save_encoder,
    train,
)


def views(num: int = 20) -> DigitViews:
    return DigitViews(torch.rand(num, 1, 8, 8, generator=torch.Generator().manual_seed(0)), seed=0)


def small(seed: int = 0, dim: int = 4) -> ConvEncoder:
    return ConvEncoder(dim, width=4, hidden=8, seed=seed)


def recipe(epochs: int, seed: int = 0, **optimizer) -> Recipe:
    return Recipe(
        optimizer=OptimizerRecipe(**optimizer), run=RunRecipe(epochs=epochs, batch_size=10, seed=seed)
    )


def loss(x, y, index):
    return AlignUniformLoss()(x, y)


class TestEncoder:
    def test_output_is_on_the_sphere(self):
        encoded = encode(ConvEncoder(dim=16), views(30).images)
        assert encoded.output.shape == (30, 16)
        assert encoded.penultimate.shape == (30, 128)
        torch.testing.assert_close(encoded.output.norm(dim=1), torch.ones(30))

    @pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 1, 28, 28), (2, 1, 32, 24)])
    def test_other_image_sizes(self, shape):
        assert small()(torch.rand(shape, generator=torch.Generator().manual_seed(0))).shape == (2, 4)

    def test_seed_decides_weights_without_the_global_generator(self):
        before = torch.get_rng_state()
        first, second, other = small(), small(), small(seed=1)
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
        assert not torch.equal(first.head.weight, other.head.weight)

    def test_encode_restores_the_mode_and_does_not_depend_on_the_batch(self):
        encoder, images = small().train(), views().images
        whole = encode(encoder, images).output
        assert encoder.training
        torch.testing.assert_close(encode(encoder, images, batch_size=7).output, whole)


class TestBatches:
    @pytest.mark.parametrize("num", [2, 3, 15, 16, 17, 31, 32, 33, 47, 100])
    def test_every_row_once_and_no_small_batch(self, num):
        found = batches(num, 16, seed=0, epoch=0)
        assert sorted(torch.cat(found).tolist()) == list(range(num))
        sizes = [len(batch) for batch in found]
        assert min(sizes) >= min(num, 16)
        assert max(sizes) - min(sizes) <= 1

    def test_order_is_a_function_of_seed_and_epoch(self):
        def order(seed, epoch):
            return torch.cat(batches(40, 16, seed=seed, epoch=epoch)).tolist()

        assert order(0, 3) == order(0, 3)
        assert order(0, 3) != order(0, 4)
        assert order(0, 3) != order(1, 3)


class TestTrain:
    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_the_loss_falls(self, optimizer):
        log = train(small(), views(), loss, recipe(15, learning_rate=0.02, name=optimizer))
        assert log.stopped is None
        assert log.num_steps == 30
        assert len(log.losses) == 15
        assert log.losses[-1] < log.losses[0]

    def test_same_seed_same_weights(self):
        def weights(seed):
            encoder = small()
            train(encoder, views(), loss, recipe(2, seed))
            return encoder.state_dict()

        first, second, other = weights(0), weights(0), weights(1)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not torch.equal(first["head.weight"], other["head.weight"])

    def test_a_loss_that_is_not_finite_stops_before_the_weights_change(self):
        encoder, seen = small(), []

        def breaks(x, y, index):
            seen.append(encoder.head.weight.detach().clone())
            return loss(x, y, index) * (float("nan") if len(seen) == 4 else 1.0)

        log = train(encoder, views(), breaks, recipe(5))
        assert log.stopped == "the loss became nan in step 4 (epoch 2)"
        assert log.num_steps == 3
        assert torch.equal(encoder.head.weight, seen[-1])

    def test_other_parameters_and_steps_are_offered(self):
        encoder, head, steps = small(), torch.nn.Linear(4, 2), []
        before = head.weight.detach().clone()

        def supervised(x, y, index):
            return torch.nn.functional.cross_entropy(head(x), index % 2)

        parameters = [*encoder.parameters(), *head.parameters()]
        train(encoder, views(), supervised, recipe(1), parameters=parameters,
              after_step=steps.append)  # fmt: skip
        assert steps == [1, 2]
        assert not torch.equal(before, head.weight)

    def test_one_image(self):
        with pytest.raises(InputError) as error:
            train(small(), views(1), loss, Recipe())
        assert str(error.value) == (
            "train: views must hold at least 2 images, because losses compare images, and batch "
            "normalisation "
            "needs two. Got 1. Pass more images."
        )


class TestFiles:
    def test_round_trip(self, tmp_path):
        encoder, images = small(), views().images
        train(encoder, views(), loss, recipe(1))
        save_encoder(encoder, tmp_path / "a.safetensors", notes={"name": "align", "seed": 3})
        loaded, notes = load_encoder(tmp_path / "a.safetensors")
        assert notes == {"name": "align", "seed": 3}
        assert not loaded.training
        assert torch.equal(encode(loaded, images).output, encode(encoder, images).output)
        assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]

    def test_same_encoder_same_bytes(self, tmp_path):
        for name in ("a", "b"):
            save_encoder(small(), tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "other", "shape", "nan"])
    def test_damaged_files(self, tmp_path, damage):
        path = tmp_path / "encoder.safetensors"
        encoder = small()
        if damage == "nan":
            with torch.no_grad():
                encoder.head.weight[0, 0] = float("nan")
        save_encoder(encoder, path)
        content = path.read_bytes()
        if damage == "missing":
            path.unlink()
        elif damage == "other":
            from safetensors.torch import save_file

            save_file({"a": torch.zeros(2)}, path)
        elif damage == "shape":
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            described = json.loads(header["__metadata__"]["spherometer"])
            described["config"] = {"dim": 5}
            header["__metadata__"]["spherometer"] = json.dumps(described)
            changed = json.dumps(header).encode()
            path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + size :])
        elif damage != "nan":
            path.write_bytes({"empty": b"", "cut": content[:-10], "text": b"hello" * 100}[damage])
        with pytest.raises(InputError) as error:
            load_encoder(path)
        message = str(error.value)
        must = "hold finite weights" if damage == "nan" else "be an encoder that save_encoder wrote"
        assert message.startswith(f"load_encoder: path must {must}, because ")
        assert message.endswith("Pass another file, or train the encoder again.")
        assert str(path) in message
        assert "\n" not in message

    def test_a_failed_write_leaves_the_old_file_and_no_other(self, tmp_path, monkeypatch):
        path = tmp_path / "file"
        write_file(path, b"old")

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(InputError, match="Got no space left on device for "):
            write_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_only_what_the_dead_left_is_swept(self, tmp_path: Path):
        host = socket.gethostname()
        mine = tmp_path / f".a.{host}.{os.getpid()}.tmp"
        dead = tmp_path / f".a.{host}.{2**22 + 1}.tmp"
        elsewhere = tmp_path / f".a.other-{host}.{2**22 + 1}.tmp"
        for path in (mine, dead, elsewhere):
            path.touch()
        sweep_temporaries(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere])
