"""Training on dense maps: what the method computes, what is saved, how runs are made and refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spherometer import losses
from spherometer.data import PRESETS, ArrayImages, ImageViews, LabelledImages
from spherometer.errors import InputError
from spherometer.training import Recipe, build_encoder, load_encoder, save_encoder
from spherometer.training._dense_encoder import DenseEncoder, Packed, encode_dense
from spherometer.training._dense_method import DenseViews
from spherometer.training._learner import Learner
from spherometer.training._machine import Machine
from spherometer.training._methods import Batch
from spherometer.training._recipe import DataRecipe, EncoderRecipe, MethodRecipe, RunRecipe
from spherometer.training._run import run_training


def small(dense_head: str = "mlp", norm: str = "none") -> DenseEncoder:
    inner = build_encoder("conv", dim=6, channels=1, width=4, hidden=8, norm=norm)
    return DenseEncoder(inner, dense_dim=5, dense_head=dense_head)  # type: ignore[arg-type]


def batch(num: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = ArrayImages("made", "made here", torch.rand(num, 1, 24, 24, generator=generator))
    views = ImageViews(LabelledImages(images), PRESETS["fashion"], seed=seed)
    index = torch.arange(num)
    return Batch(*views(0, index), index, geometry=views.geometry(0, index))


@pytest.mark.parametrize("kind", ["conv", "small_alexnet", "resnet18", "vit_tiny"])
def test_every_architecture_with_a_map_gets_a_dense_head(kind: str) -> None:
    inner = build_encoder(kind, dim=6, channels=3, size=(32, 32))
    encoder = DenseEncoder(inner, dense_dim=5).eval()
    x = torch.rand(2, 3, 32, 32)
    found = encoder.everything(x)
    assert found.cells.shape[1] == 5
    assert torch.allclose(found.cells.norm(dim=1), torch.ones(2, *found.cells.shape[2:]), atol=1e-6)
    assert torch.equal(found.output, inner(x))
    assert torch.equal(found.penultimate, inner.features(x).penultimate)
    assert torch.equal(found.backbone, inner.tap(x, "dense")["dense"])
    tapped = encoder.tap(x, ["cells", "penultimate"])
    assert torch.equal(tapped["cells"], found.cells)
    assert list(tapped) == ["cells", "penultimate"]


def test_volumes_have_cells_too() -> None:
    encoder = DenseEncoder(build_encoder("conv3d", dim=6, channels=1), dense_dim=5).eval()
    assert encoder.cells(torch.rand(2, 1, 32, 32, 32)).ndim == 5


def test_weights_are_a_function_of_the_seed_and_no_generator_is_touched() -> None:
    state = torch.random.get_rng_state()
    one, two = small(), small()
    assert torch.equal(state, torch.random.get_rng_state())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_text_encoders_have_no_cells() -> None:
    with pytest.raises(InputError, match="DenseEncoder: encoder must have a dense map"):
        from spherometer.data import Vocabulary

        DenseEncoder(build_encoder("bag", dim=4, vocabulary=Vocabulary.of(["a b", "b c"], min_count=1)))


def test_a_file_of_it_gives_the_same_cells(tmp_path) -> None:
    encoder = small("linear", norm="batch").eval()
    save_encoder(encoder, tmp_path / "e.safetensors")
    again, _ = load_encoder(tmp_path / "e.safetensors")
    assert isinstance(again, DenseEncoder)
    x = torch.rand(3, 1, 24, 24)
    assert torch.equal(again.cells(x), encoder.cells(x))
    assert torch.allclose(encode_dense(again, x, batch_size=2).output, encoder(x), atol=1e-6)


def test_rows_unpack_to_what_was_packed() -> None:
    encoder = small().eval()
    network, x = Packed(encoder, backbone=True), torch.rand(3, 1, 24, 24)
    output, cells, backbone = network.unpack(network(x))
    found = encoder.everything(x)
    for one, two in zip((output, cells, backbone), (found.output, found.cells, found.backbone), strict=True):
        assert one is not None
        assert torch.equal(one, two)


def method_of(**fields) -> DenseViews:
    return DenseViews(small().double(), MethodRecipe(**{"name": "dense_align_uniform", **fields}))


def as_double(some: Batch) -> Batch:
    return replace(some, x=some.x.double(), y=some.y.double())


@pytest.mark.parametrize("matching", ["geometric", "similarity", "index"])
@pytest.mark.parametrize("name", ["dense_align_uniform", "dense_info_nce"])
def test_the_loss_is_the_weighted_sum_of_its_parts(name: str, matching: str) -> None:
    method = method_of(name=name, matching=matching, dense_weight=0.25)
    some = as_double(batch())
    features = [method.network(view) for view in method.inputs(some)]
    value = method.compare(features, some)
    x, y = (method.packed.encoder.everything(view) for view in (some.x, some.y))
    more: dict[str, object] = {}
    if matching == "geometric":
        more["geometry"] = some.geometry
    if matching == "similarity":
        more["match_features"] = (x.backbone, y.backbone)
    if name == "dense_info_nce":
        instance: Tensor = losses.InfoNCELoss(0.5)(x.output, y.output)
        dense = losses.DenseInfoNCELoss(0.5, dense_weight=1.0, matching=matching)
    else:
        instance = losses.AlignUniformLoss()(x.output, y.output)
        dense = losses.DenseAlignUniformLoss(matching=matching)
    wanted = 0.75 * instance + 0.25 * dense(x.cells, y.cells, **more)
    assert value.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert {"instance", "dense"} <= set(method.terms)


def test_what_has_no_weight_is_neither_computed_nor_trained() -> None:
    some = as_double(batch())
    for weight, idle in ((1.0, "head"), (0.0, "dense_head")):
        method = method_of(dense_weight=weight)
        value = method.compare([method.network(view) for view in method.inputs(some)], some)
        value.backward()
        encoder = method.packed.encoder
        part = encoder.dense_head if idle == "dense_head" else encoder.encoder.head
        assert all(p.grad is None or not bool(p.grad.any()) for p in part.parameters())
        assert any(name.startswith("instance") for name in method.terms) == (weight == 0)
        assert any(name.startswith("dense") for name in method.terms) == (weight == 1)


def test_a_cached_batch_gives_the_gradient_of_the_whole_one() -> None:
    grads = []
    for size in (None, 2):
        method = method_of(dense_weight=0.5)
        recipe = Recipe(method=MethodRecipe("dense_align_uniform"), run=RunRecipe(steps=1, cached_batch=size))
        learner = Learner(method, recipe, Machine(torch.device("cpu")))
        learner.update(as_double(batch()), 0.0)
        grads.append([p.grad.clone() for p in method.parameters() if p.grad is not None])
    for one, two in zip(*grads, strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=1e-12)


def run_recipe(**fields) -> Recipe:
    return Recipe(
        data=DataRecipe("digits"),
        encoder=EncoderRecipe("conv", dim=8, width=4, hidden=16),
        method=MethodRecipe(**{"name": "dense_align_uniform", "dense_dim": 8, **fields}),
        run=RunRecipe(steps=3, batch_size=32),
    )


def test_a_run_measures_cells_and_the_outputs_only_where_they_were_trained(tmp_path) -> None:
    both = run_training(run_recipe(), tmp_path / "both", device="cpu").results
    assert both is not None
    assert {"dense_alignment", "dense_uniformity", "alignment", "uniformity"} <= set(
        both["metrics"]["values"]
    )
    alone = run_training(run_recipe(dense_weight=1.0), tmp_path / "alone", device="cpu").results
    assert alone is not None
    assert {"dense_alignment", "dense_uniformity"} <= set(alone["metrics"]["values"])
    assert "alignment" not in alone["metrics"]["values"]
    assert "not trained" in str(alone["metrics"]["message"])
    encoder, _ = load_encoder(tmp_path / "alone" / "encoder.safetensors")
    assert isinstance(encoder, DenseEncoder)


def test_views_that_do_not_know_their_place_are_refused(tmp_path) -> None:
    import numpy as np

    pairs = tmp_path / "pairs.npz"
    generator = np.random.default_rng(0)
    np.savez(pairs, x=generator.random((8, 1, 16, 16), dtype=np.float32))
    recipe = replace(run_recipe(), data=DataRecipe(f"{pairs}", views="none"))
    ending = run_training(
        replace(recipe, run=RunRecipe(steps=1, batch_size=8)), tmp_path / "run", device="cpu"
    )
    assert ending.results is not None  # arrays of images do know it


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "nt_xent", "matching": "index"}, "Recipe: method.matching must be left out for nt_xent"),
        ({"name": "dense_info_nce", "num_cells": 9}, "Recipe: method.num_cells must be left out for"),
        ({"name": "dense_info_nce", "matching": "near"}, "Recipe: method.matching must be one of 'index'"),
        (
            {"name": "dense_info_nce", "dense_weight": 2.0},
            r"Recipe: method.dense_weight must lie in \[0, 1\]",
        ),
        ({"name": "dense_info_nce", "dense_dim": 0}, "Recipe: method.dense_dim must be"),
    ],
)
def test_messages(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MethodRecipe(**fields)
