"""How fast are other libraries that compute the same, where they are installed?

Run: python benchmarks/peers.py [--quick] [--num 128 512] [--out benchmarks/results]

pytorch-metric-learning's NTXentLoss, KeOps' Gaussian reduction (it compiles at its first call) and
scikit-learn's RBF kernel. A library that cannot be imported is named as such.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata, util

import torch
from torch import Tensor
from torch.nn import functional

from _timing import (
    Median,
    arguments,
    both,
    forward,
    interleave,
    machine,
    promises,
    ratios,
    shown,
    table,
    write,
)
from info_nce import loss_ours
from uniformity import T, ours

DIM, TEMPERATURE = 128, 0.5
Function = Callable[[Tensor], Tensor]


def metric_learning() -> Function:
    from pytorch_metric_learning.losses import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE)

    def run(raw: Tensor) -> Tensor:
        return loss(raw, torch.arange(len(raw) // 2).repeat(2))  # type: ignore[no-any-return]

    return run


def keops() -> Function:
    from pykeops.torch import LazyTensor

    def run(x: Tensor) -> Tensor:
        n = len(x)
        squares = ((LazyTensor(x[:, None, :]) - LazyTensor(x[None, :, :])) ** 2).sum(-1)
        return (((squares * -T).exp().sum(1).sum() - n) / (n * (n - 1))).log()

    return run


def scikit_learn() -> Function:
    from sklearn.metrics.pairwise import rbf_kernel

    def run(x: Tensor) -> Tensor:
        n = len(x)
        return torch.tensor((rbf_kernel(x.numpy(), gamma=T).sum() - n) / (n * (n - 1))).log()

    return run


# distribution, module, what makes it, ours, normalised already, sizes, with gradient
PEERS = {
    "pytorch-metric-learning, NT-Xent": (
        "pytorch-metric-learning", "pytorch_metric_learning", metric_learning, loss_ours, (128, 512), True,
    ),
    "KeOps, uniformity": ("pykeops", "pykeops", keops, ours, (1024, 4096), False),
    "KeOps, uniformity with gradient": ("pykeops", "pykeops", keops, ours, (1024, 4096), True),
    "scikit-learn, uniformity": ("scikit-learn", "sklearn", scikit_learn, ours, (1024, 4096), False),
}  # fmt: skip


def main() -> None:
    options = arguments(__doc__ or "")
    numbers: dict[str, dict[str, object]] = {}
    rows, verdicts = [], []
    for name, (package, module, make, mine, sizes, gradient) in PEERS.items():
        if util.find_spec(module) is None:
            numbers[name] = {"installed": False}
            rows.append([name, "not installed", "-", "-"])
            continue
        version = metadata.version(package)
        try:
            theirs = make()
            for num in options.num or sizes[: 1 if options.quick else 2]:
                raw = torch.randn(num, DIM, generator=torch.Generator().manual_seed(1))
                x = raw if mine is loss_ours else functional.normalize(raw, dim=1)
                with torch.no_grad():
                    wanted, found = float(mine(x)), float(theirs(x))
                if abs(found - wanted) > 1e-4 * max(1.0, abs(wanted)):
                    raise SystemExit(f"{name}: {found} against {wanted}")
                mode = both if gradient else forward
                times = interleave({"ours": mode(mine, x), "theirs": mode(theirs, x)}, 3, 1)
                ratio = ratios(times, "ours")["theirs"]
                milliseconds = Median.of(times["ours"]).over(1e-3)
                numbers[f"{name} {num}"] = {
                    "installed": True, "version": version, "theirs": ratio, "milliseconds": milliseconds,
                }  # fmt: skip
                rows.append([f"{name} ({version})", f"{num}", shown(ratio), shown(milliseconds)])
                verdicts.append((f"{name}, N = {num}: theirs / ours", ratio, 1.0))
        except (
            ImportError,
            OSError,
            RuntimeError,
        ) as error:  # no compiler, no header
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            numbers[name] = {"installed": True, "version": version, "failed": reason}
            rows.append([f"{name} ({version})", f"failed: {reason}", "-", "-"])
        print(" ".join(rows[-1]), flush=True)
    text = [
        "# Other libraries",
        "",
        f"{machine()}; float32, D = {DIM}. Theirs / ours in process CPU time, in turns, medians of rounds;",
        "values agree (checked).",
        "",
        table(["library", "N", "theirs / ours", "ours, ms"], rows),
        "",
        *([promises(verdicts)] if verdicts else []),
    ]
    write(options.out, "peers", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
