"""WordNet's glosses: a definition and a quoted example of the same meaning are a positive pair of texts.

Read from the plain files of Princeton WordNet 3.0 (Fellbaum 1998), Debian package ``wordnet-base``. One
line is one synset: ``offset class type words ... | definition; "an example"; "another"``, and the offset is
the byte at which its line begins, so that damage anywhere before a line shows in it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import torch
from torch import Tensor

from spherometer import _checks
from spherometer.data._text import words
from spherometer.errors import InputError

FILES = MappingProxyType({"noun": "data.noun", "verb": "data.verb", "adj": "data.adj", "adv": "data.adv"})
SYSTEM = Path("/usr/share/wordnet")
LEXICAL_CLASSES = (  # of nouns: the numbers 03 to 28 of the files
    "Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event",
    "feeling", "food", "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession",
    "process", "quantity", "relation", "shape", "state", "substance", "time",
)  # fmt: skip
_FIRST_CLASS = 3
PARTS = ("train", "validation", "test")
_SHARES = (6, 2, 2)  # of ten
_HEAD = re.compile(r"(\d{8}) (\d\d) ([nvasr]) [0-9a-f]{2} \S+ [0-9a-f] .*")
_OPENS = re.compile(r'(?:^|[;:,])\s*"')  # of the first example; other quotes belong to the definition
_TYPES = {"noun": "n", "verb": "v", "adj": "as", "adv": "r"}


@dataclass(frozen=True)
class Synset:
    """One meaning: its kind of word, its place in the file, its lexical class, and what its gloss says."""

    kind: str
    offset: int
    lexical_class: int
    definition: str
    examples: tuple[str, ...]

    @property
    def part(self) -> str:
        """Train, validation or test: six, two and two of ten, by a hash of kind and offset."""
        draw = hashlib.sha256(f"{self.kind} {self.offset:08d}".encode()).digest()[0] * 10 // 256
        ends = [sum(_SHARES[: place + 1]) for place in range(3)]
        return PARTS[next(place for place, end in enumerate(ends) if draw < end)]


@dataclass(frozen=True)
class TextPart:
    """One part of the texts.

    ``definitions[i]`` and ``examples[i]`` are of one synset; ``texts`` are definitions of noun synsets that
    have no example, with ``labels`` in 0 ... 25, the places of their classes in ``LEXICAL_CLASSES``.
    """

    definitions: tuple[str, ...]
    examples: tuple[str, ...]
    texts: tuple[str, ...]
    labels: Tensor


@dataclass(frozen=True)
class WordNet:
    """Pairs and labelled texts, in three parts that share no text; ``num_repeated`` synsets were left out."""

    name: str
    source: str
    parts: Mapping[str, TextPart]
    num_repeated: int

    def fingerprint(self) -> str:
        """Hex digest of every text and label in its place."""
        found = hashlib.sha256()
        for name in PARTS:
            part = self.parts[name]
            for texts in (part.definitions, part.examples, part.texts):
                found.update(("\n".join(texts) + "\0").encode())
            found.update(bytes(part.labels.tolist()))
        return found.hexdigest()


def find_wordnet(directory: Path | str | None = None) -> Path:
    """The directory of WordNet's files: the argument, else below SPHEROMETER_DATA, else the system's.

    Raises:
        InputError: it is in none of these places; the message says what to install.
    """
    if directory is not None:
        places = [Path(directory).expanduser(), Path(directory).expanduser() / "wordnet"]
    else:
        given = os.environ.get("SPHEROMETER_DATA")
        root = [Path(given).expanduser()] if given else []
        places = [*(each / "wordnet" for each in root), *root, SYSTEM]
    for place in places:
        if all((place / file).is_file() for file in FILES.values()):
            return place
    _checks.refuse(
        InputError,
        "load_wordnet",
        "directory",
        f"hold WordNet's files ({', '.join(FILES.values())})",
        "its glosses are the texts that are read",
        "none of them all in " + " or ".join(str(place) for place in places),
        "Install it with: apt install wordnet-base; or pass the directory that has the files",
    )


def _damaged(path: Path, line: int, what: str) -> NoReturn:
    _checks.refuse(
        InputError,
        "load_wordnet",
        str(path),
        "be a data file of WordNet 3.0",
        "a damaged file would be read as other meanings",
        f"line {line}: {what}",
        "Install it again, for instance with: apt install --reinstall wordnet-base",
    )


def _gloss(gloss: str) -> tuple[str, tuple[str, ...]]:
    """Definition and quoted examples; no examples when a quote is not closed (20 of 117 659 glosses)."""
    start = _OPENS.search(gloss)
    definition = gloss if start is None else gloss[: start.start()]
    definition = definition.strip().rstrip(";:,").strip()
    if start is None or gloss.count('"') % 2:
        return definition, ()
    quoted = re.findall(r'"([^"]*)"', gloss[start.start() :])
    return definition, tuple(text for one in quoted if (text := one.strip(" ;")))


def read_synsets(path: Path | str, kind: str = "noun") -> list[Synset]:
    """All synsets of one file, in its order.

    Args:
        path: for instance /usr/share/wordnet/data.noun.
        kind: noun, verb, adj or adv: what the file must hold.

    Raises:
        InputError: it cannot be read, or a line is not a synset at its place; the message names the line.
    """
    path = Path(path)
    _checks.one_of("read_synsets", "kind", kind, tuple(FILES))
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        _damaged(path, 0, str(error.strerror or error).lower())
    except UnicodeDecodeError as error:
        _damaged(path, content[: error.start].count(b"\n") + 1, "bytes that are not UTF-8")
    found, place = [], 0
    lines = text.split("\n")
    if lines.pop():
        _damaged(path, len(lines) + 1, "the file ends within a line")
    for number, line in enumerate(lines, 1):
        if not line.startswith("  "):  # those are the licence, at the top
            found.append(_synset(path, number, line, place, kind))
        place += len(line.encode()) + 1
    if not found:
        _damaged(path, len(lines), "no synset in the whole file")
    return found


def _synset(path: Path, number: int, line: str, place: int, kind: str) -> Synset:
    head, bar, gloss = line.partition(" | ")
    fields = _HEAD.fullmatch(head)
    if fields is None or not bar:
        _damaged(path, number, f"no synset ({line[:40]!r})")
    if int(fields[1]) != place:
        _damaged(path, number, f"offset {fields[1]}, but the line begins at byte {place}")
    if fields[3] not in _TYPES[kind]:
        _damaged(path, number, f"type {fields[3]!r} in a file of {kind} synsets")
    label = int(fields[2]) - _FIRST_CLASS
    if kind == "noun" and not 0 <= label < len(LEXICAL_CLASSES):
        _damaged(path, number, f"lexical class {fields[2]}, but those of nouns are 03 to 28")
    definition, examples = _gloss(gloss)
    if not words(definition):
        _damaged(path, number, f"no definition ({gloss[:40]!r})")
    return Synset(kind, int(fields[1]), int(fields[2]), definition, examples)


def load_wordnet(directory: Path | str | None = None) -> WordNet:
    """Pairs definition / first example of all synsets that have one, and labelled definitions of nouns.

    Synsets of nouns, verbs, adjectives and adverbs give pairs; noun synsets without an example give the texts
    by whose lexical class features are judged. A synset whose definition or example consists of the same
    words as a text before it is left out, whatever its part, so that no text is in two parts.

    Args:
        directory: of the files; by default found as :func:`find_wordnet` says.

    Raises:
        InputError: WordNet is not there, or damaged.
    """
    place = find_wordnet(directory)
    seen: set[tuple[str, ...]] = set()
    pairs: dict[str, list[Synset]] = {part: [] for part in PARTS}
    alone: dict[str, list[Synset]] = {part: [] for part in PARTS}
    num_repeated = 0
    for kind, file in FILES.items():
        for synset in read_synsets(place / file, kind):
            texts = {tuple(words(text)) for text in (synset.definition, *synset.examples[:1])}
            if len(texts) < 1 + len(synset.examples[:1]) or not all(texts) or texts & seen:
                num_repeated += 1
                continue
            if synset.examples:
                pairs[synset.part].append(synset)
            elif kind == "noun":
                alone[synset.part].append(synset)
            else:
                continue
            seen |= texts
    parts = {part: _part(pairs[part], alone[part]) for part in PARTS}
    source = "Definitions and quoted examples of Princeton WordNet 3.0 (Fellbaum 1998)"
    return WordNet("wordnet", source, MappingProxyType(parts), num_repeated)


def _part(pairs: Sequence[Synset], alone: Sequence[Synset]) -> TextPart:
    return TextPart(
        tuple(synset.definition for synset in pairs),
        tuple(synset.examples[0] for synset in pairs),
        tuple(synset.definition for synset in alone),
        torch.tensor([synset.lexical_class - _FIRST_CLASS for synset in alone], dtype=torch.int64),
    )
