"""The Triton programs of the Gaussian potential: a program keeps a block of rows and passes all columns.

Rows come scaled, w = sqrt(2t log2 e) (x - centre), with halves h_i = -|w_i|^2 / 2 beside them, so the
exponent to the base 2 is w_i . w_j + h_i + h_j: one product and two vectors, for rows of any length. A row or
column past the end has h = -inf, hence k = 0. No program writes what another one writes: the same bits
every time.

Shapes: N rows, M columns, D dimensions; BM, BN rows and columns of a tile, BK of the D taken at a time.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

tl: Any = None  # triton.language; programs look it up here


@functools.lru_cache(maxsize=1)
def programs() -> SimpleNamespace:
    """Both programs. Imports triton (ImportError where there is none)."""
    import triton
    import triton.language

    globals()["tl"] = triton.language

    @triton.jit  # type: ignore[untyped-decorator,unused-ignore]
    def total(
        x,
        y,
        hx,
        hy,
        parts,
        n,
        m,
        d,
        strip,
        SAME: tl.constexpr,
        ONCE: tl.constexpr,
        PRECISION: tl.constexpr,
        BM: tl.constexpr,
        BN: tl.constexpr,
        BK: tl.constexpr,
    ):
        """Sum of k over the columns of a strip; of one set (SAME) the tiles above the diagonal, twice."""
        first = tl.program_id(0) * BM
        start = tl.program_id(1) * strip
        stop = tl.minimum(start + strip, m)
        if SAME:  # BM is a multiple of BN: tiles on the diagonal start at ``first``
            start = tl.maximum(start, first)
        rows = first + tl.arange(0, BM)
        part = tl.arange(0, BK)
        at_rows = x + rows[:, None].to(tl.int64) * d
        half = tl.load(hx + rows, mask=rows < n, other=-float("inf"))
        if ONCE:
            kept = tl.load(at_rows + part[None, :], mask=(rows < n)[:, None] & (part < d)[None, :], other=0.0)
        sums = tl.zeros([BM], dtype=tl.float32)
        for column in range(start, stop, BN):
            columns = column + tl.arange(0, BN)
            inside = columns < m
            at_columns = y + columns[:, None].to(tl.int64) * d
            product = tl.zeros([BM, BN], dtype=tl.float32)
            if ONCE:
                other = tl.load(
                    at_columns + part[None, :], mask=inside[:, None] & (part < d)[None, :], other=0.0
                )
                product = tl.dot(kept, tl.trans(other), product, input_precision=PRECISION)
            else:
                for k in range(0, d, BK):
                    here = k + part
                    mine = tl.load(
                        at_rows + here[None, :], mask=(rows < n)[:, None] & (here < d)[None, :], other=0.0
                    )
                    other = tl.load(
                        at_columns + here[None, :], mask=inside[:, None] & (here < d)[None, :], other=0.0
                    )
                    product = tl.dot(mine, tl.trans(other), product, input_precision=PRECISION)
            far = tl.load(hy + columns, mask=inside, other=-float("inf"))
            values = tl.exp2(product + half[:, None] + far[None, :])
            if SAME:
                values = tl.where(rows[:, None] == columns[None, :], 0.0, values)
                twice = tl.where(column >= first + BM, 2.0, 1.0)
                sums += twice * tl.sum(values, axis=1)
            else:
                sums += tl.sum(values, axis=1)
        tl.store(parts + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), tl.sum(sums, axis=0))

    @triton.jit  # type: ignore[untyped-decorator,unused-ignore]
    def pull(
        x,
        y,
        hx,
        hy,
        moved,
        masses,
        totals,
        n,
        m,
        d,
        share,
        SAME: tl.constexpr,
        ONCE: tl.constexpr,
        PRECISION: tl.constexpr,
        BM: tl.constexpr,
        BN: tl.constexpr,
        BK: tl.constexpr,
        BD: tl.constexpr,
        LEVEL: tl.constexpr,
    ):
        """sum_j k_ij w_j in BD of the dimensions, sum_j k_ij as multiplied (masses) and as they are (totals).

        ``share`` of the columns per program along axis 2. Sums of LEVEL tiles are taken in registers and
        added to memory that belongs to this program alone: two levels keep sums of 10^6 terms precise.
        """
        rows = tl.program_id(0) * BM + tl.arange(0, BM)
        chunk = tl.program_id(1)
        split = tl.program_id(2).to(tl.int64)
        start = tl.program_id(2) * share
        stop = tl.minimum(start + share, m)
        part = tl.arange(0, BK)
        mine_d = chunk * BD + tl.arange(0, BD)
        at_rows = x + rows[:, None].to(tl.int64) * d
        here_rows = rows < n
        half = tl.load(hx + rows, mask=here_rows, other=-float("inf"))
        at_moved = moved + (split * n + rows[:, None].to(tl.int64)) * d + mine_d[None, :]
        write = here_rows[:, None] & (mine_d < d)[None, :]
        if ONCE:
            kept = tl.load(at_rows + part[None, :], mask=here_rows[:, None] & (part < d)[None, :], other=0.0)
        for level in range(start, stop, LEVEL * BN):
            pulled = tl.zeros([BM, BD], dtype=tl.float32)
            mass = tl.zeros([BM], dtype=tl.float32)
            sums = tl.zeros([BM], dtype=tl.float32)
            for column in range(level, tl.minimum(level + LEVEL * BN, stop), BN):
                columns = column + tl.arange(0, BN)
                inside = columns < m
                at_columns = y + columns[:, None].to(tl.int64) * d
                product = tl.zeros([BM, BN], dtype=tl.float32)
                if ONCE:
                    other = tl.load(
                        at_columns + part[None, :], mask=inside[:, None] & (part < d)[None, :], other=0.0
                    )
                    product = tl.dot(kept, tl.trans(other), product, input_precision=PRECISION)
                else:
                    for k in range(0, d, BK):
                        here = k + part
                        mine = tl.load(
                            at_rows + here[None, :], mask=here_rows[:, None] & (here < d)[None, :], other=0.0
                        )
                        other = tl.load(
                            at_columns + here[None, :], mask=inside[:, None] & (here < d)[None, :], other=0.0
                        )
                        product = tl.dot(mine, tl.trans(other), product, input_precision=PRECISION)
                far = tl.load(hy + columns, mask=inside, other=-float("inf"))
                values = tl.exp2(product + half[:, None] + far[None, :])
                if SAME:
                    values = tl.where(rows[:, None] == columns[None, :], 0.0, values)
                wanted = tl.load(
                    at_columns + mine_d[None, :], mask=inside[:, None] & (mine_d < d)[None, :], other=0.0
                )
                rounded = values.to(wanted.dtype)
                # a fresh product, added to the others outside the tensor cores, which truncate
                pulled += tl.dot(rounded, wanted, input_precision=PRECISION)
                mass += tl.sum(rounded.to(tl.float32), axis=1)
                sums += tl.sum(values, axis=1)
            tl.store(at_moved, tl.load(at_moved, mask=write, other=0.0) + pulled, mask=write)
            if chunk == 0:
                at = split * n + rows
                tl.store(masses + at, tl.load(masses + at, mask=here_rows, other=0.0) + mass, mask=here_rows)
                tl.store(totals + at, tl.load(totals + at, mask=here_rows, other=0.0) + sums, mask=here_rows)

    return SimpleNamespace(total=total, pull=pull)
