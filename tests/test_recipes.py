"""The recipes that come with the project: they are read, and say what the papers say."""

from pathlib import Path

import pytest

from spherometer.data import PRESETS
from spherometer.training import build_encoder, read_recipe, recipe_from_dict

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))


def recipe(name):
    return recipe_from_dict(read_recipe(Path(__file__).parent.parent / "recipes" / f"{name}.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_read_and_names_what_exists(path):
    found = recipe(path.stem)
    assert found.data.views in PRESETS
    wanted = found.encoder
    made = build_encoder(
        wanted.name, dim=wanted.dim, channels=3, size=(64, 64), stem=wanted.stem, head=wanted.head
    )
    assert made.kind == wanted.name
    assert f"--recipe recipes/{path.name} " in path.read_text()


def test_stl10_protocol():
    """Wang & Isola 2020, appendix B: 200 epochs at 768 pairs, rate .12 per 256, cut at 155, 170 and 185."""
    found = recipe("stl10_align_uniform")
    assert (found.run.epochs, found.run.batch_size, found.encoder.dim) == (200, 768, 128)
    assert [round(share * 200) for share in found.optimizer.milestones] == [155, 170, 185]
    assert found.optimizer.scale_rate
    assert found.optimizer.learning_rate * found.run.batch_size / 256 == pytest.approx(0.36)
    assert (found.method.align_weight, found.method.uniform_weight, found.method.t) == (0.98, 0.96, 2.0)


@pytest.mark.parametrize("name", ["imagenet100_align_uniform_queue", "imagenet100_moco"])
def test_imagenet100_protocol(name):
    """The same appendix: 240 epochs at 128 pairs, rate .03, cut at 120, 160 and 200."""
    found = recipe(name)
    assert [round(share * found.run.epochs) for share in found.optimizer.milestones] == [120, 160, 200]
    assert (found.run.batch_size, found.optimizer.learning_rate) == (128, 0.03)
    assert (found.encoder.name, found.method.momentum) == ("resnet50", 0.999)


def test_the_fashion_recipes_differ_in_the_method_alone():
    first, *others = (recipe(f"fashion_mnist_{name}") for name in ("align_uniform", "nt_xent", "queue"))
    for other in others:
        assert (other.data, other.encoder, other.optimizer, other.run) == (
            first.data, first.encoder, first.optimizer, first.run,
        )  # fmt: skip
        assert other.method != first.method
