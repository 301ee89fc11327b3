"""The Triton programs, interpreted on the CPU, against float64 definitions; prints the worst errors as JSON.

TRITON_INTERPRET=1 must be set before triton is imported, so this runs as a process of its own.
"""

import json
import sys
import warnings

import torch

from spherometer import pairs
from spherometer.pairs import _triton

CASES = {  # rows, columns (None: one set), dimensions, t
    "one tile and a row": (129, None, 3, 2.0),
    "several blocks of 64 rows": (200, None, 16, 2.0),
    "one dimension": (70, None, 1, 0.5),
    "dimensions cut into two chunks": (66, None, 130, 2.0),
    "many dimensions": (10, None, 384, 2.0),
    "two sets": (65, 140, 16, 2.0),
    "two sets, one row": (1, 130, 2, 5.0),
    "sharp": (64, None, 100, 15.0),
}


def made(num, dim, generator):
    x = torch.randn(num, dim, generator=generator)
    return x / x.norm(dim=1, keepdim=True)


def errors(x, y, t):
    found = _triton.run(x, y, t, (True, y is not None, True))
    alone = _triton.run(x, y, t, (False, False, False))
    again = _triton.run(x, y, t, (True, y is not None, True))
    a, b = x.double(), (x if y is None else y).double()
    k = torch.exp(-t * (a[:, None] - b).square().sum(dim=-1))
    if y is None:
        k.fill_diagonal_(0)
    expected = [k @ b - k.sum(dim=1, keepdim=True) * a, None]
    if y is not None:
        expected[1] = k.T @ a - k.sum(dim=0)[:, None] * b
    pulls = [
        float((pull.double() - want).abs().max() / want.abs().max())
        for pull, want in zip(found.pulls, expected, strict=True)
        if want is not None
    ]
    squares = (k * (a[:, None] - b).square().sum(dim=-1)).sum()
    moment = -squares / 2 if y is None else -squares  # sum_i x_i . pull_i over both sets, for any centre
    return {
        "value": abs(float(found.total / k.sum()) - 1),
        "value alone": abs(float(alone.total / k.sum()) - 1),
        "pull": max(pulls),
        "moment": abs(float(found.moment / moment) - 1),
        "same bits": bool(found.total == again.total) and torch.equal(found.pulls[0], again.pulls[0]),
    }


def chosen(generator):
    """The public path, as on a GPU: values and gradients with the kernel and without."""
    _triton._suits = lambda x, y: x.dtype == torch.float32
    taken = []
    run = _triton.run
    _triton.run = lambda *given, **options: taken.append(len(given[0])) or run(*given, **options)
    apart = {}
    for name, sides in (("one set", (410,)), ("two sets", (390, 400))):
        values = []
        for mode in ("auto", "off"):
            rows = [made(num, 5, torch.Generator().manual_seed(num)).requires_grad_() for num in sides]
            t = torch.tensor(2.0, requires_grad=True)
            function = pairs.gaussian_potential if len(sides) == 1 else pairs.cross_gaussian_potential
            taken.clear()
            with _triton.gpu_kernel(mode):
                value = function(*rows, t)
            assert bool(taken) == (mode == "auto")
            value.backward()
            values.append([value.detach(), *(one.grad for one in (*rows, t))])
        apart[name] = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*values, strict=True))
    x = made(400, 5, generator)
    with _triton.gpu_kernel("auto"):
        assert pairs.gaussian_potential(200 * x, 2.0) < -5  # too wide for float32: the torch path
        assert len(taken) > 0
    return apart


def collapsed(generator):
    """Rows that lie within 1e-3 of each other keep their gradient."""
    x = 1.0 + 1e-3 * torch.randn(100, 8, generator=generator)
    return errors(x, None, 2.0)


def main():
    warnings.simplefilter("error")
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, (num, other, dim, t) in CASES.items():
        y = None if other is None else made(other, dim, generator)
        found[name] = errors(made(num, dim, generator), y, t)
    found["collapsed"] = collapsed(generator)
    json.dump({"errors": found, "chosen": chosen(generator)}, sys.stdout)


if __name__ == "__main__":
    main()
