"""What all encoders of a study are trained with: a flat record, because it is part of every result's key."""

from __future__ import annotations

from dataclasses import dataclass

from spherometer.training import OptimizerRecipe, Recipe, RunRecipe


@dataclass(frozen=True)
class StudyRecipe:
    """The numbers of a training run that studies set; the names are those of ``Recipe``'s sections.

    Args:
        epochs, batch_size, seed: of ``RunRecipe``.
        learning_rate, optimizer, weight_decay, warmup: of ``OptimizerRecipe`` (``optimizer`` is its name).
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 3e-3
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    warmup: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        self.whole()

    def whole(self) -> Recipe:
        """The recipe of the loop; everything else has its default."""
        return Recipe(
            optimizer=OptimizerRecipe(
                name=self.optimizer,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                warmup=self.warmup,
            ),
            run=RunRecipe(epochs=self.epochs, batch_size=self.batch_size, seed=self.seed),
        )
