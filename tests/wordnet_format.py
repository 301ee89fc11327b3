"""Small files in WordNet's format: a licence, then lines that begin with their own place in the file."""

from __future__ import annotations

import random
from pathlib import Path

from spherometer.data._wordnet import FILES

_OTHERS = {
    "verb": [("29", 'to act; "he acts"')],
    "adj": [("00", 'blue; "a blue sky"')],
    "adv": [("02", "slowly done")],
}


def wordnet_files(directory: Path, nouns: list[tuple[str, str]]) -> Path:
    """Write all four files; ``nouns`` are lexical classes ("03" ... "28") and glosses."""
    directory.mkdir(parents=True, exist_ok=True)
    for kind, rows in {"noun": nouns, **_OTHERS}.items():
        letter = {"adj": "s", "adv": "r"}.get(kind, kind[0])
        text = "  1 The licence.  \n"
        for number, gloss in rows:
            text += f"{len(text.encode()):08d} {number} {letter} 01 word 0 000 | {gloss}  \n"
        (directory / FILES[kind]).write_text(text, encoding="utf-8")
    return directory


def made_up_nouns(num: int, seed: int = 0) -> list[tuple[str, str]]:
    """Glosses whose words depend on their class and, in pairs, on a common theme; half have an example."""
    rng = random.Random(seed)
    rows = []
    for place in range(num):
        label = place % 26
        theme = [f"theme{rng.randrange(60)}" for _ in range(2)]
        words = [f"class{label}word{rng.randrange(4)}", *theme, f"filler{rng.randrange(40)}", f"mark{place}"]
        example = [f"class{label}word{rng.randrange(4)}", *theme, f"other{rng.randrange(40)}", f"sign{place}"]
        rng.shuffle(words)
        gloss = " ".join(words) + (f'; "{" ".join(example)}"' if rng.random() < 0.5 else "")
        rows.append((f"{label + 3:02d}", gloss))
    return rows
