"""The unit sphere S^(D-1) in R^D: safe normalisation, closed forms, point sets with known answers.

``dim`` is always D, the number of coordinates (the papers also write S^m for the sphere in R^(m+1)).
Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer._checks import Features

__all__ = [
    "cross_polytope",
    "expected_energy",
    "expected_uniformity",
    "minimum_uniformity",
    "normalize",
    "polygon",
    "sample_uniform",
    "sample_vmf",
    "simplex",
]

_LOW, _HIGH = 2.0**-42, 2.0**60  # inside, the plain norm neither overflows nor underflows in float32
_EPS = 1e-8
_DOTS = 1 << 19  # numbers of a block of products


def _norms(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows scaled by an exact power of two into the ordinary range, and their norms (1 for zero rows)."""
    largest = x.abs().amax(dim=-1, keepdim=True)
    _, exponent = torch.frexp(largest)
    half = exponent // 2  # in two steps: 2^-exponent alone may overflow
    scaled = torch.ldexp(torch.ldexp(x, -half), half - exponent)
    norm = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled, torch.where(norm == 0, torch.ones_like(norm), norm)


def _ordinary(x: Tensor) -> tuple[Tensor, float] | None:
    """Norms [..., 1] and the least, where none overflows or underflows; None: that is not known."""
    if x.device.type != "cpu" or not x.numel():  # a look at the norms costs nothing on a CPU
        return None
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    low, high = torch.aminmax(norm)
    least = float(low)
    return (norm, least) if least > _LOW and float(high) < _HIGH else None


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, known: tuple[Tensor, float] | None) -> Tensor:
        scaled, norm = _norms(x) if known is None else (x, known[0])
        z: Tensor = scaled / norm
        ctx.save_for_backward(x, z, None if known is None or known[1] < eps else norm)
        ctx.eps = eps
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, z, norm = ctx.saved_tensors
        if norm is not None and not torch.is_grad_enabled():  # no row of zeros, none below eps
            return torch.addcmul(grad, z, _dots(grad, z), value=-1).div_(norm), None, None
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=ctx.eps)
        tangential = grad - z * (grad * z).sum(dim=-1, keepdim=True)
        # 1, or 0 for a row of zeros; a comparison of all entries would cost more than the rest together
        alive = torch.linalg.vector_norm(z.detach(), dim=-1, keepdim=True).round_()
        return tangential * (alive / norm).masked_fill(alive == 0, 0), None, None


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """a_i . b_i, [..., 1], in blocks: nothing of the size of ``a`` is made. Autocast would round a GEMM."""
    if a.numel() <= _DOTS:
        return (a * b).sum(dim=-1, keepdim=True)
    step = max(1, _DOTS * len(a) // a.numel())
    parts = zip(torch.split(a, step), torch.split(b, step), strict=True)
    return torch.cat([(one * two).sum(dim=-1, keepdim=True) for one, two in parts])


def _normalized(x: Tensor, eps: float, known: tuple[Tensor, float] | None) -> Tensor:
    if x.requires_grad and torch.is_grad_enabled():
        return _Normalize.apply(x, eps, known)  # type: ignore[no-any-return, no-untyped-call]
    scaled, norm = _norms(x) if known is None else (x, known[0])
    return scaled / norm


def normalize(x: Tensor, *, eps: float = _EPS) -> Tensor:
    r"""Scale every row to length 1, exactly and safely.

    z_i = x_i / \|x_i\|, after scaling each row by a power of two, so that the result does not change by a
    single bit when a row is multiplied by any power of two, and neither 1e-38 nor 1e38 loses anything.

    Args:
        x: [..., D] floating point; every vector along the last axis is scaled.
        eps: bound of the gradient: rows shorter than ``eps`` get the gradient of a row of length ``eps``.

    Returns:
        A tensor of the same shape and dtype. A row of zeros stays zero and gets gradient 0 (the plain
        quotient would give a gradient of 1e12, or NaN in half precision).

    Cost: O(N D). Differentiable twice.
    """
    return _normalized(x, eps, _ordinary(x.detach()))


def unit_rows(function: str, name: str, checked: Features, *, scale: bool) -> Tensor:
    """Rows of a checked argument on the sphere: scaled, or (``scale=False``) verified to be there already."""
    if scale:
        known = _ordinary(checked.rows.detach())
        if known is None:
            _checks.refuse_zero_rows(function, name, checked.rows)
        return _normalized(checked.rows, _EPS, known)
    _checks.refuse_off_sphere(function, name, checked.rows, checked.dtype)
    return checked.rows


# --- closed forms -------------------------------------------------------------------------------------


def _log_0f1(b: float, argument: float) -> list[float]:
    """Log of 0F1(; b; argument), argument >= 0, as addends to be summed exactly.

    The series has positive terms; they are summed around the largest, whose log is a sum of log ratios.
    """

    def log_ratio(k: int) -> float:  # term k + 1 over term k
        return math.log(argument) - math.log(b + k) - math.log(k + 1.0)

    # the largest term is where (b + k)(k + 1) passes the argument
    peak = max(0, math.ceil((-(b + 1) + math.sqrt((b - 1) ** 2 + 4 * argument)) / 2))
    total, term, k = 1.0, 1.0, peak
    while term > 1e-18 * total:
        term *= math.exp(log_ratio(k))
        total += term
        k += 1
    term, k = 1.0, peak
    while k > 0 and term > 1e-18 * total:
        k -= 1
        term *= math.exp(-log_ratio(k))
        total += term
    return [log_ratio(k) for k in range(peak)] + [math.log(total)]


def _log_bessel_potential(dim: int, t: float) -> float:
    """The same by the large-argument series of the Bessel function I, order^2 <= 2t, t >= 100.

    exp(-2t) 0F1(; dim/2; t^2) = Gamma(dim/2) t^(1 - dim/2) exp(-2t) I_order(2t), order = dim/2 - 1.
    """
    order, z = dim / 2 - 1, 2 * t
    total, term, k = 1.0, 1.0, 1
    while abs(term) > 1e-18:
        term *= ((2 * k - 1) ** 2 - 4 * order * order) / (8 * k * z)
        total += term
        k += 1
    addends = (math.lgamma(dim / 2), -order * math.log(t), -0.5 * math.log(2 * math.pi * z), math.log(total))
    return math.fsum(addends)


def expected_uniformity(dim: int, t: float = 2.0) -> float:
    r"""Uniformity of the uniform law in ``dim`` dimensions: the line to read every value against.

    log E exp(-t \|u - v\|^2) = -2t + log 0F1(; dim/2; t^2), u and v independent and uniform.

    Args:
        dim: number of coordinates D, at least 1 (the sphere is S^(D-1)).
        t: sharpness of the Gaussian potential, > 0.

    Returns:
        A float. It decreases with ``dim`` from -1.575 (D = 2, t = 2) towards -2t.

    Raises:
        InputError: ``dim`` is not a whole number >= 1, or ``t`` is not positive and finite.

    Cost: at most O(t); float64, accurate to 1e-13 (relative beyond 1).
    Source: Wang & Isola 2020, Corollary 1 (the population minimum of uniformity).

    Example:
        >>> round(expected_uniformity(128), 4)
        -3.9375
    """
    _checks.whole("expected_uniformity", "dim", dim)
    _checks.positive("expected_uniformity", "t", t)
    t = float(t)
    if dim == 1:  # cosh(2t), whose series is the slowest
        return math.log1p(math.exp(-4 * t)) - math.log(2)
    if dim == 3:
        return math.log(-math.expm1(-4 * t)) - math.log(4 * t)
    if t >= 100 and (dim / 2 - 1) ** 2 <= 2 * t:
        return _log_bessel_potential(dim, t)
    return math.fsum([-2 * t, *_log_0f1(dim / 2, t * t)])


def expected_energy(dim: int, power: float = 1.0) -> float:
    r"""Hyperspherical energy of the uniform law in ``dim`` dimensions: the line to read every value against.

    E \|u - v\|^-power = 2^-s G((D-1-s)/2) / G((D-1)/2) * G(D-1) / G(D-1-s/2), s = power < D - 1, u and v
    independent and uniform, G the gamma function. From the law of c = u.v, whose density is proportional
    to (1 - c^2)^((D-3)/2): with \|u - v\|^2 = 2 (1 - c) it is a Beta integral. Power 0 is the derivative
    at s = 0, E log(1 / \|u - v\|) = (psi(D-1) - psi((D-1)/2)) / 2 - log 2, psi the digamma function.

    Args:
        dim: number of coordinates D, at least 1.
        power: exponent >= 0.

    Returns:
        A float; infinity for power >= D - 1, where near pairs weigh too much (D = 1 is such a case).

    Raises:
        InputError: ``dim`` is not a whole number >= 1, or ``power`` is negative or not finite.

    Cost: O(1); float64, accurate to 1e-11.
    Source: the Beta integral above; for power = -alpha it is the alignment of unrelated points.

    Example:
        >>> round(expected_energy(3, 1.0), 9), round(expected_energy(128, 2.0), 6)
        (1.0, 0.504)
    """
    _checks.whole("expected_energy", "dim", dim)
    _checks.exponent("expected_energy", "power", power)
    half, s = (dim - 1) / 2, float(power)
    if s >= dim - 1:
        return math.inf
    if s == 0:
        psi = torch.special.digamma(torch.tensor([2 * half, half], dtype=torch.float64))
        return float(psi[0] - psi[1]) / 2 - math.log(2)
    logs = (
        math.lgamma(half - s / 2),
        -math.lgamma(half),
        math.lgamma(2 * half),
        -math.lgamma(2 * half - s / 2),
    )
    return math.exp(math.fsum(logs) - s * math.log(2))


def minimum_uniformity(num: int, dim: int, t: float = 2.0) -> float:
    r"""Lowest uniformity (without self pairs) that ``num`` points in ``dim`` dimensions can have.

    Exact where the best arrangement is known, otherwise a lower bound:

    ==================  =======================================================  =====
    case                value                                                    kind
    ==================  =======================================================  =====
    dim = 1             points split evenly over +1 and -1                       exact
    num <= dim + 1      regular simplex: -2 t num / (num - 1)                    exact
    num = 2 dim         cross-polytope                                           exact
    dim = 2             regular polygon                                          exact
    otherwise           max of the simplex value and the population bound        bound
                        log((num c - 1) / (num - 1)), c = exp(expected)
    ==================  =======================================================  =====

    Args:
        num: number of points, at least 2.
        dim: number of coordinates D.
        t: sharpness of the Gaussian potential, > 0.

    Returns:
        A float; values below -2t are possible for few points.

    Raises:
        InputError: an argument is out of range.

    Source: universal optimality (Cohn & Kumar 2007) for the exact cases; Wang & Isola 2020, appendix A.1.1
    for the bound.

    Example:
        >>> round(minimum_uniformity(4, 3), 4)
        -5.3333
    """
    _checks.whole("minimum_uniformity", "num", num, at_least=2)
    _checks.whole("minimum_uniformity", "dim", dim)
    _checks.positive("minimum_uniformity", "t", t)
    t = float(t)
    pairs = num * (num - 1) / 2
    if dim == 1:
        low, high = num // 2, num - num // 2
        same = (low * (low - 1) + high * (high - 1)) / 2
        if same == 0:
            return -4 * t
        return math.log(same / pairs) + math.log1p(low * high / same * math.exp(-4 * t))
    simplex = -2 * t * num / (num - 1)
    if num <= dim + 1:
        return simplex
    if num == 2 * dim:
        return -2 * t + math.log((math.exp(-2 * t) + (2 * dim - 2)) / (2 * dim - 1))
    if dim == 2:
        gaps = [-2 * t * (1 - math.cos(2 * math.pi * k / num)) for k in range(1, num)]
        top = max(gaps)
        return top + math.log(math.fsum(math.exp(gap - top) for gap in gaps) / (num - 1))
    expected = expected_uniformity(dim, t)
    excess = expected + math.log(num)  # log(num c)
    if excess <= 0:
        return simplex
    return max(simplex, math.log(math.expm1(excess)) - math.log(num - 1))


# --- point sets ---------------------------------------------------------------------------------------


def sample_uniform(
    num: int, dim: int, *, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw ``num`` independent points [num, dim] from the uniform law on the sphere."""
    _checks.whole("sample_uniform", "num", num)
    _checks.whole("sample_uniform", "dim", dim)
    return normalize(torch.randn(num, dim, generator=generator, dtype=torch.float64)).to(dtype)


def sample_vmf(
    num: int,
    mean: Tensor,
    concentration: float,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw [num, D] von Mises-Fisher points around ``mean`` [D], D >= 2, by rejection (Wood 1994)."""
    _checks.whole("sample_vmf", "num", num)
    _checks.positive("sample_vmf", "concentration", concentration)
    mu = normalize(mean.to(torch.float64))
    dim = mu.numel()
    _checks.whole("sample_vmf", "mean.numel()", dim, at_least=2)
    b = (dim - 1) / (2 * concentration + math.sqrt(4 * concentration**2 + (dim - 1) ** 2))
    x0 = (1 - b) / (1 + b)
    c = concentration * x0 + (dim - 1) * math.log(1 - x0 * x0)
    cosines = torch.empty(0, dtype=torch.float64)
    while len(cosines) < num:
        size = 2 * num + 16
        gammas = torch._standard_gamma(
            torch.full((2, size), (dim - 1) / 2, dtype=torch.float64), generator=generator
        )
        beta = gammas[0] / gammas.sum(dim=0)
        w = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
        u = torch.rand(size, generator=generator, dtype=torch.float64)
        accept = concentration * w + (dim - 1) * torch.log1p(-x0 * w) - c >= torch.log(u)
        cosines = torch.cat([cosines, w[accept]])
    w = cosines[:num, None]
    tangent = torch.randn(num, dim, generator=generator, dtype=torch.float64)
    tangent = normalize(tangent - (tangent @ mu)[:, None] * mu)
    return (w * mu + (1 - w * w).clamp(min=0).sqrt() * tangent).to(mean.dtype)


def simplex(num: int, dim: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Vertices [num, dim] of the regular simplex, num <= dim + 1: the lowest uniformity of few points."""
    _checks.whole("simplex", "num", num, at_least=2)
    _checks.whole("simplex", "dim", dim, at_least=num - 1)
    # Helmert rows span the space orthogonal to (1, ..., 1), so dim = num - 1 suffices
    points = torch.zeros(num, dim, dtype=torch.float64)
    for k in range(1, num):
        points[:k, k - 1] = 1 / math.sqrt(k * (k + 1))
        points[k, k - 1] = -k / math.sqrt(k * (k + 1))
    return normalize(points).to(dtype)


def cross_polytope(dim: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The 2 dim points plus and minus e_i, as [2 dim, dim]."""
    _checks.whole("cross_polytope", "dim", dim)
    eye = torch.eye(dim, dtype=dtype)
    return torch.cat([eye, -eye])


def polygon(num: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Vertices [num, 2] of the regular polygon on the circle."""
    _checks.whole("polygon", "num", num)
    angle = 2 * math.pi * torch.arange(num, dtype=torch.float64) / num
    return torch.stack([angle.cos(), angle.sin()], dim=1).to(dtype)
