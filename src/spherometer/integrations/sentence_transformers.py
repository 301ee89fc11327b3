"""A loss and an evaluator for sentence-transformers."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks, losses, metrics
from spherometer.errors import InputError, ShapeError

_library = _checks.extra("sentence_transformers", "text", "integrations.sentence_transformers")
_evaluation = _checks.extra(
    "sentence_transformers.sentence_transformer.evaluation", "text", "integrations.sentence_transformers"
)
_Evaluator: Any = _evaluation.SentenceEvaluator

_NUMBERS = (
    "alignment",
    "uniformity",
    "align_uniform",
    "expected_uniformity",
    "normalized_uniformity",
    "effective_rank",
)


class PairLoss(nn.Module):
    """Any two-view loss of ours for ``SentenceTransformerTrainer``: row i of both columns is a positive pair.

    Under several processes the value is that of all rows together (``gather="auto"`` of our losses).

    Args:
        model: the ``SentenceTransformer``.
        loss: a module called with both embeddings [B, D]; None: ``losses.AlignUniformLoss()``.

    The data set has two columns of text and no labels (labels are ignored).
    """

    def __init__(self, model: nn.Module, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.loss = losses.AlignUniformLoss() if loss is None else loss

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        columns = list(sentence_features)
        if len(columns) != 2:
            _checks.refuse(
                ShapeError,
                "PairLoss",
                "sentence_features",
                "have two columns",
                "a positive pair has two sides, and the other rows of a batch are the negatives",
                f"{len(columns)}",
                "Keep the two columns of the pairs, for instance with dataset.select_columns",
            )
        x, y = (self.model(column)["sentence_embedding"] for column in columns)
        value: Tensor = self.loss(x, y)
        return value

    def get_config_dict(self) -> dict[str, Any]:
        """For the model card."""
        return {"loss": repr(self.loss)}


class SphereEvaluator(_Evaluator):  # type: ignore[misc]
    """Alignment of pairs of sentences, and uniformity of all distinct ones among them.

    Returns ``alignment`` (alpha = 2), ``uniformity`` (t = 2), ``align_uniform`` (their sum, the primary
    metric; lower is better), ``expected_uniformity`` of the uniform law in that dimension,
    ``normalized_uniformity`` and ``effective_rank``; with ``name``, as ``name_alignment`` and so on. A line
    with epoch, steps and the numbers is added to ``sphere_evaluation[_name]_results.csv``.

    Args:
        sentences1: one side of each positive pair.
        sentences2: the other side, of the same length.
        name: of the data.
        batch_size: of encoding.
        show_progress_bar: while encoding.
        write_csv: add a line to the CSV file when an output path is given.

    A sentence that occurs twice counts once in uniformity: it belongs to a set of distinct points.
    """

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        *,
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool = False,
        write_csv: bool = True,
    ) -> None:
        super().__init__()
        if len(sentences1) != len(sentences2) or not sentences1:
            _checks.refuse(
                InputError,
                "SphereEvaluator",
                "sentences2",
                "have as many sentences as sentences1, at least one",
                "sentence i of both is a positive pair",
                f"{len(sentences1)} and {len(sentences2)}",
                "Pass matching lists",
            )
        self.sentences1, self.sentences2 = list(sentences1), list(sentences2)
        self.name, self.batch_size, self.write_csv = name, batch_size, write_csv
        self.show_progress_bar = show_progress_bar
        self.csv_file = f"sphere_evaluation{'_' + name if name else ''}_results.csv"
        self.csv_headers = ["epoch", "steps", *_NUMBERS]
        self.greater_is_better = False
        self.primary_metric = "align_uniform"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Encode every distinct sentence once and measure."""
        position = {
            sentence: row for row, sentence in enumerate(dict.fromkeys(self.sentences1 + self.sentences2))
        }
        encoded = model.encode(
            list(position),
            batch_size=self.batch_size,
            show_progress_bar=self.show_progress_bar,
            convert_to_tensor=True,
        )
        z = encoded.detach().float().cpu()
        x, y = (
            z[torch.tensor([position[sentence] for sentence in side])]
            for side in (self.sentences1, self.sentences2)
        )
        numbers = _numbers(x, y, z)
        if output_path is not None and self.write_csv:
            self._add_line(Path(output_path), [epoch, steps, *numbers.values()])
        named: dict[str, float] = self.prefix_name_to_metrics(numbers, self.name)
        self.store_metrics_in_model_card_data(model, named, epoch, steps)
        return named

    def _add_line(self, folder: Path, line: list[Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.csv_file
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([self.csv_headers, line] if new else [line])

    def get_config_dict(self) -> dict[str, Any]:
        """For the model card."""
        return {"pairs": len(self.sentences1)}


def _numbers(x: Tensor, y: Tensor, z: Tensor) -> dict[str, float]:
    alignment, uniformity = float(metrics.alignment(x, y)), float(metrics.uniformity(z))
    expected = metrics.expected_uniformity(z.shape[1])
    values = (
        alignment,
        uniformity,
        alignment + uniformity,
        expected,
        1 - uniformity / expected,
        float(metrics.effective_rank(z, normalize=True)),
    )
    return dict(zip(_NUMBERS, values, strict=True))
