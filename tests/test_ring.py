"""Sets larger than one process: values and gradients of the half ring, balanced work, lost processes.

Real gloo processes with other rows on each (``ring_worker.py``) must find what one process finds that holds
all rows, to the last bit alike for any shards. When one of them is killed or frozen in an exchange, the
others must leave within 30 seconds and name it.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import oracles
import ring_worker as worker
from spherometer import metrics, pairs
from spherometer.pairs._ring import Load, Totals

WORKER = Path(__file__).with_name("ring_worker.py")
EVERYTHING = slice(0, 12)
NIGHTLY = pytest.mark.nightly
worlds = pytest.mark.parametrize("world", [2, 3, pytest.param(4, marks=NIGHTLY)])


def call(*arguments, timeout):
    done = subprocess.run(
        [sys.executable, str(WORKER), *map(str, arguments)], capture_output=True, text=True, timeout=timeout
    )
    logs = "\n".join(log.read_text() for log in sorted(Path(arguments[0]).glob("*.log")))
    assert done.returncode == 0, done.stdout + done.stderr + logs


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What every process of a group found, by the number of processes."""
    kept = {}

    def find(world):
        if world not in kept:
            folder, group = tmp_path_factory.mktemp("ring"), (2, 3) if world < 4 else (4,)
            call(folder, *group, timeout=200)
            for each in group:
                files = [folder / f"{each}_{rank}.json" for rank in range(each)]
                kept[each] = [json.loads(file.read_text()) for file in files]
        return kept[world]

    return find


@pytest.fixture(scope="module")
def alone():
    return worker.cases(1, EVERYTHING)


def near(found, expected, tolerance):
    found, expected = (torch.tensor(value, dtype=torch.float64) for value in (found, expected))
    return float((found - expected).abs().max()) <= tolerance * max(1.0, float(expected.abs().max()))


@worlds
def test_every_process_finds_what_one_would(ranks, alone, world):
    for split in worker.SPLITS[world]:
        name = "+".join(map(str, split))
        for case, expected in alone.items():
            tolerance = 1e-12 if case.startswith("float64") else 1e-6
            tolerance *= max(1.0, float(case.split()[1]) / 1000)  # exponents are rounded relative to t
            every = [each[name][case] for each in ranks(world)]
            for each in every:
                assert near(each["value"], expected["value"], tolerance), (name, case)
                for key in ("t", "error", "relative"):
                    if key in expected:
                        assert near(each[key], expected[key], tolerance), (name, case, key)
            if "rows" in expected:
                rows = [row for each in every for row in each["rows"]]
                assert near(rows, expected["rows"], tolerance), (name, case)


@pytest.fixture(scope="module")
def contrastive_alone():
    return worker.contrastive(1, EVERYTHING)


def shares(case, key, tolerance):
    """float64 logits of 1 / temperature are rounded relative to it; so are the gradients of float32 rows."""
    return tolerance * max(1.0, 0.02 / float(case.split()[1]))


@worlds
def test_contrastive_losses_are_those_of_one_process(ranks, contrastive_alone, world):
    """Value, terms, gradients of the rows, and the mean over ranks of those of parameters and temperature."""
    for split in worker.SPLITS[world]:
        name = "+".join(map(str, split))
        for case, expected in contrastive_alone.items():
            tolerance = shares(case, "value", 1e-12 if case.startswith("float64") else 1e-6)
            every = [each["contrastive"][name][case] for each in ranks(world)]
            for each in every:
                assert near(each["value"], expected["value"], tolerance), (name, case)
            assert near([row for each in every for row in each["rows"]], expected["rows"], tolerance)
            for key in ("weight", "temperature"):
                mean = torch.tensor([each[key] for each in every], dtype=torch.float64).mean(dim=0)
                assert near(mean.tolist(), expected[key], tolerance), (name, case, key)


@worlds
def test_contrastive_values_do_not_depend_on_the_shards(ranks, world):
    even, *others = ("+".join(map(str, split)) for split in worker.SPLITS[world])
    for case, expected in ranks(world)[0]["contrastive"][even].items():
        for each in ranks(world):
            for split in (even, *others):
                found = each["contrastive"][split][case]
                assert found["value"] == pytest.approx(expected["value"], rel=1e-14 if "64" in case else 1e-6)


def test_contrastive_losses_of_one_process_against_the_definition(contrastive_alone):
    views = [worker.points(12, torch.float64, seed) for seed in range(2)]
    weight = torch.randn(worker.DIM, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    x, y = (torch.nn.functional.normalize((v + 0.5 * views[0]) @ weight) for v in views)
    for temperature in worker.TEMPERATURES:
        logits, index = x @ y.T / temperature, torch.arange(12)
        cross = torch.nn.functional.cross_entropy
        info_nce = (cross(logits, index) + cross(logits.T, index)) / 2
        every = torch.cat((x, y))
        logits = (every @ every.T / temperature).fill_diagonal_(-math.inf)
        nt_xent = cross(logits, torch.cat((index + 12, index)))
        for name, value in (("info_nce", info_nce), ("nt_xent", nt_xent)):
            found = contrastive_alone[f"float64 {temperature:g} {name}"]["value"][0]
            assert found == pytest.approx(float(value), rel=1e-11, abs=1e-13)


@worlds
def test_contrastive_losses_refuse_what_does_not_fit(ranks, world):
    def differ(what, first, last):
        listed = ", ".join([first] * (world - 1) + [last])
        return f"Got {listed} on processes 0 to {world - 1}. {what}."

    meet = "because its rows meet those of all others. "
    expected = {
        "twice": "UndefinedError: NTXentLoss: x must be in one process to be differentiated twice, because "
        f"second derivatives are not taken across processes. Got {world} processes. Differentiate once.",
        "queue": 'InputError: InfoNCELoss: gather must be "auto" or False with a queue, because every rank '
        "holds the whole queue and takes its own queries against it, so nothing could travel. Got 'ring' and "
        'a queue. Pass gather="auto", or no queue.',
        "scale": f"InputError: ring_logsumexp: scale must be the same on every process, {meet}"
        + differ("Pass one temperature", "2", "3"),
        "gradient": "InputError: ring_logsumexp: views must need a gradient on every process or on none, "
        "because the backward is an exchange of all. "
        + differ("Call it under no_grad on all, or on none", "1", "0"),
        "precision": "InputError: ring_logsumexp: views must have the same precision on every process, "
        + meet
        + differ("Pass parts of one set", "float64", "float32"),
        "not a number": "nan",
        "after all": "no refusal",
    }
    for each in ranks(world):
        assert each["contrastive refusals"] == expected


@worlds
def test_fewer_rows_than_processes(ranks, world):
    num = min(3, world)
    x = worker.points(3, torch.float64)[:num].requires_grad_()
    value = pairs.gaussian_potential(x, 1e4)
    value.backward()
    for rank, (found, again, *gradient) in enumerate(each["few"] for each in ranks(world)):
        assert (found, again) == pytest.approx((value.item(), value.item()), rel=1e-13)
        assert gradient == pytest.approx(x.grad[rank].tolist() if rank < num else [], rel=1e-10)


@worlds
def test_shards_and_processes_change_no_bit(ranks, world):
    even, *others = ("+".join(map(str, split)) for split in worker.SPLITS[world])
    first = ranks(world)[0]
    for split in (even, *others):
        for each in ranks(world):
            for case, found in each[split].items():
                for key, value in found.items():
                    assert key == "rows" or value == first[even][case][key], (split, case, key)


def test_one_process_against_the_definition(alone):
    x = worker.points(12, torch.float64)
    distances = (x[:, None] - x[None]).square().sum(-1)
    for t in worker.SHARPNESS:
        k = -t * distances[~torch.eye(12, dtype=torch.bool)]
        assert alone[f"float64 {t:g} u"]["value"] == pytest.approx(
            float(k.logsumexp(0)) - math.log(132), rel=1e-12
        )
        assert max(map(abs, np.ravel(alone[f"float64 {t:g} u"]["rows"]))) > 0.1


@worlds
def test_every_row_meets_every_other_once(ranks, world):
    for each in ranks(world):
        assert each["alike"] == [[num - 1.0] * num for num in range(2, 3 * world + 2)]


@worlds
def test_work_is_even_whatever_the_shards(ranks, world):
    """A process visits its share of the tiles, within a tenth of the others', for 1200 rows held unevenly."""
    for taken in zip(*(each["pairs"] for each in ranks(world)), strict=True):
        assert max(taken) <= 1.1 * min(taken)
    whole = 0.5 * 1200 * 1200 * (1 + 1 / world) * 1.01  # diagonal tiles are whole
    for place, times in enumerate((1, 1, 8)):  # two views, two journeys
        assert sum(each["pairs"][place] for each in ranks(world)) <= times * whole


@worlds
def test_the_metric_of_sharded_rows(ranks, world):
    x = worker.points(12, torch.float64)
    expected = {
        "numpy": oracles.uniformity(x.numpy(), t=3.0),
        "v": metrics.uniformity(x.numpy(), estimator="v"),
        "half": float(metrics.uniformity(x.half(), t=3.0)),
        "autocast": float(metrics.uniformity(x.float(), t=3.0)),
    }
    start = sum(worker.SPLITS[world][1][:-1])
    expected["dropped"] = metrics.uniformity(np.delete(x.numpy(), start, axis=0))
    for each in ranks(world):
        for name, value in expected.items():
            tolerance = 1e-6 if name in ("half", "autocast") else 1e-12
            assert each["metric"][name] == pytest.approx(value, abs=tolerance), name
        assert each["metric"]["not a number"] == "nan"


@worlds
def test_what_does_not_fit_is_refused_by_all(ranks, world):
    few = (
        "UndefinedError: {}: shard must have at least 2 rows over all processes, because a mean over pairs "
        f"needs a pair. Got {{}} over {world} processes. Pass the whole set, in parts."
    )

    def differ(what, first, last):
        found = ", ".join([first] * (world - 1) + [last])
        return f"its rows meet those of all others. Got {found} on processes 0 to {world - 1}. {what}"

    fix = "Pass parts of one set and one t."
    same = "ring_gaussian_potential: shard must have the same {} on every process, because "
    expected = {
        "empty": few.format("ring_gaussian_potential", "0 rows"),
        "one": few.format("ring_moments", "1 row"),
        "metric, empty": few.format("sharded_uniformity", "0 rows"),
        "columns": "ShapeError: " + same.format("columns") + differ(fix, "2", "3"),
        "precision": "InputError: " + same.format("precision") + differ(fix, "float64", "float32"),
        "t": "InputError: ring_gaussian_potential: t must be the same on every process, because "
        + differ(fix, "2", "3"),
        "after all": "no refusal",
    }
    for rank, each in enumerate(ranks(world)):
        said = each["metric"]
        assert {name: said[name] for name in expected} == expected
        own = said["nan"]
        if rank == world - 1:
            assert own.startswith("InputError: sharded_uniformity: z must be finite")
        else:
            assert own == (
                "InputError: sharded_uniformity: x must be readable on every process, because each takes a "
                f"share of the pairs. Got a failure on process {world - 1}, whose message says why. Correct "
                "it there."
            )


def test_without_a_group_it_is_the_plain_one():
    x = worker.points(40, torch.float32)
    assert float(pairs.ring_gaussian_potential(x, 2.0)) == float(pairs.gaussian_potential(x, 2.0))
    assert pairs.ring_moments(x, 2.0).standard_error == pairs.gaussian_moments(x, 2.0).standard_error
    assert float(metrics.sharded_uniformity(x)) == float(metrics.uniformity(x))


def test_sums_of_other_scales_are_added():
    generator = torch.Generator().manual_seed(0)
    shifts = [-1000.0, 20.0, -math.inf, 18.0, 700.0]
    load, totals, exact = (
        Load(2, 3, torch.zeros(1, dtype=torch.float64)),
        Totals(2),
        torch.full((2, 3), -math.inf),
    )
    for shift in shifts:
        values = torch.rand(2, 3, generator=generator, dtype=torch.float64)
        load.add(shift, values)
        totals.add(shift, [1.0, 3.0], 2.0)
        exact = torch.logaddexp(exact, values.log() + shift)
    torch.testing.assert_close(load.values.log() + load.shift, exact, rtol=1e-14, atol=0)
    assert (totals.shift, totals.numbers) == (700.0, [2.0, 6.0])


# --- lost processes -------------------------------------------------------------------------------------

FUNCTION = {"ring": "ring_gaussian_potential", "streamed": "streamed_moments"}


def check_lost(folder, fault, victim, world, place, limit):
    """All others have left within 30 seconds, each with one line that names the lost one."""
    call_lost = ["lost", folder, fault, victim, world, place, limit]
    done = subprocess.run(
        [sys.executable, str(WORKER), *map(str, call_lost)], capture_output=True, text=True, timeout=90
    )
    logs = {rank: (folder / f"{world}_{rank}.log").read_text() for rank in range(world)}
    assert done.returncode == 0, (done.stderr, logs)
    struck, left = float((folder / "struck").read_text()), json.loads((folder / "left.json").read_text())
    assert max(left.values()) - struck < 30, left
    reason = f"no sign of life for {limit:.0f} seconds" if fault == "stop" else "the end of its process"
    function = FUNCTION.get(place, "uniform_loss")
    for rank in set(range(world)) - {victim}:
        assert logs[rank].strip().splitlines()[-1] == (
            f"spherometer.errors.LostProcessError: {function}: rank {victim} of {world} must live until all "
            f"are done, because each takes a share of the work. Got {reason}. See what it said last, and "
            "start all again."
        ), logs[rank]


@pytest.mark.parametrize(
    ("fault", "victim", "world", "place"),
    [
        ("kill", 2, 3, "ring"),
        ("stop", 1, 3, "ring"),
        pytest.param("raise", 0, 2, "gather", marks=NIGHTLY),
        *(
            pytest.param(fault, victim, 3, place, marks=NIGHTLY)
            for victim, fault in enumerate(("kill", "stop", "exit"))
            for place in worker.PLACES
        ),
    ],
)
def test_a_lost_process_is_named_by_all_others(tmp_path, fault, victim, world, place):
    check_lost(tmp_path, fault, victim, world, place, 5.0)


@pytest.mark.nightly
@pytest.mark.parametrize("place", worker.PLACES)
def test_a_frozen_process_is_named_in_time(tmp_path, place):
    """With the seconds that the package waits."""
    check_lost(tmp_path, "stop", 2, 4, place, pairs._watch.LIMIT)


TRAINING = """
import os, sys, torch
from torch import distributed
import spherometer as sm
distributed.init_process_group("gloo")
rank = distributed.get_rank()
torch.manual_seed(rank)
encoder, loss = torch.nn.Linear(8, 4), sm.losses.NTXentLoss(0.2, gather="ring")
rows = torch.randn(3000 + 1000 * rank, 8)
while True:
    loss(encoder(rows), encoder(rows + 0.1)).backward()
    open(os.path.join(sys.argv[1], f"step_{rank}"), "w").write(str(os.getpid()))
"""


def children(pid):
    """Pids of the processes that one has started."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(child) for child in task.read_text().split()}
    return found


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def rank_of(pid):
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"RANK="):
                return int(entry[5:])
    return None


def until(found, limit=60.0):
    end = time.monotonic() + limit
    while not (value := found()):
        assert time.monotonic() < end, "did not come to work"
        time.sleep(0.05)
    return value


@pytest.mark.nightly
@pytest.mark.parametrize("what", ["measure", "training"])
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["kill", "freeze"])
@pytest.mark.parametrize("victim", [0, 1])
def test_torchrun_ends_when_a_rank_is_lost(tmp_path, what, fault, victim):
    """Two real processes at work; one is struck: the other names it and all are gone within 30 seconds."""
    if what == "measure":
        np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((200_000, 64), dtype=np.float32))
        program = ["-m", "spherometer", "measure", tmp_path / "x.npy", "--exact"]
    else:
        (tmp_path / "train.py").write_text(TRAINING)
        program = [tmp_path / "train.py", tmp_path]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [str(word) for word in (sys.executable, *launcher, *program)]
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"})
    workers = {}
    try:
        workers = until(lambda: _workers(run.pid))
        if what == "training":
            until(lambda: all((tmp_path / f"step_{rank}").exists() for rank in range(2)))
        else:
            time.sleep(12.0)  # reading is over, the pairs take longer
        assert all(map(lives, workers.values())), (tmp_path / "said").read_text()
        os.kill(workers[victim], fault)
        struck = time.monotonic()
        code = run.wait(timeout=30)
        until(lambda: not any(map(lives, workers.values())), limit=struck + 30 - time.monotonic())
    finally:
        for pid in (run.pid, *workers.values()):
            with contextlib.suppress(ProcessLookupError):
                if lives(pid):
                    os.kill(pid, signal.SIGKILL)
        run.wait()
    text = (tmp_path / "said").read_text()
    assert code != 0
    assert f"rank {victim} of 2 must live until all are done" in text, text


def _workers(pid):
    """Pids of the two ranks, once both are there."""
    found = {rank_of(child): child for child in children(pid)}
    found.pop(None, None)
    return found if len(found) == 2 else {}


@pytest.mark.nightly
def test_the_command_under_torchrun(tmp_path):
    """Two processes share the pairs of one file: the result of one process."""
    np.save(tmp_path / "x.npy", worker.points(21_000, torch.float32).numpy())
    found = []
    for name, start in (
        ("one", ["-m"]),
        ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]),
    ):
        out = tmp_path / f"{name}.json"
        command = [
            sys.executable,
            *start,
            "spherometer",
            "measure",
            tmp_path / "x.npy",
            "--exact",
            "--out",
            out,
        ]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(out.read_text())["metrics"])
    for name in found[0]:
        assert found[1][name]["value"] == pytest.approx(found[0][name]["value"], rel=1e-12)
        assert found[1][name]["interval"] == pytest.approx(found[0][name]["interval"], rel=1e-9, abs=1e-10)
