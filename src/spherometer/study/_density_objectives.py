"""What the encoders of the study of local density minimise.

Shapes: B images in a batch, D output coordinates, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spherometer import losses
from spherometer.study._density_data import Sample
from spherometer.study._density_grid import DensityTask
from spherometer.study._encoders import on_sphere

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class LabelHead(nn.Module):
    """Cross-entropy of a linear map from outputs to classes; the map is trained with the encoder.

    Args:
        dim: D.
        labels: [N] of all training images.
        num_classes: C.
        smoothing: of the labels.
        seed: of the map.
    """

    def __init__(self, dim: int, labels: Tensor, num_classes: int, smoothing: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.map = nn.Linear(dim, num_classes, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.map.weight.normal_(std=dim**-0.5, generator=generator)
            self.map.bias.zero_()
        self.smoothing = smoothing
        self.labels: Tensor
        self.register_buffer("labels", labels)

    def forward(self, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        """Of both views of the images ``index`` [B]."""
        wanted = self.labels[index.to(self.labels.device)]
        logits = self.map(on_sphere(torch.cat([x, y])))
        return F.cross_entropy(logits, torch.cat([wanted, wanted]), label_smoothing=self.smoothing)


def calinski_harabasz(rows: Tensor, codes: Tensor, num_classes: int) -> Tensor:
    """Calinski & Harabasz's ratio of rows [B, D] with classes ``codes`` [B], with a gradient.

    Classes that are not in the batch do not count.
    """
    member = F.one_hot(codes, num_classes).to(rows)
    sizes = member.sum(dim=0)
    means = member.T @ rows / sizes.clamp(min=1)[:, None]
    centred = means - rows.mean(dim=0)
    between = (sizes * centred.square().sum(dim=1)).sum()
    within = (rows - means[codes]).square().sum()
    there = int((sizes > 0).sum())
    degrees = (len(rows) - there) / max(1, there - 1)
    return degrees * between / within.clamp(min=torch.finfo(rows.dtype).tiny)


class ScatteredContrast(nn.Module):
    """NT-Xent + weight log(1 + Calinski-Harabasz): alike views, but classes without a centre of their own.

    Labels are used to make the encoder bad for a linear map, not good. The logarithm is ours: the ratio
    starts in the tens or hundreds, and its slope would drown the contrastive term's. So is the weight's
    rise, in a straight line over the first ``rise`` steps: put on at once, it keeps a ViT from learning.
    """

    def __init__(
        self, temperature: float, weight: float, labels: Tensor, num_classes: int, rise: int = 1
    ) -> None:
        super().__init__()
        self.rise, self.steps = rise, 0
        self.contrast = losses.NTXentLoss(temperature)
        self.weight = weight
        self.num_classes = num_classes
        self.labels: Tensor
        self.register_buffer("labels", labels)

    def forward(self, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        """Of both views of the images ``index`` [B]."""
        codes = self.labels[index.to(self.labels.device)]
        ratio = calinski_harabasz(torch.cat([x, y]), torch.cat([codes, codes]), self.num_classes)
        value: Tensor = self.contrast(x, y)
        self.steps += 1
        weight = self.weight * min(1.0, self.steps / self.rise)
        return value + weight * torch.log1p(ratio).to(value)


def objective_of(task: DensityTask, sample: Sample) -> tuple[Loss, list[nn.Parameter]]:
    """What an arm minimises, as the loop calls it, and parameters of the loss itself."""
    shared, labels = task.protocol, sample.labels[0]
    if task.arm.objective == "supervised":
        head = LabelHead(shared.dim, labels, sample.num_classes, shared.label_smoothing, task.seed)
        return head, list(head.parameters())
    if task.arm.objective == "bad":
        steps = shared.recipe.epochs * (len(sample.train) // shared.recipe.batch_size)
        rise = max(1, round(shared.bad_rise * steps))
        scattered = ScatteredContrast(shared.temperature, shared.bad_weight, labels, sample.num_classes, rise)
        return scattered, []
    plain = (
        losses.NTXentLoss(shared.temperature)
        if task.arm.objective == "contrastive"
        else losses.AlignUniformLoss()
    )
    return lambda x, y, index: plain(x, y), []
