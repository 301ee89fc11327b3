"""alpha-ReQ and LiDAR in the studies: values, intervals, encoders for which they are undefined."""

import math

import numpy as np
import pytest
import torch

import spherometer as sm
from spherometer._results import Measurement
from spherometer.study import _tables
from spherometer.study._slopes import slopes, stacked


def some(num=80, many=4, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num, dim, generator=generator) * torch.arange(1.0, dim + 1) ** -1
    return rows, [rows + 0.2 * torch.randn(num, dim, generator=generator) for _ in range(many)]


def test_values_and_settings():
    rows, views = some()
    found = slopes(rows, stacked(views))
    assert list(found) == ["alpha_req", "lidar"]
    assert found["alpha_req"]["value"] == float(sm.alpha_req(rows.double()))
    assert found["lidar"]["value"] == float(sm.lidar(torch.stack(views, dim=1).double()))
    assert found["lidar"]["settings"]["views"] == 4
    for name, each in found.items():
        low, high = each["interval"]
        assert low < each["value"] < high
        assert Measurement.from_dict(name, each).to_dict() == each


def test_intervals_cover_what_other_samples_give():
    """Over 150 sets of samples: not far from as often as they should."""
    found = [slopes(rows, stacked(views)) for rows, views in (some(200, 2, 4, seed) for seed in range(150))]
    for name in ("alpha_req", "lidar"):
        middle = np.mean([each[name]["value"] for each in found])
        ends = [each[name]["interval"] for each in found]
        assert 0.87 <= np.mean([low <= middle <= high for low, high in ends]) <= 0.99


def test_few_samples_have_no_interval():
    rows, views = some(num=30)
    assert all(each["interval"] is None for each in slopes(rows, stacked(views)).values())


def test_one_point_has_neither():
    rows = torch.ones(50, 4)
    assert slopes(rows, stacked([rows, rows])) == {}


def test_an_undefined_value_is_the_worst():
    trials = [{"metrics": {"alpha_req": {"value": value}}} for value in (0.2, 1.5)] + [{"metrics": {}}]
    assert _tables._or_worst(trials, "alpha_req", 1.0) == pytest.approx([0.8, 0.5, 1.8])
    assert _tables._or_worst(trials, "alpha_req") == pytest.approx([0.2, 1.5, -0.8])
    assert _tables._or_worst(trials[2:], "alpha_req") == [0.0]
    assert _tables._lidar_views(trials) == 0
    assert math.isfinite(sum(_tables._or_worst(trials, "alpha_req")))
