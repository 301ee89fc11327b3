"""Text for encoders: words, vocabularies, and pairs of texts as pairs of views.

Shapes: N pairs, B of them in a batch, L tokens at most.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.data._draws import Draws
from spherometer.errors import InputError

PADDING, UNKNOWN = 0, 1
_SPECIAL = ("<pad>", "<unk>")
_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*")


def words(text: str) -> list[str]:
    """The lower-cased words of a text: runs of letters and digits, with apostrophes inside.

    Example:
        >>> words("It's a SMALL world_wide")
        ["it's", 'a', 'small', 'world', 'wide']
    """
    return _WORD.findall(text.lower())


class Vocabulary:
    """Words and their numbers: 0 pads, 1 is every other word, then the words in the given order.

    Args:
        known: the words, each once.

    Example:
        >>> vocabulary = Vocabulary.of(["a cat", "a dog"], min_count=2)
        >>> len(vocabulary), vocabulary.tokens(["a cat", "dog"], max_length=3).tolist()
        (3, [[2, 1, 0], [1, 0, 0]])
    """

    def __init__(self, known: Iterable[str]) -> None:
        self.words = tuple(known)
        self._numbers = {word: number for number, word in enumerate(self.words, len(_SPECIAL))}
        if len(self._numbers) != len(self.words) or not all(isinstance(word, str) for word in self.words):
            _checks.refuse(
                InputError,
                "Vocabulary",
                "known",
                "be texts, each once",
                "a word has one number",
                f"{len(self.words)} entries, {len(self._numbers)} different ones",
                "Pass every word once, or use Vocabulary.of(texts)",
            )

    @classmethod
    def of(cls, texts: Iterable[str], *, min_count: int = 2, max_size: int = 30_000) -> Vocabulary:
        """The words that occur at least ``min_count`` times, the most frequent first (ties by the alphabet).

        Args:
            texts: those that train an encoder.
            min_count: a word that occurs less often is unknown.
            max_size: so many words at most.
        """
        _checks.whole("Vocabulary.of", "min_count", min_count)
        _checks.whole("Vocabulary.of", "max_size", max_size)
        counts = Counter(word for text in texts for word in words(text))
        often = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        return cls(word for _, word in often[:max_size])

    def __len__(self) -> int:
        """Numbers in use, with those for padding and unknown words."""
        return len(self.words) + len(_SPECIAL)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def tokens(self, texts: Sequence[str], *, max_length: int) -> Tensor:
        """Word numbers of texts, int64 [N, max_length]: cut behind ``max_length`` words, padded with 0."""
        _checks.whole("Vocabulary.tokens", "max_length", max_length)
        rows = []
        for text in texts:
            row = [self._numbers.get(word, UNKNOWN) for word in words(text)[:max_length]]
            rows.append(row + [PADDING] * (max_length - len(row)))
        return torch.tensor(rows, dtype=torch.int64).view(len(rows), max_length)


def _drop(tokens: Tensor, keep: Tensor) -> Tensor:
    """Rows without the tokens where ``keep`` is False; what remains moves to the left."""
    order = torch.argsort((~keep).to(torch.int8), dim=1, stable=True)
    return torch.where(keep, tokens, PADDING).gather(1, order)


class TextPairs:
    """Pairs of texts as two views: token numbers [B, L] int64 of the left and of the right texts, 0 pads.

    In training every word may be left out with probability ``word_dropout``, drawn for each text from (seed,
    epoch, index, view) alone; one word always stays.

    Args:
        left, right: N texts each; text i of one belongs to text i of the other. Each has at least one word.
        vocabulary: of the words; None: ``Vocabulary.of`` both sides.
        seed: of the words that are left out.
        word_dropout: in [0, 1).
        max_length: L; longer texts are cut.
        labels: [N] int64 in 0 ... C - 1, or None.
        name, source: what the texts are.

    Example:
        >>> pairs = TextPairs(["a small cat", "a dog"], ["kitten", "it barks"])
        >>> x, y = pairs(0, torch.tensor([1]))
        >>> x.shape == y.shape, pairs.vocabulary.words
        (True, ('a',))
    """

    def __init__(
        self,
        left: Sequence[str],
        right: Sequence[str],
        *,
        vocabulary: Vocabulary | None = None,
        seed: int = 0,
        word_dropout: float = 0.0,
        max_length: int = 32,
        labels: Tensor | None = None,
        name: str = "texts",
        source: str = "pairs of texts",
    ) -> None:
        if len(left) != len(right) or not left or (labels is not None and len(labels) != len(left)):
            num = f", labels {len(labels)}" if labels is not None else ""
            self._refuse(
                "left and right",
                "be lists of the same length, at least 1",
                "text i of one belongs to text i of the other",
                f"left {len(left)}, right {len(right)}{num}",
                "Pass matching lists",
            )
        if not (isinstance(word_dropout, (int, float)) and 0 <= word_dropout < 1):
            self._refuse(
                "word_dropout",
                "lie in [0, 1)",
                "it is the share of words that are left out",
                repr(word_dropout)[:80],
                "Pass for instance word_dropout=0.1",
            )
        for side, texts in (("left", left), ("right", right)):
            for row, text in enumerate(texts):
                if not isinstance(text, str) or not words(text):
                    self._refuse(
                        side,
                        "hold texts with at least one word",
                        "a text without words has no direction",
                        f"{repr(text)[:60]} in row {row}",
                        "Remove that pair",
                    )
        self.vocabulary = Vocabulary.of([*left, *right]) if vocabulary is None else vocabulary
        self.left = self.vocabulary.tokens(left, max_length=max_length)
        self.right = self.vocabulary.tokens(right, max_length=max_length)
        self.seed, self.word_dropout, self.max_length = seed, float(word_dropout), max_length
        self.labels, self.name, self.source = labels, name, source
        self._content = hashlib.sha256(json.dumps([list(left), list(right)]).encode()).hexdigest()

    @staticmethod
    def _refuse(argument: str, must: str, because: str, got: str, fix: str) -> None:
        _checks.refuse(InputError, "TextPairs", argument, must, because, got, fix)

    def __len__(self) -> int:
        return len(self.left)

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of the pairs ``index`` [B] in ``epoch``, each [B, L]."""
        return self.views(self.load(index), epoch, index)

    def load(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Token numbers of the pairs ``index`` [B], all words."""
        index = index.cpu()
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= len(self)):
            self._refuse(
                "index",
                f"lie between 0 and {len(self) - 1}",
                "it counts the pairs",
                f"values from {int(index.min())} to {int(index.max())}",
                "Pass row numbers of the pairs",
            )
        return self.left[index], self.right[index]

    def views(self, loaded: tuple[Tensor, Tensor], epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of ``loaded``, the pairs ``index`` [B], on its device."""
        if not self.word_dropout:
            return loaded
        x, y = (self._view(side, Draws(self.seed, epoch, view), index) for view, side in enumerate(loaded))
        return x, y

    def _view(self, tokens: Tensor, draws: Draws, index: Tensor) -> Tensor:
        there = tokens != PADDING
        drawn = draws.uniform(index.to(tokens.device), tokens.shape[1])
        keep = there & (drawn >= self.word_dropout)
        keep[torch.arange(len(tokens)), torch.where(there, drawn, -1.0).argmax(dim=1)] = True
        return _drop(tokens, keep)

    def fingerprint(self) -> str:
        """Of every text, the vocabulary, the labels and the settings of the views."""
        parts: list[Any] = [self._content, self.vocabulary.words, self.max_length, self.word_dropout]
        parts += [self.seed, None if self.labels is None else self.labels.tolist()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
