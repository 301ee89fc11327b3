"""Losses of several processes equal those of one, for every split of rows, with other data on each rank.

Real gloo processes (``distributed_worker.py``) run every case in one group per world size. The reference is
the same case in this process over all rows: what every rank returns must be its value, and the mean over
ranks of the parameter gradients, which DistributedDataParallel takes, its gradient.
"""

import json
import math
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed

import distributed_worker as worker
from registry import LOSSES

WORKER = Path(__file__).with_name("distributed_worker.py")
EVERYTHING = slice(0, worker.NUM)
pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch without gloo")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What every rank of every world found: {world: [rank 0, rank 1, ...]}."""
    folder = tmp_path_factory.mktemp("ranks")
    started = {}
    for world in (2, 3):
        for rank in range(world):
            command = [sys.executable, str(WORKER), str(rank), str(world)]
            command += [str(folder / f"store_{world}"), str(folder / f"{world}_{rank}.json")]
            log = (folder / f"{world}_{rank}.log").open("w")
            started[world, rank] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            log.close()
    try:
        for (world, rank), process in started.items():
            code = process.wait(timeout=240)
            log_text = (folder / f"{world}_{rank}.log").read_text()
            assert code == 0, f"rank {rank} of {world}:\n{log_text}"
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    found = {
        world: [json.loads((folder / f"{world}_{rank}.json").read_text()) for rank in range(world)]
        for world in (2, 3)
    }
    distributed.init_process_group(
        "gloo", store=distributed.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=60)
    )
    try:
        found[1] = [worker.work(0, 1)]
    finally:
        distributed.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def reference():
    """The single-process result of a case, computed once."""
    kept = {}

    def find(name, dtype, make=None, rows=EVERYTHING):
        key = name, dtype, rows.stop
        if key not in kept:
            kept[key] = worker.run(make or worker.CASES[name], rows, worker.DTYPES[dtype])
        return kept[key]

    return find


def disagreements(found, expected, tolerance):
    """What differs from one process: the check of this file. ``found`` has an entry for every rank."""
    wrong = []
    for rank, each in enumerate(found):
        for name, value, wanted in [
            ("value", each["value"], expected["value"]),
            *((term, each["terms"].get(term, math.nan), w) for term, w in expected["terms"].items()),
        ]:
            if not abs(value - wanted) <= tolerance * max(1.0, abs(wanted)):
                wrong.append(f"{name} on rank {rank}: {value!r}, not {wanted!r}")
    for name, wanted in expected["gradients"].items():
        gradients = [each["gradients"][name] for each in found]
        if wanted is None or None in gradients:
            if wanted is not None or any(gradient is not None for gradient in gradients):
                wrong.append(f"gradient of {name}: missing on some rank, or in one process")
            continue
        mean = torch.tensor(gradients, dtype=torch.float64).mean(dim=0)
        exact = torch.tensor(wanted, dtype=torch.float64)
        error = float((mean - exact).abs().max() / max(1.0, float(exact.abs().max())))
        if not error <= tolerance:
            wrong.append(f"gradient of {name}: off by {error:.3g}")
    return wrong


def rounding(single, double):
    """How far the float32 gradient of one process is from its float64 one."""
    both = [torch.tensor([v for g in each["gradients"].values() for v in g]) for each in (single, double)]
    error = float((both[0] - both[1]).abs().max() / max(1.0, float(both[1].abs().max())))
    assert error < 4e-6
    return error


WORLDS = [(world, split) for world, splits in worker.SPLITS.items() for split in splits]
every_split = pytest.mark.parametrize(
    ("world", "split"), WORLDS, ids=["+".join(map(str, split)) for _, split in WORLDS]
)


def results(ranks, world, name, split, dtype="float64"):
    key = f"{name} | {'+'.join(map(str, split))} | {dtype}"
    return [each["cases"][key] for each in ranks[world]]


def test_every_loss_of_the_registry_is_here():
    assert {loss.name for loss in LOSSES} <= set(worker.CASES)


@every_split
@pytest.mark.parametrize("dtype", worker.DTYPES)
@pytest.mark.parametrize("name", worker.CASES)
def test_value_terms_and_gradient_are_those_of_one_process(ranks, reference, name, dtype, world, split):
    found, expected, tolerance = results(ranks, world, name, split, dtype), reference(name, dtype), 1e-12
    if dtype == "float32":  # the encoder's own rounding is amplified by close pairs and sharp potentials
        tolerance = 1e-6 + rounding(expected, reference(name, "float64"))
    assert disagreements(found, expected, tolerance) == []


@pytest.mark.parametrize("name", worker.CASES)
def test_the_ranks_have_different_data_and_a_gradient(ranks, reference, name):
    exact = reference(name, "float64")
    if "empty" in name and "InfoNCE" in name:
        assert exact["value"] == 0
        assert all(value == 0 for gradient in exact["gradients"].values() for value in gradient)
        return
    first, second = (each["gradients"]["encoder.0.weight"] for each in results(ranks, 2, name, (7, 5)))
    largest = max(map(abs, exact["gradients"]["encoder.0.weight"]))
    assert largest > 1e-3
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 1e-3 * largest


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", worker.CASES)
def test_the_number_of_exchanges_depends_on_nobodys_rows(ranks, name, world):
    counts = [
        each["exchanges"]
        for split in worker.SPLITS[world]
        for dtype in worker.DTYPES
        for each in results(ranks, world, name, split, dtype)
    ]
    if name.startswith(
        "ring"
    ):  # shards, which all know, and the range of exponents decide; nobody's own rows
        for start in range(0, len(counts), world):
            assert all(each == counts[start] for each in counts[start : start + world])
        assert all(backward == forward for forward, backward in counts)
    else:
        assert all(each == counts[0] for each in counts)
    assert counts[0][0]["all_gather"] >= 1


@pytest.mark.parametrize("name", worker.CASES)
def test_one_process_exchanges_nothing(ranks, reference, name):
    for found in (*results(ranks, 1, name, (12,)), reference(name, "float64")):
        assert found["exchanges"] == [{}, {}]


@pytest.mark.parametrize(("world", "split"), [(w, s) for w in (2, 3) for s in worker.SPLITS[w][:2]], ids=str)
def test_the_check_finds_a_gather_without_gradient(ranks, reference, world, split):
    """The planted mistake has the right value and 1 / W of the gradient; a test of values would pass it."""
    found = [each["planted"]["+".join(map(str, split))] for each in ranks[world]]
    exact = reference("nt_xent_loss", "float64")
    assert all(each["value"] == pytest.approx(exact["value"], rel=1e-12) for each in found)
    wrong = disagreements(found, exact, 1e-6)
    assert len(wrong) == 4
    assert all(line.startswith("gradient of encoder") for line in wrong)
    for name, wanted in exact["gradients"].items():
        mean = torch.tensor([each["gradients"][name] for each in found], dtype=torch.float64).mean(dim=0)
        torch.testing.assert_close(
            mean * world, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("world", [2, 3])
def test_training_under_distributed_data_parallel(ranks, world):
    """Three steps, other splits each, a queue and a learnable temperature: the model of one process."""
    exact = worker.train(lambda step: EVERYTHING, lambda whole: whole)
    assert exact["filled"] == 20
    assert exact["position"] == 36 % 20
    for each in (ranks[world][rank]["trained"] for rank in range(world)):
        torch.testing.assert_close(each["values"], exact["values"], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(each["parameters"], exact["parameters"], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(each["keys"], exact["keys"], rtol=1e-12, atol=1e-12)
        assert each["keys"] == ranks[world][0]["trained"]["keys"]
        assert (each["filled"], each["position"]) == (20, 16)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", worker.ALONE)
def test_without_gather_a_rank_is_on_its_own(ranks, reference, world, name):
    found = ranks[world][0]["alone"][name]
    assert found["exchanges"] == [{}, {}]
    assert (
        disagreements([found], reference(f"alone {name}", "float64", worker.ALONE[name], slice(0, 7)), 0)
        == []
    )


def listed(world, late, early, dtypes=("float32", "float32")):
    shapes = [f"rank {rank} {early} {dtypes[0]}" for rank in range(world - 1)]
    return "; ".join([*shapes, f"rank {world - 1} {late} {dtypes[1]}"])


@pytest.mark.parametrize("world", [2, 3])
def test_what_does_not_fit_is_refused_on_every_rank(ranks, world):
    different = (
        "ShapeError: {}: z1 must have the same views, columns and precision on every rank, because the loss "
        "is taken over the rows of all ranks. Got [V, N, D] {}. Use one encoder and one precision on all "
        "ranks, or pass gather=False."
    )
    few = (
        "UndefinedError: {}: x must have at least {}, because {}. Got {} over {} ranks. "
        "Pass the whole set at once."
    )
    elsewhere = (
        "InputError: {} must be usable on every rank, because the loss is taken over the rows of all ranks. "
        f"Got a refusal on rank {world - 1}, whose message says why. Correct the input there."
    )
    precision = listed(world, "[2, 3, 4]", "[2, 3, 4]", ("float32", "float64"))
    pairs = "the quantity is a mean over pairs of rows"
    expected = {
        "columns": different.format("InfoNCELoss", listed(world, "[2, 3, 5]", "[2, 3, 4]")),
        "precision": different.format("NTXentLoss", precision),
        "views": different.format("AlignUniformLoss", listed(world, "[3, 3, 4]", "[2, 3, 4]")),
        "rows": few.format("uniform_loss", "2 rows", pairs, "1 row", world),
        "no rows": few.format("align_loss", "1 row", "a mean needs a row", "0 rows", world),
        "gradient": "InputError: uniform_loss: x must need a gradient on every rank or on none, because the "
        "backward of the loss is an exchange that all ranks take part in. Got no gradient on rank "
        f"{world - 1}. Call the loss under no_grad on all ranks, or pass gather=False.",
        "queue": elsewhere.format("MemoryQueue.enqueue: keys"),
        "one side": elsewhere.format("align_loss: x"),
        "metadata rows": elsewhere.format("ConditionalAlignUniformLoss: z1"),
        "metadata columns": "ShapeError: YAwareInfoNCELoss: metadata must have the same columns on every "
        "rank, because rows of one rank are compared with those of another. Got "
        f"{'1, ' * (world - 1)}2 columns. Pass the same columns on all ranks.",
        "metadata alike": "UndefinedError: ConditionalAlignUniformLoss: metadata must differ between rows, "
        "because conditional uniformity is a mean over pairs with dissimilar meta-data. Got "
        f"{3 * world} rows, all alike under the kernel. Use uniformity(z), or a smaller bandwidth or "
        "threshold.",
    }
    expected |= {
        "ring columns": different.format("uniform_loss", listed(world, "[1, 3, 5]", "[1, 3, 4]")).replace(
            "z1", "x"
        ),
        "ring rows": few.format("uniform_loss", "2 rows", pairs, "1 row", world),
        "ring no rows": few.format("AlignUniformLoss", "2 rows", pairs, "0 rows", world).replace(
            "x must", "z1 must"
        ),
        "ring t": "InputError: uniform_loss: t must be the same on every process, because its rows meet "
        f"those of all others. Got {'2, ' * (world - 1)}3 on processes 0 to {world - 1}. Pass parts "
        "of one set and one t.",
        "ring one side": elsewhere.format("uniform_loss: x"),
        "twice ring": "UndefinedError: uniform_loss: x must be in one process to be differentiated twice, "
        f"because second derivatives are not taken across processes. Got {world} processes. Differentiate "
        "once.",
    }
    for rank in range(world):
        said = dict(ranks[world][rank]["refusals"])
        twice = [said.pop("twice InfoNCELoss"), said.pop("twice AlignUniformLoss")]
        assert said.pop("kernel") == (
            "InputError: YAwareInfoNCELoss: kernel must be the same on every rank, because rows of one rank "
            "are compared with those of another. Got on this one gaussian kernel, bandwidth "
            f"{5 + (rank == world - 1)}, on another one different numbers. Fit one kernel on the whole "
            "set and give it to all ranks."
        )
        if rank == world - 1:
            assert said.pop("ring one side").startswith("ShapeError: uniform_loss: x must ")
            assert said.pop("metadata rows") == (
                "ShapeError: ConditionalAlignUniformLoss: metadata must have one entry for each row, because "
                "entry i belongs to row i of every view. Got 2 entries for 3 rows. Pass the meta-data of "
                "this batch."
            )
            assert said.pop("queue") == (
                "ShapeError: MemoryQueue.enqueue: keys must have as many columns as the queue, because both "
                "live on one sphere. Got shape (3, 5), a queue with dim=4. Make the queue with "
                "MemoryQueue(dim=D, size=...)."
            )
            assert said.pop("one side") == (
                "ShapeError: align_loss: y must have the same shape as x, because row i of one belongs to "
                "row i of the other. Got x (3, 4), y (2, 4). Pass matching arrays."
            )
        assert said == {name: expected[name] for name in said}
        for message in twice:
            assert re.fullmatch(
                r"UndefinedError: (InfoNCELoss|AlignUniformLoss): gather must be False to differentiate "
                r"twice, because second derivatives are not taken across ranks. Got gather=\"auto\" with "
                r"more than one rank. Differentiate once, or pass gather=False.",
                message,
            )
