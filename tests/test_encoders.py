"""Encoders by name: shapes, counts of parameters, seeds, heads, taps and refusals."""

import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from spherometer.errors import InputError, ShapeError
from spherometer.training import ConvEncoder, ResNet18, build_encoder, encode, wrap_encoder
from spherometer.training._encoders import KINDS
from spherometer.training._heads import make_norm

OTHERS = ("bag", "gru", "conv3d", "densenet121_3d", "resnet10_3d", "resnet18_3d")  # not of images
IMAGES = [name for name in KINDS if name not in (*OTHERS, "vit_small")]  # vit_small: vit_tiny, but wider
SMALL = {  # options that keep a test fast
    "conv": {"channels": 3, "width": 4, "hidden": 8},
    "small_alexnet": {"size": (15, 15)},
    "resnet18": {"width": 4, "stem": "cifar"},
    "resnet50": {"width": 4, "stem": "cifar"},
    "vit_micro": {"size": (16, 16)},
    "vit_tiny": {"size": (16, 16)},
}


def small(name, **options):
    return build_encoder(name, **{"dim": 6, **SMALL[name], **options})


def images(side=16, channels=3, num=4):
    return torch.rand(num, channels, side, side, generator=torch.Generator().manual_seed(0))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


class TestDesigns:
    @pytest.mark.parametrize(
        ("name", "num"),
        [
            # published with a classifier of 1000 classes: 11.69 M and 25.56 M
            ("resnet18", 11_689_512),
            ("resnet50", 25_557_032),
            # DeiT-S's 22 050 664 less its class token and its 197 learnt positions of 384
            ("vit_small", 22_050_664 - 384 - 197 * 384),
        ],
    )
    def test_as_many_parameters_as_published(self, name, num):
        assert count(build_encoder(name, dim=1000)) == num

    def test_small_alexnet_by_hand(self):
        channels = (3, 96, 192, 384, 384, 192)
        maps = sum(9 * a * b + 2 * b for a, b in pairwise(channels))
        hidden = 192 * 7 * 7 * 4096 + 4096 * 4096 + 4 * 4096
        assert count(build_encoder("small_alexnet")) == maps + hidden + 4096 * 128 + 128

    def test_stems(self):
        """Stride 32 in all with the stem for photographs, 8 with the one for small images."""
        for stem, side in (("imagenet", 2), ("cifar", 8)):
            encoder = ResNet18(4, stem=stem, width=4)
            assert encoder.tap(images(64), "dense")["dense"].shape == (4, 32, side, side)
        first = build_encoder("resnet18", stem="cifar", width=4).body.stem
        assert [type(part).__name__ for part in first] == ["Conv2d", "BatchNorm2d", "ReLU"]
        assert first[0].kernel_size == (3, 3)

    @pytest.mark.parametrize("name", IMAGES)
    @pytest.mark.parametrize("mode", [True, False])
    def test_rows_on_the_sphere(self, name, mode):
        side = 15 if name == "small_alexnet" else 16
        encoder = small(name).train(mode)
        output, penultimate = encoder.features(images(side))
        assert output.shape == (4, 6)
        torch.testing.assert_close(output.norm(dim=1), torch.ones(4))
        torch.testing.assert_close(nn.functional.normalize(encoder.head(penultimate)), output)
        output.sum().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())

    def test_vit_micro_by_hand_and_its_patches(self):
        """Patches of 2 x 2 up to size 16, then of 4 x 4; fixed positions have no weights."""
        block = 2 * 2 * 32 + (32 + 1) * 96 + (32 + 1) * 32 + (32 + 1) * 128 + (128 + 1) * 32
        for size, side, rows in ((8, 2, 4), (16, 2, 8), (28, 4, 7)):
            encoder = build_encoder("vit_micro", dim=10, channels=1, size=(size, size))
            patches = (side * side + 1) * 32
            assert count(encoder) == patches + 3 * block + 2 * 32 + (32 + 1) * 10
            assert encoder.tap(images(size, 1), "dense")["dense"].shape == (4, 32, rows, rows)
        assert build_encoder("vit_micro", size=(8, 8), stem="cifar").config["stem"] == "cifar"

    def test_vit_attends_as_defined(self):
        """Softmax attention by loops over heads and patches."""
        attention = small("vit_tiny").double().body.block1.attention[1]
        x = torch.randn(2, 5, 192, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        q, k, v = attention.qkv(x).chunk(3, dim=2)
        mixed = torch.zeros_like(q)
        for head in range(3):
            part = slice(64 * head, 64 * (head + 1))
            for b in range(2):
                for i in range(5):
                    weights = torch.softmax(k[b, :, part] @ q[b, i, part] / 8, dim=0)
                    mixed[b, i, part] = weights @ v[b, :, part]
        torch.testing.assert_close(attention(x), attention.out(mixed))

    def test_vit_knows_where_patches_are(self):
        encoder = small("vit_tiny", size=(16, 8))
        table = encoder.body.places.table
        assert table.shape == (8, 192)
        assert len({tuple(row.tolist()) for row in table}) == 8
        x = torch.rand(1, 3, 16, 8, generator=torch.Generator().manual_seed(2))
        assert not torch.allclose(encoder(x), encoder(x.flip(2)), atol=1e-4)

    def test_residual_block_by_definition(self):
        block = ResNet18(4, width=4).eval().body.stage2[0]
        x = images(8, channels=4)
        for conv, stride in ((block.branch[0], 2), (block.branch[3], 1), (block.shortcut[0], 2)):
            assert conv.stride == (stride, stride)
        expected = block.branch[4](block.branch[3](torch.relu(block.branch[1](block.branch[0](x)))))
        expected = torch.relu(expected + block.shortcut[1](block.shortcut[0](x)))
        torch.testing.assert_close(block(x), expected)

    @pytest.mark.parametrize("name", ["conv", "resnet18", "small_alexnet"])
    def test_group_norm_reads_one_image_at_a_time(self, name):
        side = 15 if name == "small_alexnet" else 16
        encoder = small(name, norm="group", head="mlp").train()
        whole = encoder(images(side))
        torch.testing.assert_close(encoder(images(side)[:1]), whole[:1], atol=1e-5, rtol=1e-4)
        assert not any("BatchNorm" in type(part).__name__ for part in encoder.modules())

    def test_no_norm_at_all(self):
        encoder = small("conv", norm="none", head="mlp").train()
        assert not any("Norm" in type(part).__name__ for part in encoder.modules())
        torch.testing.assert_close(encoder(images()[:1]), encoder(images())[:1])

    def test_groups_divide_the_channels_and_hold_several(self):
        assert [make_norm("group", num).num_groups for num in (1, 7, 48, 64, 96, 2048)] == [
            1,
            1,
            24,
            32,
            32,
            32,
        ]
        groups = [make_norm("group", num, maps=False).num_groups for num in (8, 32, 512)]
        assert groups == [1, 2, 32]


class TestConv:
    def test_the_digits_encoder_has_not_changed(self):
        """Weights and output of ``ConvEncoder`` as they were before it had options (sums in float64)."""
        encoder = ConvEncoder(seed=3)
        assert list(encoder.state_dict())[:2] == ["body.0.weight", "body.1.weight"]
        assert [name for name, _ in encoder.named_parameters()][-2:] == ["head.weight", "head.bias"]
        generator = torch.Generator().manual_seed(3)
        for name in ("body.0", "body.4", "body.9", "head"):
            part = encoder.get_submodule(name)
            drawn = nn.init.kaiming_normal_(torch.empty_like(part.weight), generator=generator)
            assert torch.equal(part.weight, drawn)

    def test_the_two_designs_are_the_same_function_up_to_the_layout(self):
        """``down="stride"`` lays the images out otherwise; the numbers are those of its plain layers."""
        encoder = build_encoder("conv", channels=1, dim=4, width=4, hidden=8).eval()
        x = images(28, channels=1)
        torch.testing.assert_close(encoder.features(x).penultimate, encoder.body(x))
        assert encoder.prepare(x).is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(encoder.prepare(x), x)

    @pytest.mark.parametrize("side", [8, 28, 33, 64])
    def test_sizes(self, side):
        assert small("conv", channels=1)(images(side, channels=1)).shape == (4, 6)


class TestSeeds:
    @pytest.mark.parametrize("name", IMAGES)
    def test_the_seed_decides_and_the_global_generator_stays(self, name):
        before = torch.get_rng_state()
        first, second, other = small(name), small(name), small(name, seed=1)
        assert torch.equal(before, torch.get_rng_state())
        pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert not torch.equal(first.head.weight, other.head.weight)
        assert all(torch.isfinite(value).all() for value in first.state_dict().values())

    @pytest.mark.parametrize("name", IMAGES)
    def test_config_makes_it_again(self, name):
        encoder = small(name)
        again = KINDS[name](**json.loads(json.dumps(encoder.config)))
        assert encoder.kind == name
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in encoder.state_dict().items()
        }


class TestHeads:
    def test_none_gives_the_features_themselves(self):
        encoder = ConvEncoder(None, width=4, hidden=8, head="none")
        output, penultimate = encoder.features(images(8, channels=1))
        torch.testing.assert_close(output, nn.functional.normalize(penultimate))

    def test_mlp(self):
        head = small("conv", head="mlp").head
        assert [type(part).__name__ for part in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
        assert (head[0].in_features, head[0].out_features, head[3].out_features) == (8, 8, 6)

    def test_no_head_and_another_dim(self):
        with pytest.raises(InputError) as error:
            build_encoder("conv", dim=128, head="none")
        assert str(error.value) == (
            "ConvEncoder: dim must be 512 or left out with head='none', because the output then is the "
            "penultimate layer. Got 128. Leave it out, or pass head='linear'."
        )
        assert build_encoder("conv", channels=3, head="none").features(images()).output.shape == (4, 512)


class TestTaps:
    @pytest.mark.parametrize("mode", [True, False])
    def test_what_is_tapped_is_what_comes_out(self, mode):
        encoder, x = small("resnet18").train(mode), images()
        found = encoder.tap(x, ["output", "penultimate", "dense", "body.stem.0"])
        assert encoder.training is mode
        encoder = small("resnet18").train(mode)
        output, penultimate = encoder.features(x)
        assert torch.equal(found["output"], output)
        assert torch.equal(found["penultimate"], penultimate)
        torch.testing.assert_close(found["dense"].mean(dim=(2, 3)), penultimate)
        assert torch.equal(found["body.stem.0"], encoder.body.stem[0](x))

    def test_one_name_with_its_gradient(self):
        encoder = small("conv")
        encoder.tap(images(), "penultimate")["penultimate"].sum().backward()
        assert encoder.body[0].weight.grad is not None
        assert encoder.head.weight.grad is None

    def test_a_later_operation_in_place_changes_nothing(self):
        first = nn.Conv2d(3, 4, 3)
        encoder = wrap_encoder(nn.Sequential(first, nn.ReLU(inplace=True)), num_features=4)
        found = encoder.tap(images(), "body.module.0")["body.module.0"]
        assert torch.equal(found, first(images()))
        assert bool((found < 0).any())

    @pytest.mark.parametrize("fails", [False, True])
    def test_no_hook_stays(self, fails):
        encoder = small("conv")
        if fails:
            with pytest.raises(ShapeError):
                encoder.tap(torch.rand(2, 5, 8, 8), ["output", "dense"])
        else:
            encoder.tap(images(), ["output", "dense"])
        assert not any(part._forward_hooks for part in encoder.modules())

    def test_unknown_names(self):
        with pytest.raises(InputError) as error:
            wrap_encoder(nn.Linear(4, 3), num_features=3).tap(torch.rand(2, 4), "fc9")
        assert str(error.value) == (
            "tap: names must be among 'output', 'penultimate', 'head', 'body', 'body.module', 'body.map', "
            "because features are read where they arise. Got 'fc9'. Name one of the parts that "
            "encoder.named_modules() lists."
        )

    def test_no_dense_map(self):
        encoder = wrap_encoder(nn.Linear(4, 3), num_features=3)
        with pytest.raises(InputError) as error:
            encoder.tap(torch.rand(2, 4), "dense")
        assert str(error.value) == (
            "tap: names must name parts that run and put out a tensor, because features are tensors. "
            "Got 'dense'. Name a part of it."
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("resnet", {}, "build_encoder: name must be one of 'conv', 'small_alexnet', 'resnet18', "
             "'resnet50', 'vit_micro', 'vit_tiny', 'vit_small', 'conv3d', 'densenet121_3d', 'resnet10_3d', "
             "'resnet18_3d', 'bag', 'gru', 'timm:NAME', 'hf:DIRECTORY', 'efficientnet:lite0', because "
             "nothing else is defined. Got 'resnet'. Did you mean 'resnet50'."),
            ("conv", {"stem": "cifar"}, "build_encoder: stem must be left out for 'conv', because this "
             "encoder takes channels, width, hidden, depth, down, grid, norm, head. Got stem='cifar'. Leave "
             "it out."),
            ("resnet18", {"norm": "none"}, "ResNet18: norm must be one of 'batch', 'group', because nothing "
             "else is defined. Got 'none'. Pass norm='batch'."),
            ("small_alexnet", {"size": (14, 64)}, "SmallAlexNet: size must be at least (15, 15), because "
             "three poolings leave no map else. Got (14, 64). Pass larger images, or take the encoder "
             '"conv".'),
            ("small_alexnet", {"size": "big"}, "SmallAlexNet: size must be (height, width), because a layer "
             "is made for that many positions. Got 'big'. Pass for instance size=(64, 64)."),
            ("vit_tiny", {"size": (30, 30)}, "ViTTiny: size must be divisible by 4, because patches of 4 x 4 "
             "pixels cover the image. Got (30, 30). Pass other images, or another stem."),
            ("conv", {"head": "big"}, "ConvEncoder: head must be one of 'linear', 'mlp', 'none', because "
             "nothing else is defined. Got 'big'. Pass head='linear'."),
            ("conv", {"seed": -1}, "ConvEncoder: seed must be a whole number of at least 0, because it "
             "counts something. Got -1. Pass for instance seed=0."),
        ],
    )  # fmt: skip
    def test_messages(self, name, options, message):
        with pytest.raises(InputError) as error:
            build_encoder(name, **options)
        assert str(error.value) == message

    def test_none_means_the_default_and_facts_about_data_always_pass(self):
        encoder = build_encoder("conv", stem=None, hidden=None, size=(28, 28), channels=1)
        assert encoder.config["hidden"] == 512

    def test_images_of_other_channels(self):
        with pytest.raises(ShapeError) as error:
            build_encoder("conv", channels=1)(images())
        assert str(error.value) == (
            "ConvEncoder: x must be images [B, 1, H, W], because the first layer was made for them. "
            "Got shape (4, 3, 16, 16). Convert the images, or build the encoder with other channels."
        )


def test_encode_of_every_kind_does_not_depend_on_the_batch():
    encoder = small("vit_tiny").train()
    whole = encode(encoder, images(num=5))
    parts = encode(encoder, images(num=5), batch_size=2)
    assert encoder.training
    torch.testing.assert_close(parts.output, whole.output)
