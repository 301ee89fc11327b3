"""442 patients with diabetes: columns, views of rows, a small network for rows.

Shapes: N patients, C columns, B in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spherometer.data import Draws
from spherometer.data._source import check_index, content_hash, digest
from spherometer.kernels import kernel_for
from spherometer.probes import stratified_split
from spherometer.study._conditional_grid import ConditionalProtocol
from spherometer.study._conditional_parts import Sample, Target
from spherometer.training._encoder import Encoder

METADATA = ("age", "bmi", "bp")  # the other columns enter the network
_VALIDATION, _TEST = 0.2, 0.3


def diabetes_sample(shared: ConditionalProtocol, seed: int, device: str) -> Sample:
    """The patients of one seed: another split each time, because 133 patients are few to be judged by."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    names = [str(name) for name in bunch.feature_names]
    progression = np.asarray(bunch.target, dtype=np.float64)
    rest, test = stratified_split(progression, _TEST, 2 * seed)
    inner, held_out = stratified_split(progression[rest], _VALIDATION / (1 - _TEST), 2 * seed + 1)
    parts = {"train": rest[inner], "validation": rest[held_out], "test": test}
    rows = {name: torch.from_numpy(part) for name, part in parts.items()}
    table = torch.from_numpy(np.asarray(bunch.data, dtype=np.float64))
    metadata = {name: table[:, names.index(name)] for name in METADATA}
    inputs = table[:, [place for place, name in enumerate(names) if name not in METADATA]]
    train = inputs[rows["train"]]
    inputs = ((inputs - train.mean(dim=0)) / train.std(dim=0)).float().to(device)
    typical = kernel_for({name: values[rows["train"]] for name, values in metadata.items()})
    return Sample(
        inputs=inputs,
        metadata=metadata,
        rows=rows,
        targets=(
            Target("progression", "numbers", progression, few=True),
            Target("metadata", "numbers", torch.stack(list(metadata.values()), dim=1).numpy()),
        ),
        kernel=typical.scaled,
        views=lambda given, views_seed: RowViews(given, views_seed, shared.amount),
        encoder=lambda weights: RowEncoder(shared.dim, columns=inputs.shape[1], seed=weights).to(device),
        kept=False,
    )


@dataclass(frozen=True, eq=False)
class RowViews:
    """Two views of every row of a table: some columns are replaced by what another row has there.

    The idea is that of SCARF (Bahri et al. 2022); there the second view is the row itself.

    Args:
        rows: [N, C].
        seed: of the views.
        share: of the columns that are replaced, on average.
    """

    rows: Tensor
    seed: int
    share: float

    labels = None

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.views(self.load(index), epoch, index)

    def load(self, index: Tensor) -> Tensor:
        """The rows ``index`` [B] themselves."""
        check_index("RowViews", index, len(self), "rows given to RowViews")
        return self.rows[index.to(self.rows.device)]

    def views(self, loaded: Tensor, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of ``loaded``, the rows ``index`` [B]."""
        first, second = (self._view(loaded, Draws(self.seed, epoch, view), index) for view in (0, 1))
        return first, second

    def _view(self, loaded: Tensor, draws: Draws, index: Tensor) -> Tensor:
        columns = loaded.shape[1]
        numbers = draws.uniform(index.to(loaded.device), 2 * columns)
        other = (numbers[:, columns:] * len(self)).long()
        strange = self.rows.gather(0, other)
        return torch.where(numbers[:, :columns] < self.share, strange, loaded)

    def fingerprint(self) -> str:
        """Of rows, seed and share."""
        return digest(rows=content_hash(self.rows), seed=self.seed, share=self.share)


class RowEncoder(Encoder):
    """Two hidden layers with batch normalisation, then a linear map: rows of a table -> unit vectors."""

    kind = "rows"

    def __init__(self, dim: int, *, columns: int, hidden: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.config = {"dim": dim, "columns": columns, "hidden": hidden}
        with torch.device("meta"):  # no weight is drawn from the global generator
            self.body = nn.Sequential(
                nn.Linear(columns, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
                nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Linear(hidden, dim)
        self.draw(seed)
