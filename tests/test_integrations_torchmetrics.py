"""Our metrics in torchmetrics: one value for any batches and any number of ranks."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spherometer as sm
from spherometer.errors import InputError, NotOnSphereError, UndefinedError

pytest.importorskip(
    "torchmetrics", reason="torchmetrics is not installed (pip install spherometer[lightning])"
)

from spherometer.integrations.torchmetrics import Alignment, EffectiveRank, RankMe, Uniformity
from torchmetrics_worker import SPLITS, data, measured

KINDS = {
    "Alignment": (lambda: Alignment(alpha=1.5), lambda x, y: sm.alignment(x, y, alpha=1.5)),
    "Uniformity": (Uniformity, lambda x, y: sm.uniformity(x)),
    "EffectiveRank": (EffectiveRank, lambda x, y: sm.effective_rank(x)),
    "RankMe": (RankMe, lambda x, y: sm.rankme(x)),
}


def fed(metric, *sides):
    metric.update(*(sides if isinstance(metric, Alignment) else sides[:1]))
    return metric


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("batch", [1, 5, 12])
def test_any_batches_give_the_value_of_the_set(name, batch):
    make, expected = KINDS[name]
    metric = make()
    for x, y in zip(*(side.split(batch) for side in data()), strict=True):
        fed(metric, x, y)
    torch.testing.assert_close(metric.compute(), expected(*data()), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_update_compute_update_and_reset(name):
    make, expected = KINDS[name]
    x, y = data()
    metric = fed(make(), x[:6], y[:6])
    torch.testing.assert_close(metric.compute(), expected(x[:6], y[:6]), rtol=1e-14, atol=0)
    torch.testing.assert_close(fed(metric, x[6:], y[6:]).compute(), expected(x, y), rtol=1e-14, atol=0)
    metric.reset()
    torch.testing.assert_close(
        fed(metric, x[:5], y[:5]).compute(), expected(x[:5], y[:5]), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("name", KINDS)
def test_forward_gives_the_batch_and_keeps_it(name):
    make, expected = KINDS[name]
    x, y = data()
    metric = make()
    for part in (slice(0, 7), slice(7, 12)):
        sides = (x[part], y[part]) if name == "Alignment" else (x[part],)
        torch.testing.assert_close(metric(*sides), expected(x[part], y[part]), rtol=1e-14, atol=0)
    torch.testing.assert_close(metric.compute(), expected(x, y), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("way", ["pickle", "deepcopy", "state_dict"])
def test_state_survives(name, way):
    make, expected = KINDS[name]
    x, y = data()
    metric = fed(make(), x[:7], y[:7])
    if way == "state_dict":
        metric.persistent(True)
        state = metric.state_dict()
        metric = make()
        metric.load_state_dict(state)
        metric._update_count = 1  # what a checkpoint does not hold; torchmetrics warns at 0
    else:
        metric = pickle.loads(pickle.dumps(metric)) if way == "pickle" else copy.deepcopy(metric)
    torch.testing.assert_close(fed(metric, x[7:], y[7:]).compute(), expected(x, y), rtol=1e-14, atol=0)


def test_a_later_change_of_a_batch_does_not_reach_it():
    x, _ = data()
    metric = fed(Uniformity(), x)
    value = float(sm.uniformity(x))
    x.zero_()
    assert float(metric.compute()) == value


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["Alignment", "Uniformity"])
def test_half_precision(name, dtype):
    make, expected = KINDS[name]
    x, y = (side.to(dtype) for side in data())
    assert float(fed(make(), x, y).compute()) == pytest.approx(float(expected(x, y)), abs=1e-6)


def test_metrics_in_a_collection():
    torchmetrics = pytest.importorskip("torchmetrics")
    collection = torchmetrics.MetricCollection({"uniformity": Uniformity(), "rank": EffectiveRank()})
    x, _ = data()
    for part in x.split(5):
        collection.update(part)
    found = collection.compute()
    assert float(found["uniformity"]) == pytest.approx(float(sm.uniformity(x)), rel=1e-14)
    assert float(found["rank"]) == pytest.approx(float(sm.effective_rank(x)), rel=1e-14)


# torchmetrics warns when compute comes before update; the refusal is what is tested here
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_refusals():
    nan = torch.full((2, 3), torch.nan)
    for error, call, message in [
        (UndefinedError, Alignment().compute,
         "Alignment.compute: state must hold at least 1 row, because nothing is defined without. Got fewer "
         "on all ranks together. Call update first."),
        (UndefinedError, Uniformity().compute,
         "Uniformity.compute: state must hold at least 2 rows, because nothing is defined without. Got fewer "
         "on all ranks together. Call update first."),
        (NotOnSphereError, lambda: Uniformity().update(torch.zeros(2, 3)),
         "Uniformity.update: z must have no rows of zeros, because a zero vector has no direction on the "
         "sphere. Got 2 of 2 rows of zeros, the first is row 0. Remove them, or look for dead units in the "
         "encoder."),
        (InputError, lambda: RankMe().update(nan),
         "RankMe.update: z must be finite, because NaN or infinity in one row spoils every pair with it. "
         'Got 2 of 2 rows with NaN or infinity, the first is row 0. Remove them, or pass nan="drop" to leave '
         "them out."),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == message


def test_two_processes_give_the_value_of_one(tmp_path):
    worker = Path(__file__).parent / "torchmetrics_worker.py"
    command = [sys.executable, str(worker)]
    started = [
        subprocess.Popen(
            [*command, str(rank), "2", str(tmp_path / "store"), str(tmp_path / f"{rank}.json")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for process in started:
            told, _ = process.communicate(timeout=120)
            assert process.returncode == 0, told
    finally:
        for process in started:
            process.kill()
    alone = measured(*data())
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for split in SPLITS:
            assert found[split] == pytest.approx(alone, rel=1e-13), (rank, split)
        assert len(found["errors"]) == 2
        assert found["errors"][0].startswith("Uniformity.compute: state must hold at least 2 rows")
        assert found["any_rank"] == [True, False, True]  # how callbacks stop all ranks together
        assert found["after"] < -1  # the rows were kept, and the metric works on
