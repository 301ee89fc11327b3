"""DenseNet and ResNets of volumes, as MONAI builds them, with weights from an own generator.

Shapes: B volumes, C channels, X x Y x Z voxels, P penultimate features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spherometer import _checks
from spherometer.training._conv3d import VolumeEncoder
from spherometer.training._heads import Head, make_head, make_norm

_LEAST_SIDE = 29  # of DenseNet121: its transitions round down, and of 28 voxels nothing is left


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
            self.body, num_features = self._network(nets, channels)
            if norm == "group":
                _group(self.body)
            self.head = make_head(name, head, num_features, dim, norm)
        self.draw(seed)

    @staticmethod
    def _network(nets: Any, channels: int) -> tuple[nn.Module, int]:
        """Volumes -> features [B, P], and P."""
        raise NotImplementedError


class DenseNet121Volumes(_MonaiEncoder):
    """DenseNet with 121 layers in three dimensions: the encoder of y-Aware InfoNCE. P = 1024.

    The map is halved five times, so volumes with a side under 29 voxels are first surrounded by zeros to 29.

    Args:
        dim: output coordinates D.
        channels: of the volumes, C.
        norm: "batch" (MONAI's) or "group", after every convolution and in an MLP head.
        head: "mlp", "linear" or "none".
        seed: of the initial weights.

    Sources: Huang et al. 2017; MONAI's implementation. In the code of Dufumier et al. 2021 the head has 512
    hidden units; here as many as features.
    """

    kind = "densenet121_3d"
    dense_path = "body.relu"

    def prepare(self, x: Tensor) -> Tensor:
        x = super().prepare(x)
        lacking = [max(0, _LEAST_SIDE - side) for side in reversed(x.shape[2:])]  # pad counts from the last
        if not any(lacking):
            return x
        return F.pad(x, [part for lack in lacking for part in (lack // 2, lack - lack // 2)])

    @staticmethod
    def _network(nets: Any, channels: int) -> tuple[nn.Module, int]:
        whole = nets.DenseNet121(spatial_dims=3, in_channels=channels, out_channels=1)
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
    def _network(nets: Any, channels: int) -> tuple[nn.Module, int]:
        return _resnet(nets.resnet10, channels)


class ResNet18Volumes(_ResNetVolumes):
    """ResNet with 18 layers in three dimensions. P = 512; arguments as for ``DenseNet121Volumes``.

    Sources: He et al. 2016; MONAI's implementation, the first convolution with stride 2.
    """

    kind = "resnet18_3d"

    @staticmethod
    def _network(nets: Any, channels: int) -> tuple[nn.Module, int]:
        return _resnet(nets.resnet18, channels)


def _resnet(make: Any, channels: int) -> tuple[nn.Module, int]:
    found: nn.Module = make(
        spatial_dims=3,
        n_input_channels=channels,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
    )
    return found, 512


def _group(module: nn.Module) -> None:
    """Replace every batch normalisation; MONAI's ResNets do not hand a ``norm`` on to their blocks."""
    for name, part in list(module.named_children()):
        if isinstance(part, nn.BatchNorm3d):
            setattr(module, name, make_norm("group", part.num_features, maps=3))
        else:
            _group(part)
