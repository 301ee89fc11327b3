"""``spherometer measure --encoder``: images in, what an encoder makes of them measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherometer.cli._files import refuse

if TYPE_CHECKING:
    from spherometer._results import Evaluation


@dataclass(frozen=True)
class EncoderOptions:
    """What the user asked for beside the encoder; None: the default."""

    encoder: str | None
    augment: str | None
    size: int | None
    matching: str | None

    def check(self) -> None:
        """Refuse options that mean nothing without an encoder."""
        given = {"--augment": self.augment, "--size": self.size, "--matching": self.matching}
        for option in (name for name, value in given.items() if value is not None and self.encoder is None):
            refuse(
                f"--encoder must be given with {option}", "it says how images are shown to an encoder",
                "no encoder", "Pass for instance --encoder runs/first/encoder.safetensors",
            )  # fmt: skip

    def measure(self, source: Path) -> Evaluation:
        """Open the data and the encoder, and measure two views."""
        from spherometer.data import open_data
        from spherometer.training import measure_encoder

        assert self.encoder is not None
        views = open_data(str(source), views=self.augment or "auto", size=self.size, seed=0)
        return measure_encoder(self._encoder(views), views, matching=self.matching or "auto")

    def _encoder(self, views: Any) -> Any:
        import torch

        from spherometer.training import build_encoder, load_encoder

        name = str(self.encoder)
        if name.endswith(".safetensors") or Path(name).is_file():
            return load_encoder(name)[0]
        sample = views(0, torch.arange(2))[0]
        return build_encoder(name, channels=sample.shape[1], size=tuple(sample.shape[2:]))
