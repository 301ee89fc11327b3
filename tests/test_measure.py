"""measure(): values equal to the metrics, intervals that cover, baselines, notes, one pass over the pairs."""

import math

import numpy as np
import pytest
import torch

import oracles
import spherometer as sm
from spherometer import metrics, pairs, sphere
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError


def normal(num, dim, seed=0, dtype=torch.float64):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def everything(num=60, dim=6, dtype=torch.float64, **options):
    x = normal(num, dim, 0, dtype)
    y = x + 0.3 * normal(num, dim, 1, dtype)
    return x, y, [i % 3 for i in range(num)], sm.measure(x, y, labels=[i % 3 for i in range(num)], **options)


def test_names_and_order():
    x, y, labels, e = everything()
    assert list(e) == [
        "alignment",
        "uniformity",
        "normalized_uniformity",
        "cross_uniformity",
        "wasserstein_uniformity",
        "rankme",
        "effective_rank",
        "participation_ratio",
        "alpha_req",
        "isoscore",
        "lidar",
        "relative_local_density",
        "calinski_harabasz",
        "neighbor_purity",
        "hubness",
        "tolerance",
    ]
    assert not {"alignment", "cross_uniformity", "neighbor_purity", "tolerance"} & set(sm.measure(x))
    assert not {"relative_local_density", "calinski_harabasz", "hubness"} & set(sm.measure(x))
    assert e.notes == ()
    assert next(iter(sm.measure(x, y))) == "alignment"
    assert list(sm.measure(x, labels=labels))[-1] == "tolerance"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_those_of_the_metrics(dtype):
    x, y, labels, e = everything(dtype=dtype, t=3.0, alpha=1.0, k=4)
    bound = 1e-12 if dtype is torch.float64 else 2e-6
    wanted = {
        "alignment": sm.alignment(x, y, alpha=1.0),
        "uniformity": sm.uniformity(x, t=3.0),
        "normalized_uniformity": sm.normalized_uniformity(x, t=3.0),
        "cross_uniformity": sm.cross_uniformity(x, y, t=3.0),
        "wasserstein_uniformity": sm.wasserstein_uniformity(x),
        "rankme": sm.rankme(x),
        "effective_rank": sm.effective_rank(x),
        "participation_ratio": sm.participation_ratio(x),
        "alpha_req": sm.alpha_req(x),
        "isoscore": sm.isoscore(x),
        "lidar": sm.lidar(torch.stack([x, y], dim=1)),
        "relative_local_density": metrics.relative_local_density(x, labels, temperature=0.1),
        "calinski_harabasz": metrics.calinski_harabasz(x, labels),
        "neighbor_purity": sm.neighbor_purity(x, labels, k=4),
        "hubness": metrics.hubness(x, k=4),
        "tolerance": sm.tolerance(x, labels),
    }
    assert set(wanted) == set(e)
    for name, value in wanted.items():
        assert math.isclose(e[name].value, float(value), rel_tol=bound, abs_tol=bound), name
        assert e[name].num == 60
        assert e[name].name == name


def test_every_number_has_company():
    *_, e = everything()
    for name, m in e.items():
        assert m.baseline, name
        assert m.label, name
        if name in ("hubness", "lidar"):  # no honest interval is known
            assert m.interval is m.settings["interval"] is None
            continue
        low, high = m.interval
        assert low <= m.value <= high, name
        assert low < high, name
        assert m.settings["interval"], name
    better = {name: m.better for name, m in e.items()}
    assert {name for name, way in better.items() if way == "lower"} == {
        "alignment",
        "uniformity",
        "normalized_uniformity",
        "wasserstein_uniformity",
        "hubness",
    }
    assert {name for name, way in better.items() if way is None} == {
        "cross_uniformity",
        "tolerance",
        "alpha_req",
    }


def test_baselines():
    x, *_, e = everything(t=1.5, alpha=1.0)
    assert e["uniformity"].baseline == {
        "uniform law": sm.expected_uniformity(6, 1.5),
        "lower bound for this n": sm.minimum_uniformity(60, 6, 1.5),
        "one point": 0.0,
    }
    assert e["uniformity"].settings == {
        "t": 1.5,
        "estimator": "u",
        "normalize": True,
        "interval": "exact variance of the U-statistic",
        "minimum": "lower bound",
    }
    assert sm.measure(torch.eye(6))["uniformity"].settings["minimum"] == "exact"
    assert e["alignment"].baseline["identical pairs"] == 0
    wanted = oracles.unrelated_alignment(6, 1.0)
    assert math.isclose(e["alignment"].baseline["unrelated pairs"], wanted, rel_tol=1e-12)
    for dim, alpha in ((1, 1.0), (2, 4.0), (128, 2.0), (2048, 0.5)):
        m = sm.measure(normal(4, dim), normal(4, dim, 1), alpha=alpha)["alignment"]
        assert math.isclose(
            m.baseline["unrelated pairs"], oracles.unrelated_alignment(dim, alpha), rel_tol=1e-10
        )
    assert e["rankme"].baseline == {"all directions": 6.0}
    assert e["participation_ratio"].baseline == {"all directions": 6.0}
    assert sm.measure(normal(5, 9))["participation_ratio"].baseline == {"all directions": 4.0}
    assert math.isclose(e["neighbor_purity"].baseline["unrelated labels"], 19 / 59)
    cosines = sm.tolerance(x, [0] * 60)
    assert math.isclose(e["tolerance"].baseline["unrelated labels"], float(cosines), rel_tol=1e-12)
    assert list(e["wasserstein_uniformity"].baseline) == ["uniform law, this n", "one point"]


@pytest.mark.parametrize(("num", "dim"), [(64, 128), (129, 128), (256, 128), (1024, 128), (300, 4)])
def test_the_baseline_of_wasserstein_uniformity_is_what_uniform_points_give(num, dim):
    generator = torch.Generator().manual_seed(0)
    m = sm.measure(sphere.sample_uniform(num, dim, generator=generator))["wasserstein_uniformity"]
    assert abs(m.value - m.baseline["uniform law, this n"]) < 0.03


def test_one_pass_over_each_set_of_pairs(monkeypatch):
    calls = []
    for name in (
        "gaussian_moments",
        "masked_logsumexp",
        "nearest",
        "nearest_blocks",
        "gaussian_potential",
        "gaussian_log_rows",
    ):
        original = getattr(pairs, name)

        def counted(*arguments, _name=name, _original=original, **options):
            calls.append(_name)
            return _original(*arguments, **options)

        monkeypatch.setattr(pairs, name, counted)
    everything()
    assert sorted(calls) == ["gaussian_moments", "masked_logsumexp", "nearest_blocks"]


# --- intervals ----------------------------------------------------------------------------------------


def test_interval_of_uniformity_is_the_written_out_variance():
    z = oracles.unit(normal(9, 3).numpy())
    n = 9
    k = [[math.exp(-2 * oracles.squared_distance(a, b)) for b in z] for a in z]
    off = [(i, j) for i in range(n) for j in range(n) if i != j]
    triples = [(i, j, m) for i, j in off for m in range(n) if m not in (i, j)]
    shared = math.fsum(k[i][j] * k[i][m] for i, j, m in triples) / len(triples)
    squares = math.fsum(k[i][j] ** 2 for i, j in off) / len(off)
    fours = [(i, j, a, b) for i, j, a in triples for b in range(n) if b not in (i, j, a)]
    apart = math.fsum(k[i][j] * k[a][b] for i, j, a, b in fours) / len(fours)
    mean = math.fsum(k[i][j] for i, j in off) / len(off)
    least = 2 * (squares - apart) / (n * (n - 1))
    variance = max(4 * (n - 2) * (shared - apart) / (n * (n - 1)) + least, least)
    low, high = sm.measure(z)["uniformity"].interval
    half = 1.959963984540054 * math.sqrt(variance) / mean
    assert math.isclose((high - low) / 2, half, rel_tol=1e-9)


def draws(kind, num, dim, generator):
    if kind == "uniform":
        return sphere.sample_uniform(num, dim, generator=generator).double()
    if kind == "vmf":
        mean = torch.eye(dim, dtype=torch.float64)[0]
        return sphere.sample_vmf(num, mean, dim / 2, generator=generator)
    centres = sphere.sample_uniform(8, dim, generator=torch.Generator().manual_seed(1)).double()
    noise = torch.randn(num, dim, generator=generator, dtype=torch.float64)
    return centres[torch.randint(0, 8, (num,), generator=generator)] + 0.25 * noise


@pytest.mark.parametrize("kind", ["uniform", "vmf", "clusters"])
@pytest.mark.parametrize("dim", [8, 32])
def test_intervals_cover(kind, dim):
    """95 % intervals around 40 repeated draws: 0.8 to 1 is within chance for .95."""
    generator = torch.Generator().manual_seed(0)
    evaluations = []
    for _ in range(40):
        x = draws(kind, 90, dim, generator)
        y = x + 0.3 * torch.randn(x.shape, generator=generator, dtype=torch.float64) / math.sqrt(dim)
        evaluations.append(sm.measure(x, y, labels=(x[:, 1] > x[:, 2]).long()))
    for name in set(evaluations[0]) - {"hubness", "lidar"}:
        values = [e[name].value for e in evaluations]
        centre = sum(values) / len(values)
        if (
            "uniformity" in name and name != "wasserstein_uniformity"
        ):  # the mean potential is what is unbiased
            sign = sm.expected_uniformity(dim) if name == "normalized_uniformity" else 1.0
            shift = 1.0 if name == "normalized_uniformity" else 0.0
            centre = math.log(
                sum(math.exp((v - shift) * (-sign if shift else 1)) for v in values) / len(values)
            )
            centre = centre / (-sign if shift else 1) + shift
        covered = sum(e[name].interval[0] <= centre <= e[name].interval[1] for e in evaluations) / 40
        assert covered >= 0.8, (name, covered)


def test_intervals_need_enough_rows():
    few = sm.measure(normal(3, 2), normal(3, 2, 1), labels=[0, 0, 1], k=2)
    assert few["uniformity"].interval is None
    assert few["uniformity"].settings["interval"] is None
    assert few["normalized_uniformity"].interval is None
    assert few["neighbor_purity"].interval is None
    assert few["tolerance"].interval is None
    assert few["rankme"].interval is None
    assert few["alignment"].interval is not None
    assert sm.measure(normal(4, 2))["uniformity"].interval is not None
    assert sm.measure(normal(39, 2))["rankme"].interval is None
    assert sm.measure(normal(40, 2))["rankme"].interval is not None
    assert sm.measure(normal(40, 700))["rankme"].interval is not None  # 40 directions
    assert sm.measure(normal(800, 769))["rankme"].interval is None


def test_jackknife_is_the_value_without_each_group():
    for num, dim in ((80, 5), (45, 60)):
        z = normal(num, dim) + 1
        for name in ("rankme", "effective_rank", "participation_ratio", "wasserstein_uniformity"):
            m = sm.measure(z)[name]
            left_out = [
                float(getattr(sm, name)(z[[i for i in range(num) if i % 20 != group or i >= num // 20 * 20]]))
                for group in range(20)
            ]
            mean = sum(left_out) / 20
            size = num // 20
            factor = (num - size) / (20 * size)  # 19 / 20 when the groups hold every row
            half = 2.093 * math.sqrt(factor * sum((each - mean) ** 2 for each in left_out))
            limit = {"wasserstein_uniformity": 2**0.5, "participation_ratio": min(num - 1, dim)}
            top = min(m.value + half, max(m.value, limit.get(name, min(num, dim))))
            assert math.isclose(m.interval[1], top, rel_tol=2e-4), (name, num)


def test_jackknife_of_neighbor_purity_is_the_value_without_each_row():
    x, labels = normal(30, 3), [i % 3 for i in range(30)]
    without = [
        float(
            sm.neighbor_purity(x[[i for i in range(30) if i != row]], labels[:row] + labels[row + 1 :], k=4)
        )
        for row in range(30)
    ]
    mean = sum(without) / 30
    error = math.sqrt(29 / 30 * sum((each - mean) ** 2 for each in without))
    low, high = sm.measure(x, labels=labels, k=4)["neighbor_purity"].interval
    assert math.isclose((high - low) / 2, 1.959963984540054 * error, rel_tol=1e-9)


# --- what is left out, and what is refused -------------------------------------------------------------


def test_collapsed_features_are_measured():
    e = sm.measure(torch.ones(50, 4), torch.ones(50, 4), labels=[0, 1] * 25)
    assert e["uniformity"].value == 0
    assert e["normalized_uniformity"].value == 1
    assert e["alignment"].value == 0
    assert math.isclose(e["wasserstein_uniformity"].value, math.sqrt(2), rel_tol=1e-7)
    assert "participation_ratio" not in e
    assert e.notes == (
        "participation_ratio left out: all rows are identical, there is no variance to share.",
        "alpha_req left out: the rows vary in fewer than two directions.",
        "isoscore left out: all rows are identical, there is no variance to share.",
        "lidar left out: the means of the pairs do not differ.",
        "relative_local_density and calinski_harabasz left out: all rows are equal, there is no distance to "
        "compare others with.",
    )
    assert e.local_density is None
    assert sm.Evaluation.from_json(e.to_json()) == e


def test_undefined_label_metrics_are_left_out_with_a_note():
    e = sm.measure(normal(6, 2), labels=list("abcdef"), k=6)
    assert not {"neighbor_purity", "tolerance"} & set(e)
    assert e.notes == (
        "calinski_harabasz left out: every row is a class of its own.",
        "neighbor_purity and hubness left out: k = 6 neighbours need more than 6 labelled rows.",
        "tolerance left out: no class has two rows.",
    )


def test_extreme_settings_still_give_json():
    x = normal(10, 3)
    for options in ({"t": 1e4}, {"t": 1e-4}, {"alpha": 1e4}, {"alpha": 1e-3}):
        e = sm.measure(x, -x, **options)
        assert sm.Evaluation.from_json(e.to_json()) == e
    assert sm.measure(x, -x, alpha=1e4).notes == (
        "alignment left out: distances to the power 10000 exceed the floating-point range.",
        "lidar left out: the means of the pairs do not differ.",
    )


def test_dropped_rows_are_counted():
    x, y = normal(40, 3), normal(40, 3, 1)
    labels = [None if i == 7 else i % 2 for i in range(40)]
    x[3], y[5] = math.nan, math.inf
    kept = [i for i in range(40) if i not in (3, 5)]
    e = sm.measure(x, y, labels=labels, nan="drop")
    assert e.notes == (
        "2 pairs with NaN or infinity dropped, 38 kept.",
        "1 rows without a label left out of the label metrics.",
    )
    clean = sm.measure(x[kept], y[kept])
    assert {name: e[name] for name in clean} == dict(clean)
    both = [i for i in kept if i != 7]
    assert e["neighbor_purity"].num == 37
    assert e["tolerance"].value == float(sm.tolerance(x[both], [i % 2 for i in both]))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: sm.measure([[1.0]]),
            InputError,
            "measure: x must be a NumPy array or a torch tensor, because its kind decides the kind of the "
            "result. Got list. Convert it with np.asarray(...) or torch.as_tensor(...).",
        ),
        (
            lambda: sm.measure(np.ones((1, 3))),
            UndefinedError,
            "measure: x must have at least 2 rows, because the quantity is a mean over pairs of rows. "
            "Got 1 row. Pass the whole set at once.",
        ),
        (
            lambda: sm.measure(np.eye(3), np.eye(4)),
            ShapeError,
            "measure: y must have the same shape as x, because row i of one belongs to row i of the other. "
            "Got x (3, 3), y (4, 4). Pass matching arrays.",
        ),
        (
            lambda: sm.measure(np.eye(3), labels=[1, 2]),
            ShapeError,
            "measure: labels must have one entry for each row, because entry i is the class of row i. "
            "Got shape (2,) for 3 rows. Pass a list, an array or a tensor of N labels.",
        ),
        (
            lambda: sm.measure(np.eye(3), labels=[1, 2, None]),
            InputError,
            "measure: labels must be there for every row, because a missing label is not a class of its own. "
            "Got 1 of 3 labels None, NaN or empty, the first is label 2. Remove those rows, or pass "
            'nan="drop" to leave them out.',
        ),
        (
            lambda: sm.measure(np.diag([1.0, 0.0])),
            NotOnSphereError,
            "measure: x must have no rows of zeros, because a zero vector has no direction on the "
            "sphere. Got 1 of 2 rows of zeros, the first is row 1. Remove them, or look "
            "for dead units in the encoder.",
        ),
        (
            lambda: sm.measure(2 * np.eye(3), normalize=False),
            NotOnSphereError,
            "measure: x must have rows of length 1, because normalize=False says that they already lie "
            "on the unit sphere. Got length 2 in row 0 (the worst of 3). "
            "Pass normalize=True, or normalise the rows first.",
        ),
        (
            lambda: sm.measure(np.eye(3), t=0),
            InputError,
            "measure: t must be a finite number greater than 0, because the formula is defined only there. "
            "Got 0. Pass for instance t=2.",
        ),
        (
            lambda: sm.measure(np.eye(3), alpha=-1),
            InputError,
            "measure: alpha must be a finite number greater than 0, because the formula is defined only "
            "there. Got -1. Pass for instance alpha=2.",
        ),
        (
            lambda: sm.measure(np.eye(3), k=0),
            InputError,
            "measure: k must be a whole number of at least 1, because it counts something. Got 0. "
            "Pass for instance k=1.",
        ),
    ],
)
def test_messages(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == text


def test_kinds_of_input_agree_and_nothing_is_touched():
    x, y, labels, e = everything(dtype=torch.float32)
    before = x.clone(), torch.get_rng_state()
    assert sm.measure(x.numpy(), y.numpy(), labels=np.array(labels)) == e
    assert sm.measure(x.clone().requires_grad_(), y, labels=torch.tensor(labels)) == e
    assert torch.equal(x, before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert sm.measure(x.half())["uniformity"].num == 60
    again = sm.measure(sphere.normalize(x.double()), normalize=False)
    assert math.isclose(again["uniformity"].value, e["uniformity"].value, abs_tol=1e-6)
    assert again["uniformity"].settings["normalize"] is False
