"""DenseNet and ResNets of volumes, as MONAI builds them, with weights from an own generator.

Shapes: B volumes, C channels, X x Y x Z voxels, P penultimate features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.errors import ShapeError
from spherometer.training._conv3d import VolumeEncoder
from spherometer.training._heads import Head, make_head

_LEAST_SIDE = 29  # of DenseNet121: its transitions round down


def _norm(norm: str) -> Any:
    return ("group", {"num_groups": 8}) if norm == "group" else "batch"


class _MonaiEncoder(VolumeEncoder):
    """A network of MONAI without its classifier, and a head."""

    def __init__(
        self,
        dim: int | None = 128,
        *,
        channels: int = 1,
        norm: str = "batch",
        head: Head = "mlp",
        seed: int = 0,
    ) -> None:
        name = type(self).__name__
        _checks.whole(name, "channels", channels)
        _checks.one_of(name, "norm", norm, ("batch", "group"))
        nets = _checks.extra("monai.networks.nets", "neuro", f"the encoder {self.kind!r}")
        super().__init__()
        self.config = {"dim": dim, "channels": channels, "norm": norm, "head": head}
        with torch.device("meta"):  # no weight is drawn from the global generator
            self.body, num_features = self._network(nets, channels, norm)
            self.head = make_head(name, head, num_features, dim, norm)
        self.draw(seed)

    @staticmethod
    def _network(nets: Any, channels: int, norm: str) -> tuple[nn.Module, int]:
        """Volumes -> features [B, P], and P."""
        raise NotImplementedError


class DenseNet121Volumes(_MonaiEncoder):
    """DenseNet with 121 layers in three dimensions: the encoder of y-Aware InfoNCE. P = 1024.

    Args:
        dim: output coordinates D.
        channels: of the volumes, C.
        norm: "batch" or "group" (8 groups).
        head: "mlp", "linear" or "none".
        seed: of the initial weights.

    Sources: Huang et al. 2017; MONAI's implementation. Dufumier et al. 2021 use a head of 512 hidden units.
    """

    kind = "densenet121_3d"
    dense_path = "body.relu"

    def prepare(self, x: Tensor) -> Tensor:
        x = super().prepare(x)
        if min(x.shape[2:]) < _LEAST_SIDE:
            _checks.refuse(
                ShapeError, type(self).__name__, "x", f"have at least {_LEAST_SIDE} voxels on each side",
                "the map is halved five times", f"shape {tuple(x.shape)}",
                "Use smaller voxels, or the encoder 'conv3d' or 'resnet10_3d'",
            )  # fmt: skip
        return x

    @staticmethod
    def _network(nets: Any, channels: int, norm: str) -> tuple[nn.Module, int]:
        whole = nets.DenseNet121(spatial_dims=3, in_channels=channels, out_channels=1, norm=_norm(norm))
        body = nn.Sequential()
        body.add_module("features", whole.features)
        body.add_module("relu", nn.ReLU())
        body.add_module("pool", nn.AdaptiveAvgPool3d(1))
        body.add_module("flatten", nn.Flatten())
        return body, whole.class_layers.out.in_features


class _ResNetVolumes(_MonaiEncoder):
    dense_path = "body.layer4"


class ResNet10Volumes(_ResNetVolumes):
    """ResNet with 10 layers in three dimensions. P = 512; arguments as for ``DenseNet121Volumes``.

    Sources: He et al. 2016; MONAI's implementation, the first convolution with stride 2.
    """

    kind = "resnet10_3d"

    @staticmethod
    def _network(nets: Any, channels: int, norm: str) -> tuple[nn.Module, int]:
        return _resnet(nets.resnet10, channels, norm)


class ResNet18Volumes(_ResNetVolumes):
    """ResNet with 18 layers in three dimensions. P = 512; arguments as for ``DenseNet121Volumes``.

    Sources: He et al. 2016; MONAI's implementation, the first convolution with stride 2.
    """

    kind = "resnet18_3d"

    @staticmethod
    def _network(nets: Any, channels: int, norm: str) -> tuple[nn.Module, int]:
        return _resnet(nets.resnet18, channels, norm)


def _resnet(make: Any, channels: int, norm: str) -> tuple[nn.Module, int]:
    found: nn.Module = make(
        spatial_dims=3,
        n_input_channels=channels,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
        norm=_norm(norm),
    )
    return found, 512
