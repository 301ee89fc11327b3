"""The dense methods: cells of both views compared with their partners, beside the images as wholes.

Shapes: B samples of this process in a batch, D output coordinates, E coordinates of a cell, h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from spherometer import losses, sphere
from spherometer.training._dense_encoder import DenseEncoder, Packed
from spherometer.training._methods import Batch, Method
from spherometer.training._recipe import MethodRecipe


class DenseViews(Method):
    """Both views through one dense encoder; ``(1 - dense_weight) * instance + dense_weight * dense``.

    The instance loss compares the outputs, the dense one the projected cells. Where a weight is 0 that loss
    is left out, and nothing is trained by it.

    Args:
        encoder: what is trained.
        recipe: the losses, how cells find their partners, and the weight.
    """

    def __init__(self, encoder: DenseEncoder, recipe: MethodRecipe) -> None:
        super().__init__()
        self.matching = recipe.matching or "geometric"
        self.network = Packed(encoder, backbone=self.matching == "similarity")
        self.geometric = self.matching == "geometric"
        weight = 0.5 if recipe.dense_weight is None else recipe.dense_weight
        self.weights = {"instance": 1 - weight, "dense": weight}
        self.instance, self.dense = _losses(recipe, self.matching)
        self._terms: dict[str, Tensor] = {}

    @property
    def packed(self) -> Packed:
        """The network, which knows how its rows are made."""
        assert isinstance(self.network, Packed)
        return self.network

    def compare(self, features: Sequence[Tensor], batch: Batch) -> Tensor:
        first, second = (self.packed.unpack(rows) for rows in features)
        total = features[0].new_zeros(())
        self._terms = {}
        if self.weights["instance"]:
            value = self.instance(first[0], second[0])
            total = total + self.weights["instance"] * value
            self._keep("instance", value, self.instance)
        if self.weights["dense"]:
            more: dict[str, Any] = {}
            if self.matching == "similarity":
                more["match_features"] = (first[2], second[2])
            elif self.matching == "geometric":
                more["geometry"] = batch.geometry
            value = self.dense(first[1], second[1], **more)
            total = total + self.weights["dense"] * value
            self._keep("dense", value, self.dense)
        return total

    def _keep(self, name: str, value: Tensor, loss: nn.Module) -> None:
        self._terms[name] = value.detach()
        parts: dict[str, Tensor] = getattr(loss, "terms", {})
        self._terms |= {f"{name}_{part}": each for part, each in parts.items()}

    def sides(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The outputs, or, where nothing trains them, the mean directions of the cells."""
        found = []
        for rows in features:
            output, cells, _ = self.packed.unpack(rows.detach())
            found.append(
                output if self.weights["instance"] else sphere.normalize(cells.flatten(2).mean(dim=2))
            )
        return found[0], found[1]

    @property
    def terms(self) -> dict[str, Tensor]:
        return self._terms


def _losses(recipe: MethodRecipe, matching: Any) -> tuple[nn.Module, nn.Module]:
    """The instance and the dense loss of a recipe."""
    if recipe.name == "dense_info_nce":
        dense: nn.Module = losses.DenseInfoNCELoss(recipe.temperature, dense_weight=1.0, matching=matching)
        return losses.InfoNCELoss(recipe.temperature), dense
    weights = recipe.align_weight, recipe.uniform_weight
    instance = losses.AlignUniformLoss(*weights, recipe.alpha, recipe.t)
    dense = losses.DenseAlignUniformLoss(
        *weights, matching=matching, alpha=recipe.alpha, t=recipe.t, num_cells=recipe.num_cells
    )
    return instance, dense
