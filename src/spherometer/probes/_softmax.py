"""Multinomial logistic regression for many rows: full-batch L-BFGS with a preconditioner.

Shapes: N rows, P features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_Pass = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]  # (W, b) -> sum of errors, slopes of both
_MAX_ITERATIONS = 500
_LARGEST_GRADIENT = {torch.float32: 3e-4, torch.float64: 1e-8}  # per row, in preconditioned coordinates


@dataclass(frozen=True)
class SoftmaxFit:
    """Fitted weights, for features scaled by ``centre`` and ``scale``."""

    weights: Tensor  # [P, K]
    bias: Tensor  # [K]
    centre: Tensor  # [P]
    scale: Tensor  # [P]
    iterations: int
    converged: bool

    def predict(self, features: Tensor) -> Tensor:
        """Classes [M] of features [M, P]."""
        return self.logits(features).argmax(dim=1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [..., K] of features [..., P]."""
        weights = self.weights / self.scale[:, None]
        bias = self.bias - self.centre @ weights
        flat = torch.addmm(bias, features.flatten(0, -2), weights)
        return flat.view(*features.shape[:-1], -1)


@torch.no_grad()
def fit_softmax(
    features: Tensor, labels: Tensor, *, num_classes: int, strength: float = 1.0,
    max_iterations: int = _MAX_ITERATIONS,
) -> SoftmaxFit:  # fmt: skip
    r"""Minimise the sum of the cross-entropies + \|W\|^2 / (2 strength) over standardised features.

    The same minimum as ``LinearProbe``, reached in tens of passes over the rows: L-BFGS moves in coordinates
    in which the Hessian's bound (Boehning 1992: at most 1/2 (I - 1 1^T / K) (x) X^T X) is about the identity.

    Args:
        features: [N, P] float32 or float64; the passes run in this precision, their sums in float64.
        labels: [N] int64 in 0 ... K - 1; or [N, K] shares of the classes: the cross-entropy of a row is then
            the sum of shares_k (-log p_k). Rows need not sum to 1: their sum is the weight of the row.
        num_classes: K.
        strength: inverse of the penalty.
        max_iterations: of L-BFGS.

    Returns:
        The fit. ``converged``: the gradient has (nearly) vanished before ``max_iterations``.

    Source: Boehning 1992 (the bound), Liu & Nocedal 1989 (L-BFGS; SciPy's).
    """
    from scipy.optimize import minimize

    soft = labels.ndim == 2
    rows = float(labels.sum(dtype=torch.float64)) if soft else float(len(features))
    x, centre, scale = _standardised(features)
    penalty = 1 / (strength * rows)
    values, vectors = _axes(x)
    # an average cell's curvature p (1 - p) is about 1/K; the exact factor matters little
    step = (values.clamp(min=0) / num_classes + penalty).rsqrt()
    to_weights = vectors * step  # [P, R]: W = to_weights @ U
    shape = (to_weights.shape[1] + 1, num_classes)
    errors_of = _of_shares(x, labels) if soft else _of_classes(x, labels)

    def passed(flat: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.from_numpy(flat).view(shape)
        weights = to_weights @ free[:-1].to(x.device)
        entropy, slope, tilt = errors_of(weights.to(x.dtype), free[-1].to(x))
        slope = slope.double() / rows + penalty * weights
        gradient = torch.cat([to_weights.T @ slope, tilt[None] / rows])
        value = float(entropy / rows + 0.5 * penalty * weights.square().sum())
        return value, gradient.cpu().numpy().ravel()

    tolerance = _LARGEST_GRADIENT[x.dtype]
    found = minimize(
        passed, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B",
        options={"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": tolerance, "ftol": 1e-15},
    )  # fmt: skip
    free = torch.from_numpy(found.x).view(shape).to(x.device)
    weights = (to_weights @ free[:-1]).to(x.dtype)
    # rounding may stop the line search just before the tolerance: that is the minimum in this precision
    converged = bool(np.abs(found.jac).max() <= 3 * tolerance)
    return SoftmaxFit(weights, free[-1].to(x.dtype), centre, scale, int(found.nit), converged)


def _of_classes(x: Tensor, labels: Tensor) -> _Pass:
    """Cross-entropy with classes [N]."""
    picked = labels.to(x.device)[:, None]

    def passed(weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = torch.addmm(bias, x, weights).log_softmax(dim=1)
        entropy = -logits.gather(1, picked).sum(dtype=torch.float64)
        errors = logits.exp_()
        errors.scatter_add_(1, picked, errors.new_full((1, 1), -1.0).expand(len(x), 1))
        return entropy, x.T @ errors, errors.sum(dim=0, dtype=torch.float64)

    return passed


def _of_shares(x: Tensor, shares: Tensor) -> _Pass:
    """Cross-entropy with shares [N, K]; classes lie along the first axis, which is several times as "
    "fast."""
    wanted = shares.to(x).T.contiguous()
    weight = wanted.sum(dim=0)

    def passed(weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = torch.addmm(bias[:, None], weights.T.contiguous(), x.T).log_softmax(dim=0)
        entropy = -(wanted * logits).sum(dtype=torch.float64)
        errors = logits.exp_().mul_(weight).sub_(wanted)
        return entropy, (errors @ x).T, errors.sum(dim=1, dtype=torch.float64)

    return passed


def _axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [R] and eigenvectors [P, R] of X^T X / N, float64.

    With more features than rows (pixels of large images) only those of positive eigenvalues: the minimum lies
    in the span of the rows, and P x P numbers would fill the memory.
    """
    rows, num_features = x.shape
    if num_features <= rows:
        values, vectors = torch.linalg.eigh((x.T @ x).double() / rows)
        return values, vectors
    wide = x.double()
    values, left = torch.linalg.eigh(wide @ wide.T / rows)
    some = values > 1e-12 * values[-1]
    return values[some], wide.T @ (left[:, some] / (rows * values[some]).sqrt())


def _standardised(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns with mean 0 and variance 1 (constant ones become 0), and what was taken away."""
    centre = features.mean(dim=0, dtype=torch.float64).to(features.dtype)
    x = features - centre
    spread = (x.square().sum(dim=0, dtype=torch.float64) / len(x)).sqrt()
    floor = 10 * torch.finfo(features.dtype).eps * centre.abs().double()
    constant = spread <= floor
    scale = torch.where(constant, torch.ones_like(spread), spread).to(features.dtype)
    x.div_(scale)
    x[:, constant] = 0
    return x, centre, scale
