"""Encoders of texts: token numbers -> unit vectors.

Shapes: B texts, L tokens (0 pads), W coordinates of a word vector, P penultimate features, D coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.data import Vocabulary
from spherometer.errors import InputError, ShapeError
from spherometer.training._encoder import Encoder, initialise
from spherometer.training._heads import Head, make_head

_PADDING = 0


class _MeanOfVectors(nn.Module):
    """The mean of the vectors of a text's words [B, W]; zero for a text without words."""

    def __init__(self, num_words: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(num_words, width, padding_idx=_PADDING)

    def forward(self, tokens: Tensor) -> Tensor:
        there = (tokens != _PADDING).unsqueeze(2)
        total = (self.vectors(tokens) * there).sum(dim=1)
        mean: Tensor = total / there.sum(dim=1).clamp(min=1)
        return mean


class _LastStates(nn.Module):
    """The last states [B, 2H] of two GRUs: one reads a text's word vectors forwards, one backwards."""

    def __init__(self, num_words: int, width: int, hidden: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(num_words, width, padding_idx=_PADDING)
        self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=True)

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = (tokens != _PADDING).sum(dim=1).clamp(min=1).cpu()  # padding is never read
        packed = nn.utils.rnn.pack_padded_sequence(
            self.vectors(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        _, last = self.gru(packed)
        both: Tensor = last.transpose(0, 1).flatten(1)
        return both


class TextEncoder(Encoder):
    """What encoders of texts share: their vocabulary, and how texts become the numbers that enter."""

    vocabulary: Vocabulary

    def _know(self, vocabulary: Vocabulary | Sequence[str] | None, max_length: int) -> None:
        name = type(self).__name__
        if vocabulary is None or isinstance(vocabulary, str):
            _checks.refuse(
                InputError, name, "vocabulary", "be given", "every known word has a vector",
                repr(vocabulary)[:80], "Pass that of the texts, for instance TextPairs(...).vocabulary",
            )  # fmt: skip
        _checks.whole(name, "max_length", max_length)
        known = vocabulary if isinstance(vocabulary, Vocabulary) else Vocabulary(vocabulary)
        self.vocabulary = known

    def draw(self, seed: int) -> None:
        """Draw all weights: word vectors of length about 1, a GRU as torch does, the head as every head."""
        _checks.whole(type(self).__name__, "seed", seed, at_least=0)
        self.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        for module in self.body.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5, generator=generator)
                with torch.no_grad():
                    module.weight[_PADDING].zero_()
            elif isinstance(module, nn.GRU):
                for weights in module.parameters():
                    bound = module.hidden_size**-0.5
                    nn.init.uniform_(weights, -bound, bound, generator=generator)
        initialise(self.head, generator)

    def prepare(self, x: Tensor) -> Tensor:
        """Check that x holds token numbers [B, L]."""
        if x.ndim != 2 or x.dtype != torch.int64:
            got = f"shape {tuple(x.shape)}, dtype {x.dtype}".replace("torch.", "")
            _checks.refuse(
                ShapeError, type(self).__name__, "x", "be token numbers [B, L], int64",
                "words have vectors by number", got, "Convert texts with encoder.tokens(texts)",
            )  # fmt: skip
        return x

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token numbers [B, L] of texts, as the encoder was trained on them."""
        return self.vocabulary.tokens(texts, max_length=self.config["max_length"])


class BagOfEmbeddings(TextEncoder):
    """The mean of word vectors, then a head: the order of the words does not matter.

    Args:
        dim: output coordinates D.
        vocabulary: the words that have vectors.
        width: coordinates of a word vector; also penultimate features P.
        head: "linear", "mlp" (without normalisation layers) or "none".
        max_length: words of a text that ``tokens`` keeps.
        seed: of the initial weights.

    Example:
        >>> encoder = BagOfEmbeddings(8, vocabulary=["a", "cat", "dog"], seed=1)
        >>> z = encoder(encoder.tokens(["a cat", "cat a", "a dog"]))
        >>> z.shape, torch.allclose(z[0], z[1])
        (torch.Size([3, 8]), True)
    """

    kind = "bag"

    def __init__(
        self,
        dim: int | None = 64,
        *,
        vocabulary: Vocabulary | Sequence[str] | None = None,
        width: int = 128,
        head: Head = "linear",
        max_length: int = 32,
        seed: int = 0,
    ) -> None:
        _checks.whole("BagOfEmbeddings", "width", width)
        super().__init__()
        self._know(vocabulary, max_length)
        self.config = {"dim": dim, "vocabulary": list(self.vocabulary.words), "width": width, "head": head,
                       "max_length": max_length}  # fmt: skip
        with torch.device("meta"):  # no weight is drawn from the global generator
            self.body = _MeanOfVectors(len(self.vocabulary), width)
            self.head = make_head("BagOfEmbeddings", head, width, dim, "none")
        self.draw(seed)


class GRUEncoder(TextEncoder):
    """A bidirectional GRU over word vectors (Cho et al. 2014); its last states, then a head.

    Args:
        dim: output coordinates D.
        vocabulary: the words that have vectors.
        width: coordinates of a word vector.
        hidden: units in each direction; penultimate features P are twice as many.
        head: "linear", "mlp" (without normalisation layers) or "none".
        max_length: words of a text that ``tokens`` keeps.
        seed: of the initial weights.
    """

    kind = "gru"

    def __init__(
        self,
        dim: int | None = 64,
        *,
        vocabulary: Vocabulary | Sequence[str] | None = None,
        width: int = 128,
        hidden: int = 64,
        head: Head = "linear",
        max_length: int = 32,
        seed: int = 0,
    ) -> None:
        _checks.whole("GRUEncoder", "width", width)
        _checks.whole("GRUEncoder", "hidden", hidden)
        super().__init__()
        self._know(vocabulary, max_length)
        self.config = {"dim": dim, "vocabulary": list(self.vocabulary.words), "width": width,
                       "hidden": hidden, "head": head, "max_length": max_length}  # fmt: skip
        with torch.device("meta"):
            self.body = _LastStates(len(self.vocabulary), width, hidden)
            self.head = make_head("GRUEncoder", head, 2 * hidden, dim, "none")
        self.draw(seed)
