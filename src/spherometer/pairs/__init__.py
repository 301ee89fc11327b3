"""Tiled reductions over all pairs of rows: the only O(N^2) code of the package."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spherometer.pairs._moments import GaussianMoments as GaussianMoments

_ROWS = 512


def _sq(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


def _block(a: Tensor, y: Tensor, t: Tensor, start: int, diagonal: bool) -> Tensor:
    e = -t * _sq(a, y)
    if diagonal:
        i = torch.arange(len(a), device=a.device)
        own = torch.zeros(e.shape, dtype=torch.bool, device=a.device)
        own[i, i + start] = True
        e = e.masked_fill(own, -math.inf)
    return torch.logsumexp(e, 1)


def _log_row_sums(x: Tensor, y: Tensor, t: Tensor | float, diagonal: bool) -> Tensor:
    x, y = x.double(), y.double()
    centre = y.detach().mean(0)
    x, y = x - centre, y - centre
    t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    parts = [
        checkpoint(_block, x[s : s + _ROWS], y, t, s, diagonal, use_reentrant=False, preserve_rng_state=False)
        for s in range(0, len(x), _ROWS)
    ]
    return torch.cat(parts)


@torch.compiler.disable
def gaussian_potential(x: Tensor, t: float | Tensor, *, estimator: str = "u") -> Tensor:
    """Log mean of exp(-t d^2) over the pairs of one set."""
    n = len(x)
    rows = _log_row_sums(x, x, t, True)
    total = torch.logsumexp(rows, 0)
    if estimator == "v":
        total = torch.logaddexp(total, total.new_tensor(math.log(n)))
        return total - 2 * math.log(n)
    return total - math.log(n * (n - 1))


@torch.compiler.disable
def cross_gaussian_potential(x: Tensor, y: Tensor, t: float | Tensor) -> Tensor:
    """Log mean of exp(-t d^2) over all pairs of two sets."""
    return torch.logsumexp(_log_row_sums(x, y, t, False), 0) - math.log(len(x) * len(y))


@torch.no_grad()
def gaussian_log_rows(x: Tensor, t: float | Tensor, *, estimator: str = "u") -> Tensor:
    """Log mean of exp(-t d^2) of each row against the others."""
    rows = _log_row_sums(x.detach(), x.detach(), t, True)
    if estimator == "v":
        return torch.logaddexp(rows, torch.zeros_like(rows)) - math.log(len(x))
    return rows - math.log(len(x) - 1)


@torch.no_grad()
def gaussian_moments(x: Tensor, t: float | Tensor) -> GaussianMoments:
    """Sums over the pairs of one set."""
    x = x.detach()
    rows = _log_row_sums(x, x, t, True)
    squares = _log_row_sums(x, x, 2 * t, True)
    scale = float(rows.max())
    r = (rows - scale).exp()
    return GaussianMoments(len(x), scale, float(r.sum()), float((squares - 2 * scale).exp().sum()), r)


def _lse_block(a: Tensor, y: Tensor, scale: Tensor, start: int, skip: tuple[int, ...]) -> Tensor:
    e = scale * (a @ y.T)
    index = (
        torch.arange(len(y), device=a.device) - torch.arange(start, start + len(a), device=a.device)[:, None]
    )
    out = torch.zeros_like(index, dtype=torch.bool)
    for offset in skip:
        out |= index == offset
    empty = out.all(1)
    e = e.masked_fill(out & ~empty[:, None], -math.inf)
    return torch.where(empty, -math.inf, torch.logsumexp(e, 1))


def _lse_rows(x: Tensor, y: Tensor, scale: Tensor, skip: tuple[int, ...]) -> Tensor:
    parts = [
        checkpoint(
            _lse_block, x[s : s + _ROWS], y, scale, s, skip, use_reentrant=False, preserve_rng_state=False
        )
        for s in range(0, len(x), _ROWS)
    ]
    return torch.cat(parts)


@torch.compiler.disable
def masked_logsumexp(
    x: Tensor, y: Tensor | None, scale: float | Tensor, skip: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor]:
    """Row and column log-sum-exps of scale * x @ y.T without some diagonals."""
    a = x.double()
    b = a if y is None else y.double()
    s = torch.as_tensor(scale, dtype=torch.float64, device=x.device)
    rows = _lse_rows(a, b, s, tuple(skip))
    if y is None:
        return rows, rows
    return rows, _lse_rows(b, a, s, tuple(-offset for offset in skip))


@torch.no_grad()
def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest other rows of each row and their squared distances; ties by lower index."""
    x = x.detach()
    z = x.double()
    z = z - z.mean(0)
    indices, distances = [], []
    for start in range(0, len(z), _ROWS):
        d = _sq(z[start : start + _ROWS], z)
        i = torch.arange(len(d), device=d.device)
        d[i, i + start] = math.inf
        values, order = torch.sort(d, dim=1, stable=True)
        indices.append(order[:, :k])
        distances.append(values[:, :k])
    return torch.cat(indices), torch.cat(distances).to(x.dtype)
