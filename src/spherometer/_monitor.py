"""A live monitor of training: how the features lie on the sphere, and alarms when they collapse.

Shapes: B rows of a batch, N rows of the reservoir, D dimensions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from spherometer import _checks
from spherometer._alarms import Alarm, Judge
from spherometer._readings import NO_ID, read
from spherometer.errors import InputError, ShapeError

_JUDGED = 32  # rows of a reading that may raise an alarm


@dataclass(frozen=True)
class _Rows:
    """The rows of one step."""

    step: int
    x: Tensor  # [B, D] float32
    y: Tensor
    ids: Tensor  # [B] int64

    def latest(self, num: int) -> _Rows:
        return _Rows(self.step, self.x[-num:], self.y[-num:], self.ids[-num:])


class Monitor:
    r"""Watches a training run through the features of its batches, and says when and why it collapses.

    Call ``update(step, z1, z2)`` after every forward pass. It keeps the latest rows; every ``every`` steps
    it takes a reading, appends it to ``history`` and returns the alarms it raises.

    The reservoir holds the latest ``reservoir`` rows of the last ``window`` steps, so that a reading is about
    the encoder of now: no random sample of the past, whose encoders are long gone. Its rows are z1 (two views
    of a sample never count as a pair of points); a sample that comes again replaces its older row when
    ``index`` is passed. Without ``index`` choose ``reservoir`` no larger than the data set.

    A reading (a flat dict of floats) holds:

    * ``step``, ``num_rows``, ``dim``; ``num_nonfinite`` and ``num_zero``: rows left out of it;
    * ``alignment``; ``unrelated_alignment``, the same over all rows of different samples;
      ``pair_gap`` = 1 - their ratio;
    * ``uniformity`` (t = 2, over all pairs of the reservoir, never a mean over batches),
      ``expected_uniformity`` of the uniform law in D dimensions, ``normalized_uniformity``;
      ``spread``: half the mean squared distance of two rows, 1 for the uniform law in every dimension;
    * ``norm_mean``, ``norm_p05``, ``norm_median``, ``norm_p95`` of the rows as they come, ``norm_trend``: log
      of the growth of the median since the reading before, ``norm_ratio``: median at the first reading after
      the warm-up / median now;
    * ``effective_rank`` of the unit rows, ``rank_share`` = log(effective_rank) / log(min(N, D)), the
      entropy of the spectrum as a share of the largest;
    * ``distinct_points``: 1 / (probability that two rows drawn with replacement are the same point), the same
      being a squared distance below 1 % of the mean one (8 degrees for the uniform law); ``distinct_share``:
      divided by what as many rows of the uniform law in ``effective_rank`` dimensions would give;
    * ``info_nce`` at ``temperature`` of the latest rows, at most M = 512, with its terms
      ``info_nce_alignment`` and ``info_nce_uniformity`` (they and log M add up to it).

    Fewer than 4 usable rows: only the counts. NaN, infinity and rows of zeros are left out and counted, and
    raise no alarm (a NaN loss is the loop's to stop at) - except that zeros only are one point.

    **Thresholds.** Every watched statistic is 1 when all is well and 0 at the worst. An alarm is raised after
    ``patience`` readings in a row below the threshold, from step ``warmup`` on and of at least 32 rows; it is
    raised once, and can come again only after the statistic rose above 1.5 times the threshold. None switches
    an alarm off. No alarm of shape is judged while all features are one point. The defaults come from closed
    forms, not from runs:

    * ``min_spread`` (complete_collapse): .01 is a mean cosine of .99, two features 8 degrees apart, and
      bounds uniformity above -t * .02; the uniform law has spread 1 in any D.
    * ``min_rank_share`` (dimensional_collapse): 1/3, fewer directions than the cube root of all: 5 of 128,
      3 of 32. Features even over k of D directions have effective rank near k, and N independent uniform
      points about .80 min(N, D) or more (the least at N = D), so that finite N alone never comes near it. A
      tenth of all directions would be too strict: the uniform law in 13 dimensions has 87 % of the
      uniformity of that in 128, and long runs of contrastive losses on ten classes do end there.
    * ``min_distinct_share`` (cluster_collapse): .1, one distinct point where the uniform law has ten. k equal
      clusters have k distinct points; the expected number comes from the area of a cap.
    * ``min_norm_ratio`` (norm_blow_up): .1. The gradient of a loss that normalises falls as 1 / norm, so ten
      times longer rows learn ten times more slowly.
    * ``min_pair_gap`` (misalignment): .1. Unrelated pairs have a gap of 0 +- 1 / sqrt(D N), .044 for
      D = 2, N = 256.

    Args:
        every: steps between readings.
        reservoir: rows of a reading, at least 32. 1024 give uniformity to 1e-3 (standard deviation 6e-4 for
            the uniform law in 128 dimensions).
        window: age in steps at which rows are dropped; None: ``every``.
        temperature: of the InfoNCE terms.
        warmup: first step that may raise an alarm; initial encoders lie close to one point.
        patience: readings in a row that an alarm takes.
        min_spread, min_rank_share, min_distinct_share, min_norm_ratio, min_pair_gap: thresholds, or None.

    Nothing here is random, touches a gradient, or changes what is passed in. Several processes: each watches
    its own rows and nothing is exchanged, so that it is safe to call on some ranks only.

    Cost: a copy of each batch that the next reading may see; per reading O(N^2 D + N D min(N, D)), 12 ms on
    one CPU core for N = 1024, D = 128. On a GPU only readings wait for the device.

    Source: uniformity and alignment: Wang & Isola 2020; dimensional collapse: Jing et al. 2022 with the
    effective rank of Roy & Vetterli 2007; the statistics, thresholds and alarms are ours.

    Example:
        >>> import torch
        >>> monitor = Monitor(every=1, warmup=0, patience=1)
        >>> [alarm.kind for alarm in monitor.update(0, torch.ones(64, 8), torch.ones(64, 8))]
        ['complete_collapse']
        >>> monitor.history[0]["uniformity"]
        0.0
    """

    def __init__(
        self,
        *,
        every: int = 50,
        reservoir: int = 1024,
        window: int | None = None,
        temperature: float = 0.5,
        warmup: int = 100,
        patience: int = 2,
        min_spread: float | None = 0.01,
        min_rank_share: float | None = 1 / 3,
        min_distinct_share: float | None = 0.1,
        min_norm_ratio: float | None = 0.1,
        min_pair_gap: float | None = 0.1,
    ) -> None:
        _checks.whole("Monitor", "every", every)
        _checks.whole("Monitor", "reservoir", reservoir, at_least=_JUDGED)
        _checks.whole("Monitor", "window", every if window is None else window)
        _checks.positive("Monitor", "temperature", temperature)
        _checks.whole("Monitor", "warmup", warmup, at_least=0)
        _checks.whole("Monitor", "patience", patience)
        thresholds = {
            "spread": min_spread,
            "rank_share": min_rank_share,
            "distinct_share": min_distinct_share,
            "norm_ratio": min_norm_ratio,
            "pair_gap": min_pair_gap,
        }
        for name, value in thresholds.items():
            if value is not None:
                _checks.positive("Monitor", f"min_{name}", value)
        self.every, self.reservoir, self.warmup = every, reservoir, warmup
        self.window = every if window is None else window
        self.temperature = float(temperature)
        self.history: list[dict[str, float]] = []
        self.alarms: list[Alarm] = []
        self._judge = Judge(thresholds, patience)
        self._rows: deque[_Rows] = deque()
        self._step = -1

    @property
    def active(self) -> tuple[str, ...]:
        """Kinds of the alarms that were raised and have not cleared."""
        return tuple(kind for kind, watch in self._judge.watches.items() if watch.active)

    def update(self, step: int, z1: Tensor, z2: Tensor, *, index: Tensor | None = None) -> list[Alarm]:
        """Take in the features of one batch; the alarms that it raises.

        Args:
            step: of the run; it may repeat or skip, but not go back.
            z1: [B, D] floating-point features of the first views, normalised or not.
            z2: [B, D] of the second views, row i belongs to row i of ``z1``.
            index: [B] whole numbers, the samples that the rows belong to.
        """
        _checks.whole("Monitor.update", "step", step, at_least=0)
        z1, z2 = _checks.tensor_set("Monitor.update", ("z1", "z2"), (z1, z2), min_rows=0)
        self._check(step, z1, index)
        due = self._step < 0 or step // self.every > self._step // self.every
        pace, self._step = max(1, step - max(0, self._step)), step
        with torch.no_grad():
            to_come = ((self.every - step % self.every) // pace - 1) * len(z1)
            if due or to_come < 2 * self.reservoir:  # rows that the next reading may see
                self._add(step, z1, z2, index)
            if not due:
                return []
            x, y, ids = self._recent(z1.device)
            reading = read(x, y, ids, temperature=self.temperature)
        return self._take(step, reading)

    def _check(self, step: int, z1: Tensor, index: Tensor | None) -> None:
        if step < self._step:
            _checks.refuse(
                InputError,
                "Monitor.update",
                "step",
                "not go back",
                "readings follow one run",
                f"step {step} after step {self._step}",
                "Use a new Monitor for a new run, or load_state_dict when a run goes on",
            )
        if self._rows and self._rows[-1].x.shape[1] != z1.shape[1]:
            _checks.refuse(
                ShapeError,
                "Monitor.update",
                "z1",
                "keep its number of columns",
                "its rows join those of earlier batches",
                f"{z1.shape[1]} columns after {self._rows[-1].x.shape[1]}",
                "Use one Monitor for each kind of features",
            )
        if index is not None and (index.shape != z1.shape[:1] or index.dtype.is_floating_point):
            _checks.refuse(
                ShapeError,
                "Monitor.update",
                "index",
                "be a tensor of whole numbers of shape [B]",
                "it names the sample of each row",
                f"shape {tuple(index.shape)}, dtype {index.dtype}".replace("torch.", ""),
                "Pass the sample numbers of the batch",
            )

    def _add(self, step: int, z1: Tensor, z2: Tensor, index: Tensor | None) -> None:
        new = slice(-self.reservoir, None)
        x, y = (z[new].detach().to(torch.float32, copy=True) for z in (z1, z2))
        ids = torch.full((len(x),), NO_ID) if index is None else index[new].to(torch.int64, copy=True)
        self._rows.append(_Rows(step, x, y, ids))
        while self._rows and self._rows[0].step <= step - self.window:
            self._rows.popleft()
        surplus = sum(len(rows.x) for rows in self._rows) - self.reservoir
        while surplus > 0:
            oldest = self._rows.popleft()
            if len(oldest.x) > surplus:
                self._rows.appendleft(oldest.latest(len(oldest.x) - surplus))
            surplus -= len(oldest.x)

    def _recent(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Both sides [N, D] on ``device`` and samples [N] on the CPU, oldest first."""
        x = torch.cat([rows.x.to(device) for rows in self._rows])
        y = torch.cat([rows.y.to(device) for rows in self._rows])
        return x, y, torch.cat([rows.ids.cpu() for rows in self._rows])

    def _take(self, step: int, reading: dict[str, float]) -> list[Alarm]:
        reading = {"step": float(step), **reading}
        if "norm_median" in reading:
            past = [each for each in self.history if "norm_median" in each]
            settled = [each for each in past if each["step"] >= self.warmup]
            now, before = reading["norm_median"], past[-1]["norm_median"] if past else 0.0
            first = settled[0]["norm_median"] if settled else 0.0
            reading["norm_trend"] = math.log(now / before) if now and before else 0.0
            reading["norm_ratio"] = first / now if now and first else 1.0
        self.history.append(reading)
        if step < self.warmup or reading["num_rows"] < _JUDGED:
            return []
        raised = self._judge.judge(step, reading)
        self.alarms += raised
        return raised

    def state_dict(self) -> dict[str, Any]:
        """All it needs to go on exactly: tensors, numbers and text."""
        names = sorted({name for reading in self.history for name in reading})
        table = [[reading.get(name, math.nan) for name in names] for reading in self.history]
        rows = list(self._rows)
        width = rows[0].x.shape[1] if rows else 0
        return {
            "step": self._step,
            "x": torch.cat([r.x.cpu() for r in rows]) if rows else torch.empty(0, width),
            "y": torch.cat([r.y.cpu() for r in rows]) if rows else torch.empty(0, width),
            "ids": torch.cat([r.ids.cpu() for r in rows] or [torch.empty(0, dtype=torch.int64)]),
            "steps": torch.tensor([r.step for r in rows for _ in r.ids], dtype=torch.int64),
            "history_names": names,
            "history": torch.tensor(table, dtype=torch.float64).reshape(len(table), len(names)),
            "alarms": [asdict(alarm) for alarm in self.alarms],
            "watches": self._judge.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken. The settings stay those of the constructor."""
        missing = sorted(
            {"step", "x", "y", "ids", "steps", "history_names", "history", "alarms", "watches"} - set(state)
        )
        if missing:
            _checks.refuse(
                InputError,
                "Monitor.load_state_dict",
                "state",
                "come from Monitor.state_dict",
                "the monitor goes on from all of it",
                f"no {', '.join(missing)}",
                "Pass what state_dict returned",
            )
        self._step = int(state["step"])
        self._rows = deque()
        steps, counts = torch.unique_consecutive(state["steps"], return_counts=True)
        start = 0
        for step, count in zip(steps.tolist(), counts.tolist(), strict=True):
            part = slice(start, start + count)
            self._rows.append(_Rows(step, *(state[name][part].clone() for name in ("x", "y", "ids"))))
            start += count
        self.history = [
            {name: value for name, value in zip(state["history_names"], line, strict=True) if value == value}
            for line in state["history"].tolist()
        ]
        self.alarms = [Alarm(**alarm) for alarm in state["alarms"]]
        self._judge.load_state(state["watches"])
