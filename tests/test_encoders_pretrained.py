"""A pretrained backbone that comes as a package: what it is, what it puts out, what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spherometer.errors import InputError
from spherometer.training import build_encoder, load_encoder, save_encoder
from spherometer.training._dense_encoder import DenseEncoder


def photo(name: str) -> Tensor:
    import skimage.data
    import torch.nn.functional as F

    image = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(image, size=(224, 224), mode="bilinear", antialias=True, align_corners=False)


@pytest.mark.parametrize(("name", "classes"), [("chelsea", {282, 285}), ("coffee", {967, 968})])
def test_it_recognises_photos_so_images_enter_as_it_learned_them(name: str, classes: set[int]) -> None:
    encoder = build_encoder("efficientnet:lite0").eval()
    with torch.no_grad():
        map_ = encoder.tap(photo(name), "dense")["dense"]
        model = encoder.body.module  # cats; cups and espresso of ImageNet
        best = model._fc(map_.mean(dim=(2, 3))).topk(3).indices[0].tolist()
    assert classes <= set(best)


def test_shapes_head_and_generators() -> None:
    state = torch.random.get_rng_state()
    plain, projected = build_encoder("efficientnet:lite0"), build_encoder("efficientnet:lite0", dim=16)
    assert torch.equal(state, torch.random.get_rng_state())
    x = torch.rand(2, 3, 96, 64)
    assert plain.eval()(x).shape == (2, 1280)
    assert projected.eval()(x).shape == (2, 16)
    assert plain.tap(x, "dense")["dense"].shape == (2, 1280, 3, 2)
    dense = DenseEncoder(projected, dense_dim=8).eval()
    assert dense.cells(x).shape == (2, 8, 3, 2)


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"build_encoder: name must be one of 'lite0'"):
        build_encoder("efficientnet:b9")


def test_its_file_asks_for_the_code(tmp_path) -> None:
    encoder = build_encoder("efficientnet:lite0", dim=4).eval()
    save_encoder(encoder, tmp_path / "e.safetensors")
    with pytest.raises(InputError, match="load_encoder: module must be given"):
        load_encoder(tmp_path / "e.safetensors")
    again, _ = load_encoder(tmp_path / "e.safetensors", module=build_encoder("efficientnet:lite0", dim=4))
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(x), encoder(x))
