"""One rank of tests/test_integrations_torchmetrics.py."""

import json
import sys
from datetime import timedelta

import torch
from torch import distributed

from spherometer.errors import UndefinedError
from spherometer.integrations._callbacks import any_rank
from spherometer.integrations.torchmetrics import Alignment, EffectiveRank, RankMe, Uniformity

SPLITS = {"even": [6, 6], "uneven": [7, 5], "lopsided": [11, 1], "one_empty": [12, 0]}


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(12, 4, generator=generator, dtype=torch.float64) for _ in range(2))


def shards(split: list[int], rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(side.split(split)[rank] for side in data())


def measured(x: torch.Tensor, y: torch.Tensor, batch: int = 4) -> dict[str, float]:
    values = {}
    for metric in (Alignment(alpha=1.5), Uniformity(), EffectiveRank(), RankMe()):
        for a, b in zip(x.split(batch), y.split(batch), strict=True):
            if len(a):
                metric.update(*((a, b) if isinstance(metric, Alignment) else (a,)))
        values[type(metric).__name__] = float(metric.compute())
        values[type(metric).__name__] = float(metric.compute())  # nothing was lost by the exchange
    return values


def main() -> None:
    rank, world, path, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    store = distributed.FileStore(path, world)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=90)
    )
    found = {name: measured(*shards(split, rank)) for name, split in SPLITS.items()}
    metric, errors = Uniformity(), []
    if rank:
        metric.update(torch.randn(1, 3))  # one row on all ranks together
    for _ in range(2):
        try:
            metric.compute()
        except UndefinedError as error:
            errors.append(str(error))
    metric.update(torch.eye(3))
    found["after"] = float(metric.compute())
    found["errors"] = errors
    found["any_rank"] = [any_rank(on, torch.device("cpu")) for on in (rank == 1, False, True)]
    with open(out, "w") as file:
        json.dump(found, file)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
