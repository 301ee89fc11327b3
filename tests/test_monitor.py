"""The monitor: its readings against their definitions, its alarms on planted collapses and healthy runs."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from spherometer import losses, metrics, sphere
from spherometer._alarms import KINDS, Alarm, Judge
from spherometer._monitor import Monitor
from spherometer._readings import cap_share, read
from spherometer.data import DigitViews
from spherometer.errors import InputError, ShapeError

GEOMETRY = ("spread", "rank_share", "distinct_share", "pair_gap")
THRESHOLDS = {"spread": 0.01, "rank_share": 1 / 3, "distinct_share": 0.1, "norm_ratio": 0.1, "pair_gap": 0.1}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair_of(num: int = 60, dim: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(num, dim, generator=generator(seed))
    return x, x + 0.3 * torch.randn(num, dim, generator=generator(seed + 1))


# --- readings -----------------------------------------------------------------------------------------


class TestReading:
    def test_against_the_metrics_and_losses(self):
        x, y = pair_of()
        reading = read(x, y, temperature=0.3)
        unit = sphere.normalize(x.double())
        loss = losses.InfoNCELoss(temperature=0.3)
        value = loss(x.double(), y.double())
        for name, expected in {
            "num_rows": 60,
            "dim": 8,
            "alignment": metrics.alignment(x.double(), y.double()),
            "uniformity": metrics.uniformity(unit),
            "expected_uniformity": metrics.expected_uniformity(8),
            "normalized_uniformity": metrics.normalized_uniformity(unit),
            "effective_rank": metrics.effective_rank(unit),
            "info_nce": value,
            "info_nce_alignment": loss.terms["alignment"],
            "info_nce_uniformity": loss.terms["uniformity"],
        }.items():
            assert reading[name] == pytest.approx(float(expected), abs=2e-6), name
        assert all(type(value) is float for value in reading.values())

    def test_against_loops(self):
        x, y = (z.double().numpy() for z in pair_of(40, 3))
        reading = read(*(torch.from_numpy(z).float() for z in (x, y)))
        lengths = np.linalg.norm(x, axis=1)
        x, y = x / lengths[:, None], y / np.linalg.norm(y, axis=1, keepdims=True)
        squared = [((a - b) ** 2).sum() for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
        unrelated = np.mean(
            [((a - b) ** 2).sum() for i, a in enumerate(x) for j, b in enumerate(y) if i != j]
        )
        same = np.mean(np.array(squared) <= 0.01 * np.mean(squared))
        rank = reading["effective_rank"]
        for name, expected in {
            "spread": np.mean(squared) / 2,
            "unrelated_alignment": unrelated,
            "pair_gap": 1 - ((x - y) ** 2).sum(axis=1).mean() / unrelated,
            "rank_share": math.log(rank) / math.log(3),
            "distinct_points": 1 / (1 / 40 + 39 / 40 * same),
            "distinct_share": (1 / 40 + 39 / 40 * cap_share(rank, 0.02)) / (1 / 40 + 39 / 40 * same),
            "norm_mean": lengths.mean(),
            "norm_p05": np.quantile(lengths, 0.05),
            "norm_median": np.median(lengths),
            "norm_p95": np.quantile(lengths, 0.95),
        }.items():
            assert reading[name] == pytest.approx(expected, rel=1e-5), name

    @pytest.mark.parametrize("squared", [0.02, 0.5, 2.0, 3.9])
    def test_cap_of_a_sphere(self, squared):
        angle = 2 * math.asin(math.sqrt(squared) / 2)
        assert cap_share(2.0, squared) == pytest.approx(angle / math.pi, rel=1e-6)
        assert cap_share(3.0, squared) == pytest.approx(squared / 4, rel=1e-6)
        assert cap_share(4.0, squared) == pytest.approx((angle - math.sin(2 * angle) / 2) / math.pi, rel=1e-6)

    @pytest.mark.parametrize("dim", [2, 3, 8, 128])
    def test_uniform_law_has_every_statistic_at_one(self, dim):
        x = sphere.sample_uniform(512, dim, generator=generator())
        reading = read(x, x)
        assert [reading[name] for name in GEOMETRY] == pytest.approx([1, 1, 1, 1], abs=0.06)

    def test_finite_sets_keep_four_fifths_of_their_rank(self):
        shares = [
            read(x, x)["effective_rank"] / min(num, dim)
            for num, dim in ((64, 64), (256, 256), (64, 256), (256, 64))
            for x in (sphere.sample_uniform(num, dim, generator=generator()),)
        ]
        assert min(shares) > 0.79

    @given(num=st.integers(2, 12), copies=st.integers(2, 5), dim=st.sampled_from([16, 64]))
    def test_equal_clusters_are_counted(self, num, copies, dim):
        x = sphere.sample_uniform(num, dim, generator=generator(num)).repeat_interleave(copies, dim=0)
        assert read(x, x)["distinct_points"] == pytest.approx(num, rel=1e-9)

    @given(power=st.integers(-20, 20), seed=st.integers(0, 5))
    def test_lengths_change_only_the_norms(self, power, seed):
        x, y = pair_of(33, 5, seed)
        one, other = read(x, y), read(x * 2.0**power, y * 2.0**power)
        changed = {name for name in one if one[name] != other[name]}
        assert changed <= {"norm_mean", "norm_p05", "norm_median", "norm_p95"}
        assert other["norm_median"] == one["norm_median"] * 2.0**power

    def test_rotation_changes_nothing(self):
        x, y = pair_of()
        turn = torch.linalg.qr(torch.randn(8, 8, generator=generator())).Q
        one, other = read(x, y), read(x @ turn, y @ turn)
        assert list(other.values()) == pytest.approx(list(one.values()), abs=2e-5)

    def test_small_clouds_keep_their_clusters(self):
        # two heaps within 1e-3 of a point: float32 products alone would see one
        heaps = sphere.normalize(torch.tensor([1.0, 0, 0, 0])[None] + 1e-3 * torch.eye(4)[1:3].repeat(20, 1))
        reading = read(heaps, heaps)
        assert reading["distinct_points"] == pytest.approx(2, rel=1e-6)
        assert reading["spread"] < 1e-6

    def test_unusable_rows_are_counted(self):
        x, y = pair_of(40)
        clean = read(x[3:], y[3:])
        x[0, 2], y[1, 0] = math.nan, math.inf
        x[2] = 0
        reading = read(x, y)
        assert (reading["num_rows"], reading["num_nonfinite"], reading["num_zero"]) == (37, 2, 1)
        assert {name: reading[name] for name in clean if name[:4] != "num_"} == {
            name: clean[name] for name in clean if name[:4] != "num_"
        }

    @pytest.mark.parametrize("num", [0, 1, 3])
    def test_too_few_rows_give_counts_only(self, num):
        x = torch.ones(num, 4)
        assert read(x, x) == {"num_rows": num, "dim": 4, "num_nonfinite": 0, "num_zero": 0}

    def test_zeros_only_are_one_point(self):
        zeros = torch.zeros(40, 4)
        reading = read(zeros, zeros)
        assert reading["num_rows"] == 40
        assert reading["spread"] == 0
        assert reading["uniformity"] == 0
        assert reading["effective_rank"] == 1

    @pytest.mark.parametrize("dim", [1, 2])
    def test_few_dimensions(self, dim):
        x, y = pair_of(40, dim)
        assert all(math.isfinite(value) for value in read(x, y).values())

    def test_samples_that_come_again_count_once(self):
        x, y = pair_of(40)
        ids = torch.arange(40)
        ids[:8] = ids[20:28]  # the first eight are older rows of later samples
        assert read(x, y, ids) == read(x[8:], y[8:])


# --- what it keeps ------------------------------------------------------------------------------------


def watching(**settings) -> Monitor:
    return Monitor(**{"every": 5, "reservoir": 64, "warmup": 0, **settings})


def batch(step: int, num: int = 16, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    return pair_of(num, dim, seed=100 + step)


class TestReservoir:
    def test_holds_the_latest_rows(self):
        monitor = watching()
        for step in range(11):
            monitor.update(step, *batch(step))
        x, y = (torch.cat([batch(step)[side] for step in (7, 8, 9, 10)]) for side in (0, 1))
        expected = read(x, y)
        assert [reading["step"] for reading in monitor.history] == [0, 5, 10]
        assert {name: monitor.history[-1][name] for name in expected} == expected

    def test_window_drops_old_rows(self):
        monitor = watching(window=2)
        for step in range(6):
            monitor.update(step, *batch(step))
        assert monitor.history[-1]["num_rows"] == 32

    def test_large_and_uneven_batches(self):
        monitor = watching()
        sizes = (1, 0, 7, 40, 200, 3)
        for step, num in enumerate(sizes):
            monitor.update(step, *batch(step, num))
        x, y = (
            torch.cat([batch(step, num)[side] for step, num in enumerate(sizes)])[-64:] for side in (0, 1)
        )
        expected = read(x, y)
        assert {name: monitor.history[-1][name] for name in expected} == expected

    def test_batches_too_early_for_the_reading_are_not_copied(self):
        monitor = watching(every=20)
        for step in range(21):
            monitor.update(step, *batch(step, 32))
            assert len(monitor.state_dict()["x"]) == (32 if step < 16 else 64)
        assert monitor.history[-1]["num_rows"] == 64

    def test_index_replaces_older_rows(self):
        monitor = watching()
        index = torch.arange(16)
        for step in range(6):
            monitor.update(step, *batch(step), index=index)
        expected = read(*batch(5))
        assert {name: monitor.history[-1][name] for name in expected} == expected

    def test_steps_may_skip_and_repeat(self):
        monitor = watching()
        for step in (3, 3, 4, 7, 7, 19, 20):
            monitor.update(step, *batch(step))
        assert [reading["step"] for reading in monitor.history] == [3, 7, 19, 20]

    def test_leaves_graph_inputs_and_generators_alone(self):
        monitor = watching(every=1)
        z1, z2 = (z.requires_grad_() for z in batch(0, 40))
        before = z1.detach().clone(), torch.get_rng_state(), z1._version
        y1 = z1 * 1
        monitor.update(0, y1, z2)
        losses.AlignUniformLoss()(y1, z2).backward()
        grad = z1.grad.clone()
        z1.grad = None
        losses.AlignUniformLoss()(z1 * 1, z2).backward()
        assert torch.equal(grad, z1.grad)
        assert torch.equal(before[0], z1.detach())
        assert torch.equal(before[1], torch.get_rng_state())
        assert before[2] == z1._version

    def test_later_changes_of_a_batch_do_not_reach_it(self):
        monitor, other = watching(), watching()
        for step in range(6):
            z1, z2 = batch(step)
            monitor.update(step, z1, z2)
            other.update(step, z1.clone(), z2.clone())
            z1.zero_()
            z2.zero_()
        assert monitor.history == other.history

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_dtypes(self, dtype):
        z1, z2 = (z.to(dtype) for z in batch(0, 64))
        monitor = watching()
        monitor.update(0, z1, z2)
        expected = read(z1.float(), z2.float())
        assert {name: monitor.history[0][name] for name in expected} == expected

    def test_autocast_does_not_change_a_reading(self):
        plain, cast = watching(), watching()
        plain.update(0, *batch(0, 64))
        with torch.autocast("cpu", torch.bfloat16):
            cast.update(0, *batch(0, 64))
        assert plain.history == cast.history

    def test_nan_batches_are_counted_and_raise_nothing(self):
        monitor = watching(every=1, patience=1)
        x, y = batch(0, 64)
        x[:, 0] = math.nan
        assert monitor.update(0, x, y) == []
        assert monitor.history[0] == {"step": 0, "num_rows": 0, "dim": 6, "num_nonfinite": 64, "num_zero": 0}
        assert monitor.update(1, *batch(1, 64)) == []
        assert monitor.history[1]["num_rows"] == 64

    def test_nothing_is_exchanged_between_processes(self, monkeypatch):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
        for name in ("all_reduce", "all_gather", "all_gather_into_tensor", "barrier", "broadcast"):
            monkeypatch.setattr(torch.distributed, name, lambda *_, **__: pytest.fail("talked to a process"))
        monitor = watching()
        monitor.update(0, *batch(0, 64))
        assert len(monitor.history) == 1


def story(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Batches that collapse from step 15 on and recover at step 40."""
    z1, z2 = batch(step)
    shrink = 1e-3 if 15 <= step < 40 else 1.0
    z1, z2 = (z * shrink + torch.eye(6)[0] * (1 - shrink) for z in (z1, z2))
    return z1, z2


class TestState:
    @pytest.mark.parametrize("cut", [0, 1, 4, 17, 28, 43])
    def test_goes_on_exactly(self, cut):
        whole, first, second = watching(), watching(), watching()
        for step in range(50):
            whole.update(step, *story(step), index=torch.arange(16) + 16 * step)
        for step in range(cut):
            first.update(step, *story(step), index=torch.arange(16) + 16 * step)
        state = first.state_dict()
        told = json.loads(json.dumps({k: v for k, v in state.items() if not isinstance(v, torch.Tensor)}))
        second.load_state_dict(told | {k: v for k, v in state.items() if isinstance(v, torch.Tensor)})
        for step in range(cut, 50):
            second.update(step, *story(step), index=torch.arange(16) + 16 * step)
        assert second.history == whole.history
        assert second.alarms == whole.alarms
        assert [alarm.kind for alarm in whole.alarms] == ["complete_collapse"]
        assert whole.active == second.active == ()
        for name, value in whole.state_dict().items():
            same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert same(value.nan_to_num() if name == "history" else value,
                        second.state_dict()[name].nan_to_num() if name == "history"
                        else second.state_dict()[name]), name  # fmt: skip

    def test_taken_state_does_not_change_afterwards(self):
        monitor = watching()
        monitor.update(0, *batch(0))
        state = monitor.state_dict()
        kept = state["x"].clone()
        monitor.update(1, *batch(1))
        assert torch.equal(state["x"], kept)


# --- alarms -------------------------------------------------------------------------------------------

SHOWN = ("dim", "num_rows", "uniformity", "alignment", "unrelated_alignment", "effective_rank")
FINE = dict.fromkeys((*THRESHOLDS, *SHOWN, "distinct_points", "norm_median", "norm_p95"), 1.0)


def judged(values: list[dict[str, float]], patience: int = 2) -> list[list[str]]:
    judge = Judge(THRESHOLDS, patience)
    return [[alarm.kind for alarm in judge.judge(step, FINE | value)] for step, value in enumerate(values)]


class TestAlarms:
    @pytest.mark.parametrize(("statistic", "kind"), [*zip(THRESHOLDS, KINDS, strict=True)])
    def test_raised_once_per_episode(self, statistic, kind):
        low = THRESHOLDS[statistic]
        series = [
            1,
            0.9 * low,
            1,
            0.9 * low,
            0.9 * low,
            0.9 * low,
            1.2 * low,
            0.9 * low,
            1.6 * low,
            0.9 * low,
        ]
        series += [0.9 * low]
        found = judged([{statistic: value} for value in series])
        assert [k for k, kinds in enumerate(found) if kinds == [kind]] == [4, 10]
        assert sum(map(len, found)) == 2

    def test_one_point_hides_the_alarms_of_shape(self):
        low = {"spread": 0.005, "rank_share": 0.0, "distinct_share": 0.0, "pair_gap": 0.0}
        assert judged([low] * 3) == [[], ["complete_collapse"], []]

    def test_none_switches_an_alarm_off(self):
        point = torch.ones(64, 4)
        off = Monitor(every=1, warmup=0, patience=1, min_spread=None, min_rank_share=None,
                      min_distinct_share=None, min_pair_gap=None)  # fmt: skip
        assert off.update(0, point, point) == []

    def test_warm_up_and_few_rows_are_not_judged(self):
        point = torch.ones(64, 4)
        monitor = Monitor(every=1, warmup=3, patience=1)
        assert [len(monitor.update(step, point, point)) for step in range(5)] == [0, 0, 0, 1, 0]
        monitor = Monitor(every=1, window=1, warmup=0, patience=1)
        assert monitor.update(0, point[:31], point[:31]) == []
        assert len(monitor.update(1, point[:32], point[:32])) == 1

    def test_norms_are_compared_with_the_end_of_the_warm_up(self):
        monitor = Monitor(every=1, window=1, warmup=2, patience=1)
        x, y = batch(0, 64)
        raised = [monitor.update(k, x * f, y * f) for k, f in enumerate((1e-6, 0.1, 1.0, 4.0, 16.0))]
        assert [reading["norm_ratio"] for reading in monitor.history] == [1, 1, 1, 1 / 4, 1 / 16]
        assert monitor.history[-1]["norm_trend"] == pytest.approx(math.log(4), rel=1e-6)
        assert [alarm.kind for alarms in raised for alarm in alarms] == ["norm_blow_up"]

    def test_says_what_was_seen_and_what_to_do(self):
        point = torch.ones(64, 4)
        (alarm,) = Monitor(every=1, warmup=0, patience=1).update(7, point, point)
        assert str(alarm) == (
            "step 7: complete_collapse: all features lie at nearly one point (spread 0, threshold 0.01, "
            "uniformity 0, alignment 0, num_rows 64). Let the loss spread them: raise uniform_weight against "
            "align_weight, or add negatives; if it does so already, lower the learning rate."
        )
        assert alarm == Alarm(alarm.kind, 7, alarm.cause, alarm.numbers, alarm.next_step)

    def test_every_kind_is_one_line_with_numbers(self):
        for statistic, kind in zip(THRESHOLDS, KINDS, strict=True):
            (alarm,) = Judge(THRESHOLDS, 1).judge(3, FINE | {statistic: 0.0})
            assert alarm.kind == kind
            assert alarm.numbers[statistic] == 0
            assert alarm.numbers["threshold"] == THRESHOLDS[statistic]
            assert "\n" not in str(alarm)
            assert "{" not in str(alarm)


# --- real training ------------------------------------------------------------------------------------


class TinyEncoder(nn.Module):
    def __init__(self, dim: int, seed: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
            nn.Linear(256, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, dim)
        own = generator(seed)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=own)
        nn.init.zeros_(self.head.bias)

    def forward(self, images):
        return self.head(self.body(images))


IMAGES = torch.from_numpy(load_digits().images).float().div(16)[:1000, None]


def trained(loss, *, dim=32, seed=0, steps=80, rate=3e-3, change=None, images=IMAGES, shuffle=False, **views):
    """A short training with the defaults of the monitor but for the pace."""
    pairs, own = DigitViews(images, seed=seed, **views), generator(seed)
    with torch.random.fork_rng():
        encoder = TinyEncoder(dim, seed)
    if change:
        change(encoder)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=rate)
    monitor = Monitor(every=10, warmup=20)
    for step in range(steps):
        index = torch.randperm(len(images), generator=own)[:64]
        x, y = pairs(step, index)
        y = y[torch.randperm(64, generator=own)] if shuffle else y
        z1, z2 = encoder(torch.cat([x, y])).chunk(2)
        optimizer.zero_grad()
        loss(z1, z2).backward()
        optimizer.step()
        monitor.update(step, z1, z2, index=index)
    return monitor


def kinds(monitor: Monitor) -> list[str]:
    return [alarm.kind for alarm in monitor.alarms]


def worst(monitor: Monitor, statistic: str) -> float:
    """Lowest ratio of a statistic to its threshold after the warm-up."""
    return min(r[statistic] for r in monitor.history if r["step"] >= 20) / THRESHOLDS[statistic]


HEALTHY = {
    "align_uniform": losses.AlignUniformLoss(),
    "info_nce_0.5": losses.InfoNCELoss(0.5),
    "info_nce_0.1": losses.InfoNCELoss(0.1),
    "nt_xent_0.5": losses.NTXentLoss(0.5),
    "nt_xent_0.2": losses.NTXentLoss(0.2),
}


@pytest.fixture(scope="module")
def healthy() -> dict[str, Monitor]:
    grid = [(name, dim) for name in HEALTHY for dim in (2, 8, 32, 128)]
    return {f"{name} D={dim}": trained(HEALTHY[name], dim=dim, seed=k) for k, (name, dim) in enumerate(grid)}


def test_quiet_on_twenty_healthy_runs(healthy):
    assert len(healthy) == 20
    assert {name: kinds(monitor) for name, monitor in healthy.items() if monitor.alarms} == {}


@pytest.mark.parametrize("statistic", THRESHOLDS)
def test_healthy_runs_stay_far_from_the_thresholds(healthy, statistic):
    # a share of the rank is at most three times its threshold
    least = 1.5 if statistic == "rank_share" else 2
    assert min(worst(monitor, statistic) for monitor in healthy.values()) > least


def align_only(z1, z2):
    return losses.align_loss(sphere.normalize(z1), sphere.normalize(z2))


@pytest.mark.parametrize("seed", range(2))
def test_alignment_alone_collapses_completely(seed):
    monitor = trained(align_only, seed=seed, rate=1e-2, steps=120)
    assert kinds(monitor) == ["complete_collapse"]
    assert worst(monitor, "spread") < 0.5


@pytest.mark.parametrize("name", ["align_uniform", "info_nce_0.5"])
def test_dead_outputs_are_dimensional_collapse(name):
    def kill(encoder):
        alive = torch.arange(32) < 2
        for parameter in encoder.head.parameters():
            mask = alive.float().view(-1, *[1] * (parameter.ndim - 1))
            parameter.data.mul_(mask)
            parameter.register_hook(lambda grad, mask=mask: grad * mask)

    monitor = trained(HEALTHY[name], change=kill)
    assert kinds(monitor) == ["dimensional_collapse"]
    assert worst(monitor, "rank_share") < 0.7
    assert "2.0 of 32 directions" in monitor.alarms[0].cause


@pytest.mark.parametrize("num", [4, 6])
def test_repeated_samples_are_cluster_collapse(num):
    faint = dict.fromkeys(("scale", "contrast", "brightness", "noise", "translation"), 0.01)
    images = IMAGES[:num].repeat_interleave(400 // num, dim=0)
    monitor = trained(HEALTHY["info_nce_0.5"], images=images, rotation=1, **faint)
    assert "cluster_collapse" in kinds(monitor)
    assert "complete_collapse" not in kinds(monitor)
    assert worst(monitor, "distinct_share") < 0.5
    assert monitor.history[-1]["distinct_points"] == pytest.approx(num, rel=0.2)


def test_rewarded_lengths_are_a_norm_blow_up():
    def feeds(z1, z2):
        lengths = torch.stack([z1, z2]).norm(dim=2).log().mean()
        return losses.AlignUniformLoss()(z1, z2) - 2 * lengths

    monitor = trained(feeds, rate=3e-2, steps=150)
    assert kinds(monitor) == ["norm_blow_up"]
    assert worst(monitor, "norm_ratio") < 0.8


@pytest.mark.parametrize("name", ["align_uniform", "info_nce_0.5"])
def test_shuffled_pairs_are_misalignment(name):
    monitor = trained(HEALTHY[name], shuffle=True)
    assert kinds(monitor) == ["misalignment"]
    assert worst(monitor, "pair_gap") < 0.3


# --- refusals -----------------------------------------------------------------------------------------


def test_refusals():
    monitor = watching()
    monitor.update(5, *batch(0))
    x, y = batch(0)
    for error, call, message in [
        (InputError, lambda: monitor.update(4, x, y),
         "Monitor.update: step must not go back, because readings follow one run. Got step 4 after step 5. "
         "Use a new Monitor for a new run, or load_state_dict when a run goes on."),
        (ShapeError, lambda: monitor.update(6, x[:, :3], y[:, :3]),
         "Monitor.update: z1 must keep its number of columns, because its rows join those of earlier "
         "batches. Got 3 columns after 6. Use one Monitor for each kind of features."),
        (ShapeError, lambda: monitor.update(6, x, y[:3]),
         "Monitor.update: z2 must have the same shape as z1, because row i of one belongs to row i of the "
         "other. Got z1 (16, 6), z2 (3, 6). Pass matching arrays."),
        (ShapeError, lambda: monitor.update(6, x, y, index=torch.zeros(16)),
         "Monitor.update: index must be a tensor of whole numbers of shape [B], because it names the sample "
         "of each row. Got shape (16,), dtype float32. Pass the sample numbers of the batch."),
        (InputError, lambda: monitor.update(-1, x, y),
         "Monitor.update: step must be a whole number of at least 0, because it counts something. Got -1. "
         "Pass for instance step=0."),
        (InputError, lambda: monitor.load_state_dict({"step": 3, "x": x}),
         "Monitor.load_state_dict: state must come from Monitor.state_dict, because the monitor goes on from "
         "all of it. Got no alarms, history, history_names, ids, steps, watches, y. Pass what state_dict "
         "returned."),
        (InputError, lambda: Monitor(reservoir=8),
         "Monitor: reservoir must be a whole number of at least 32, because it counts something. Got 8. Pass "
         "for instance reservoir=32."),
        (InputError, lambda: Monitor(min_spread=-1),
         "Monitor: min_spread must be a finite number greater than 0, because the formula is defined only "
         "there. Got -1. Pass for instance min_spread=2."),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == message
