"""Point sets for hypothesis: ordinary ones, and the awkward ones of reliability."""

import numpy as np
from hypothesis import strategies as st

SIZES = (2, 3, 7, 40)
DIMS = (1, 2, 3, 17)


def points_of(kind, num, dim, seed):
    """A [num, dim] float64 array without rows of zeros."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((num, dim))
    rows[np.abs(rows).max(axis=1) < 1e-3] = 1.0
    if kind == "duplicates":
        rows = rows[generator.integers(0, max(1, num // 2), num)]
    elif kind == "antipodes":
        rows[num // 2 :] = -rows[: num - num // 2]
    elif kind == "one-hot":
        rows = np.eye(dim)[generator.integers(0, dim, num)]
    elif kind == "constant":
        rows = np.repeat(rows[:1], num, axis=0)
    elif kind == "cone":
        rows = 1.0 + 1e-3 * rows
    elif kind == "scales":
        rows = rows * 2.0 ** generator.integers(-60, 60, (num, 1))
    elif kind == "signed zeros":
        rows = rows * generator.integers(0, 2, (num, dim)) * np.where(rows > 0, 1.0, -1.0)
        rows[(rows == 0).all(axis=1), 0] = 1.0
    return rows


KINDS = ("normal", "duplicates", "antipodes", "one-hot", "constant", "cone", "scales", "signed zeros")


@st.composite
def points(draw, kinds=KINDS, sizes=SIZES, dims=DIMS):
    """One point set; printed by its recipe, so that a failure can be repeated."""
    kind, num, dim = draw(st.sampled_from(kinds)), draw(st.sampled_from(sizes)), draw(st.sampled_from(dims))
    return points_of(kind, num, dim, draw(st.integers(0, 2**16)))


def rotation(dim, seed):
    """A random orthogonal matrix (rotation or reflection)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return q * np.sign(np.diag(r))


sharpness = st.sampled_from((0.5, 1.0, 2.0, 5.0))
seeds = st.integers(0, 2**16)
