"""measure(metadata=...) and the bandwidth curve: values, limits, baselines, intervals, what is left out."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

import oracles
import spherometer as sm
from spherometer._bandwidth_curve import bandwidth_curve
from spherometer._curve import BandwidthCurve, BandwidthPoint
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.kernels import Categorical, Gaussian, Laplace, Product, kernel_for

NAMES = ["conditional_alignment", "conditional_uniformity"]


def sample(num=40, dim=3, noise=0.4, seed=0):
    """Features that follow an age, their other side, ages and sexes."""
    rng = np.random.default_rng(seed)
    age = 20 + 60 * rng.random(num)
    x = np.stack([np.cos(age / 30), np.sin(age / 30)] + [np.zeros(num)] * (dim - 2), axis=1)
    x = x + noise * rng.normal(size=(num, dim))
    y = x + 0.2 * rng.normal(size=(num, dim))
    return x, y, age, np.where(rng.random(num) < 0.5, "f", "m")


def written_out(x, y, w, alpha=2.0, t=2.0):
    """Both quantities from the whole matrices, as formulas.md writes them."""
    x, y = oracles.unit(x), oracles.unit(y)
    a = w / w.sum(axis=1, keepdims=True)
    apart = np.linalg.norm(x[:, None] - y, axis=2) ** alpha
    upper = np.triu_indices(len(x), 1)
    k = np.exp(-t * np.square(x[:, None] - x).sum(axis=2))[upper]
    v = 1 - w[upper]
    return (a * apart).sum(axis=1).mean(), math.log((v * k).sum() / v.sum())


def gaussian(age, width):
    return np.exp(-np.square(age[:, None] - age) / (2 * width**2))


# --- measure ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5])
def test_values_are_the_definitions(alpha):
    x, y, age, sex = sample()
    kernel = {"age": Gaussian(6.0), "sex": Categorical()}
    e = sm.measure(x, y, metadata={"age": age, "sex": sex}, kernel=kernel, alpha=alpha, t=1.5)
    w = gaussian(age, 6.0) * (sex[:, None] == sex)
    wanted = written_out(x, y, w, alpha, 1.5)
    for name, value in zip(NAMES, wanted, strict=True):
        assert e[name].value == pytest.approx(value, rel=1e-10), name
        assert e[name].num == 40
        assert e[name].settings["similar_rows"] == pytest.approx((w.sum() - 40) / 40)
    assert e[NAMES[0]].label == f"Conditional alignment (alpha = {alpha:g})"


def test_names_order_and_company():
    x, y, age, sex = sample()
    e = sm.measure(x, y, labels=sex, metadata=age)
    assert list(e)[:6] == ["alignment", "uniformity", "normalized_uniformity", "cross_uniformity", *NAMES]
    kernel = kernel_for(age)
    for name in NAMES:
        low, high = e[name].interval
        assert low < e[name].value < high
        assert e[name].better == "lower"
        assert e[name].settings["kernel"] == str(kernel)
        assert e[name].settings["kernel_in_full"] == kernel.to_dict()
        assert e[name].settings["interval"]
    assert e.notes[0].startswith(f"Meta-data are compared by this kernel: {kernel}. On average ")
    assert sm.Evaluation.from_json(e.to_json()) == e
    assert list(sm.measure(x, metadata=age))[2] == "conditional_uniformity"
    assert "conditional_alignment" not in sm.measure(x, metadata=age)
    assert e.bandwidth_curve is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_those_of_the_metrics(dtype):
    x, y, age, _ = sample()
    x, y = (torch.from_numpy(side).to(dtype) for side in (x, y))
    e = sm.measure(x, y, metadata=torch.from_numpy(age))
    wanted = sm.conditional_alignment(x, y, age), sm.conditional_uniformity(x, age)
    for name, value in zip(NAMES, wanted, strict=True):
        assert e[name].value == pytest.approx(float(value), rel=1e-12 if dtype is torch.float64 else 1e-6)


def test_float32_gives_the_same_intervals():
    x, y, age, _ = sample(300, dim=8)
    one = sm.measure(x, y, metadata=age, kernel=Gaussian(5.0))
    two = sm.measure(x.astype("float32"), y.astype("float32"), metadata=age, kernel=Gaussian(5.0))
    for name in NAMES:
        assert two[name].interval == pytest.approx(one[name].interval, rel=1e-5)


def test_baselines():
    x, y, age, _ = sample()
    e = sm.measure(x, y, metadata=age, kernel=Gaussian(4.0))
    assert e["conditional_alignment"].baseline["own pairs alone"] == pytest.approx(e["alignment"].value)
    assert e["conditional_uniformity"].baseline == {
        "unrelated meta-data": pytest.approx(e["uniformity"].value),
        "uniform law": sm.expected_uniformity(3),
    }


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_the_baseline_of_conditional_alignment_is_its_mean_over_shuffled_metadata(alpha):
    x, y, age, _ = sample(5)
    values = [
        written_out(x, y, gaussian(age[list(order)], 15.0), alpha)[0]
        for order in itertools.permutations(range(5))
    ]
    found = sm.measure(x, y, metadata=age, kernel=Gaussian(15.0), alpha=alpha)["conditional_alignment"]
    assert found.baseline["unrelated meta-data"] == pytest.approx(np.mean(values), rel=1e-12)


def left_out(x, y, w, alpha):
    """Standard errors of both by leaving out one row after the other."""
    rows = range(len(x))
    found = np.array(
        [
            written_out(*(each[keep] for each in (x, y)), w[np.ix_(keep, keep)], alpha)
            for keep in (np.delete(np.arange(len(x)), row) for row in rows)
        ]
    )
    return np.sqrt((len(x) - 1) / len(x) * np.square(found - found.mean(axis=0)).sum(axis=0))


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("width", [0.01, 3.0, 20.0, 1e4])
def test_intervals_are_as_long_as_the_jackknife_over_rows_says(width, alpha):
    x, y, age, _ = sample(60)
    e = sm.measure(x, y, metadata=age, kernel=Gaussian(width), alpha=alpha)
    errors = left_out(x, y, gaussian(age, width), alpha)
    for name, error, rel in zip(NAMES, errors, (0.08, 1e-6), strict=True):
        low, high = e[name].interval
        assert (high - low) / (2 * 1.959964) == pytest.approx(error, rel=rel), name


def test_the_interval_for_a_small_bandwidth_is_that_of_alignment():
    x, y, age, _ = sample()
    e = sm.measure(x, y, metadata=age, kernel=Gaussian(1e-9))
    assert e["conditional_alignment"].value == pytest.approx(e["alignment"].value, rel=1e-14)
    assert e["conditional_alignment"].interval == pytest.approx(e["alignment"].interval, rel=1e-12)
    assert e["conditional_uniformity"].value == pytest.approx(e["uniformity"].value, rel=1e-13)


def test_intervals_cover():
    """Of 100 samples, about 95 intervals hold the value of a large one."""
    kernel = Gaussian(10.0)
    x, y, age, _ = sample(4000, seed=999)
    e = sm.measure(x, y, metadata=age, kernel=kernel)
    truth = np.array([e[name].value for name in NAMES])
    held = np.zeros(2)
    for seed in range(100):
        x, y, age, _ = sample(150, seed=seed)
        e = sm.measure(x, y, metadata=age, kernel=kernel)
        ends = np.array([e[name].interval for name in NAMES])
        held += (ends[:, 0] < truth) & (truth < ends[:, 1])
    assert (held >= 86).all()
    assert (held <= 100).all()


def test_few_rows_have_no_interval():
    x, y, age, _ = sample(3)
    e = sm.measure(x, y, metadata=age)
    assert e["conditional_uniformity"].interval is None
    assert e["conditional_uniformity"].settings["interval"] is None


def test_rows_with_nan_and_rows_without_metadata_are_left_out():
    x, y, age, _ = sample()
    there = np.ones(40, dtype=bool)
    there[[2, 5, 9]] = False
    x_nan, gaps = x.copy(), age.copy()
    x_nan[2, 0] = np.nan
    gaps[[5, 9]] = np.nan
    kernel = Gaussian(5.0)
    e = sm.measure(x_nan, y, metadata=gaps, kernel=kernel, nan="drop")
    wanted = sm.measure(x[there], y[there], metadata=age[there], kernel=kernel)
    for name in NAMES:
        assert e[name].value == pytest.approx(wanted[name].value, rel=1e-12)
        assert e[name].interval == pytest.approx(wanted[name].interval, rel=1e-9)
        assert e[name].num == 37
    assert e["alignment"].num == 39
    assert e.notes[0] == "1 pairs with NaN or infinity dropped, 39 kept."
    assert e.notes[2] == "2 rows without meta-data left out of the conditional metrics."
    neutral = sm.measure(x, y, metadata=gaps, kernel=Gaussian(5.0, missing="neutral"))
    w = gaussian(np.where(np.isnan(gaps), np.arange(40) * 1e6, gaps), 5.0)
    for name, value in zip(NAMES, written_out(x, y, w), strict=True):
        assert neutral[name].value == pytest.approx(value, rel=1e-10)


def test_rows_that_are_all_alike_have_no_conditional_uniformity():
    x, y, *_ = sample()
    e = sm.measure(x, y, metadata=np.full(40, 50.0), kernel=Gaussian(5.0))
    assert "conditional_uniformity" not in e
    assert "conditional_uniformity left out: all rows are alike under the kernel, no pair is left." in e.notes
    mean_x, mean_y = (oracles.unit(side).mean(axis=0) for side in (x, y))
    assert e["conditional_alignment"].value == pytest.approx(2 - 2 * mean_x @ mean_y)


def test_powers_beyond_the_floats_are_left_out():
    x, _, age, _ = sample()
    e = sm.measure(x, -x, metadata=age, alpha=1100.0)
    assert "conditional_alignment" not in e
    assert any(note.startswith("conditional_alignment left out: ") for note in e.notes)


# --- the curve ----------------------------------------------------------------------------------------


def test_points_are_the_metrics_under_scaled_kernels():
    x, y, age, sex = sample()
    table = {"age": age, "sex": sex}
    kernel = Product({"age": Gaussian("scott"), "sex": Categorical()}).fit(table)
    curve = bandwidth_curve(x, y, table, kernel=kernel, factors=(4, 0.5, 1.0, 1), alpha=1.0, t=3.0)
    assert [point.factor for point in curve.points] == [0.5, 1.0, 4.0]
    width = kernel.columns["age"].bandwidth
    for point in curve.points:
        at = kernel.scaled(point.factor)
        assert point.alignment == pytest.approx(sm.conditional_alignment(x, y, table, kernel=at, alpha=1.0))
        assert point.uniformity == pytest.approx(sm.conditional_uniformity(x, table, kernel=at, t=3.0))
        assert point.bandwidths == {"age": pytest.approx(width * point.factor)}
        w = gaussian(age, width * point.factor) * (sex[:, None] == sex)
        assert point.neighbors == pytest.approx((w.sum() - 40) / 40)
        for value, ends in (
            (point.alignment, point.alignment_interval),
            (point.uniformity, point.uniformity_interval),
        ):
            assert ends[0] < value < ends[1]
    assert curve.unconditional["alignment"] == pytest.approx(sm.alignment(x, y, alpha=1.0))
    assert curve.unconditional["uniformity"] == pytest.approx(sm.uniformity(x, t=3.0))
    assert curve.kernel == str(kernel)
    assert curve.definition == kernel.to_dict()
    shared = {"alpha": 1.0, "t": 3.0, "form": "normalized", "threshold": None, "normalize": True}
    assert curve.settings == shared
    assert curve.num == 40
    assert curve.columns == ["age"]


def test_the_default_factors_span_1_16_to_16():
    x, y, age, _ = sample(12)
    curve = bandwidth_curve(x, y, age)
    assert [point.factor for point in curve.points] == pytest.approx([2 ** (k / 2) for k in range(-8, 9)])
    assert any(point.factor == 1 for point in curve.points)
    assert sm.measure(x, y, metadata=age, bandwidth_curve=True).bandwidth_curve == curve


@pytest.mark.parametrize("kernel", [Gaussian(7.0), Laplace(7.0)])
def test_an_infinite_bandwidth(kernel):
    x, y, age, _ = sample()
    curve = bandwidth_curve(x, y, age, kernel=kernel, factors=(1e-9, 1, 1e9))
    mean_x, mean_y = (oracles.unit(side).mean(axis=0) for side in (x, y))
    assert curve.infinite["alignment"] == pytest.approx(2 - 2 * mean_x @ mean_y, rel=1e-12)
    upper = np.triu_indices(40, 1)
    apart = np.abs(age[:, None] - age)[upper] ** (2 if isinstance(kernel, Gaussian) else 1)
    z = oracles.unit(x)
    k = np.exp(-2 * np.square(z[:, None] - z).sum(axis=2))[upper]
    assert curve.infinite["uniformity"] == pytest.approx(math.log((apart * k).sum() / apart.sum()), rel=1e-9)
    assert curve.points[-1].alignment == pytest.approx(curve.infinite["alignment"], rel=1e-6)
    assert curve.points[-1].uniformity == pytest.approx(curve.infinite["uniformity"], rel=1e-6)
    assert curve.points[0].alignment == pytest.approx(curve.unconditional["alignment"], rel=1e-13)
    assert curve.points[0].uniformity == pytest.approx(curve.unconditional["uniformity"], rel=1e-13)
    assert curve.points[0].neighbors == 0
    assert curve.points[-1].neighbors == pytest.approx(39)


def test_an_infinite_bandwidth_beside_a_category_compares_categories():
    x, y, age, sex = sample()
    table = {"age": age, "sex": sex}
    curve = bandwidth_curve(x, y, table, factors=(1.0,))
    alone = Categorical()
    assert curve.infinite["alignment"] == pytest.approx(sm.conditional_alignment(x, y, sex, kernel=alone))
    assert curve.infinite["uniformity"] == pytest.approx(sm.conditional_uniformity(x, sex, kernel=alone))


def test_forms_without_a_limit_say_so():
    x, _, age, sex = sample()
    assert bandwidth_curve(x, None, age, form="mean", factors=(1,)).infinite["uniformity"] is None
    mixed = bandwidth_curve(x, None, {"age": age, "sex": sex}, form="mean", factors=(1,))
    assert mixed.infinite["uniformity"] is not None
    curve = bandwidth_curve(x, None, age, form="threshold", threshold=0.2, factors=(1, 1e6))
    assert curve.infinite == {"alignment": None, "uniformity": None}
    assert curve.points[0].uniformity is not None
    assert curve.points[1].uniformity is None
    assert curve.notes == (
        "Conditional uniformity is undefined at 1 of 2 bandwidths: all rows are alike there, no pair is "
        "left.",
    )


def test_left_out_rows_are_told():
    x, y, age, _ = sample()
    x[0, 0], age[1] = np.nan, np.nan
    curve = bandwidth_curve(x, y, age, nan="drop", factors=(1,))
    assert curve.num == 38
    assert curve.notes == ("1 rows with NaN or infinity dropped.", "1 rows without meta-data left out.")


def test_permuting_rows_and_moving_ages_changes_nothing():
    x, y, age, _ = sample()
    order = np.random.default_rng(1).permutation(40)
    one = bandwidth_curve(x, y, age, factors=(0.5, 2))
    two = bandwidth_curve(x[order], y[order], 100 - age[order], factors=(0.5, 2))
    for a, b in zip(one.points, two.points, strict=True):
        for name in ("alignment", "uniformity", "neighbors"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-12)


def test_rows_table_and_json():
    x, y, age, sex = sample()
    curve = bandwidth_curve(x, y, {"age": age, "sex": sex}, factors=(0.5, 1, 2))
    rows = curve.rows()
    assert [row["factor"] for row in rows] == [0.5, 1.0, 2.0]
    assert set(rows[0]) == {
        *("factor", "bandwidth", "neighbors", *NAMES),
        *(f"{name}_{end}" for name in NAMES for end in ("low", "high")),
    }
    assert BandwidthCurve.from_json(curve.to_json()) == curve
    lines = str(curve).splitlines()
    assert lines[0].startswith("Against the bandwidth of age. Kernel: age: gaussian kernel")
    assert lines[0].endswith("n = 40")
    assert lines[3].startswith("no kernel ")
    assert " (the kernel's) " in lines[5]
    assert lines[-1].startswith("infinite ")
    several = bandwidth_curve(x, None, {"a": age, "b": age**2}, factors=(1,))
    assert list(several.rows()[0])[:3] == ["factor", "bandwidth of a", "bandwidth of b"]
    assert several.points[0].alignment is None
    assert several.rows()[0]["conditional_alignment_low"] is None


def test_json_is_written_to_files(tmp_path):
    x, y, age, _ = sample(10)
    curve = bandwidth_curve(x, y, age, factors=(1,))
    curve.to_json(tmp_path / "c.json")
    assert BandwidthCurve.from_json((tmp_path / "c.json").read_bytes()) == curve


CURVE = BandwidthCurve(
    points=(BandwidthPoint(1.0, {"age": 5.0}, 3.5, 0.5, (0.4, 0.6), -1.0, None),),
    kernel="k", definition={}, unconditional={"alignment": 0.1, "uniformity": -1.0},
    infinite={"alignment": 0.9, "uniformity": None}, num=9, settings={},
)  # fmt: skip


def changed(path, value):
    document = CURVE.to_dict()
    *inner, last = path
    place = document
    for key in inner:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "must"),
    [
        ("", "be strict JSON"),
        ('{"a": NaN}', "be strict JSON"),
        ("[]", "be an object whose schema is 'spherometer.bandwidth_curve/1'"),
        (changed(("schema",), "x"), "be an object whose schema is 'spherometer.bandwidth_curve/1'"),
        (changed(("num",), KeyError), "hold in the curve an object with the keys schema, "),
        (changed(("num",), -1), "hold a whole number 'num'"),
        (changed(("num",), True), "hold a whole number 'num'"),
        (changed(("kernel",), 1), "hold a string 'kernel'"),
        (changed(("notes",), [1]), "hold a list of strings 'notes'"),
        (changed(("settings",), []), "hold an object 'settings'"),
        (changed(("points",), []), "hold a list 'points' that is not empty"),
        (changed(("points", 0, "more"), 1), "hold in points an object with the keys factor, "),
        (changed(("points", 0, "bandwidths"), {}), "hold 'bandwidths', an object of numbers, in every point"),
        (changed(("points", 0, "factor"), None), "hold a number 'factor' in every point"),
        (changed(("points", 0, "uniformity"), "x"), "hold a number or null as 'uniformity' in every point"),
        (
            changed(("points", 0, "alignment_interval"), [1]),
            "hold two numbers or null as 'alignment_interval' in every point",
        ),
        (changed(("points", 0, "alignment"), 10**400), "hold a number or null as 'alignment' in every point"),
        (changed(("infinite", "alignment"), "x"), "hold a number or null as 'alignment' in 'infinite'"),
        (changed(("unconditional",), {}), "hold in 'unconditional' an object with the keys alignment, "),
    ],
)
def test_other_documents_are_refused_in_one_line(text, must):
    with pytest.raises(InputError) as caught:
        BandwidthCurve.from_json(text)
    assert str(caught.value).startswith(f"BandwidthCurve: document must {must}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    if text and "schema" in text and "points" in text:
        inside = {**sm.measure(sample(6)[0]).to_dict(), "bandwidth_curve": json.loads(text)}
        with pytest.raises(InputError, match="BandwidthCurve: document must "):
            sm.Evaluation.from_dict(inside)


def test_an_evaluation_carries_its_curve():
    x, y, age, _ = sample(10)
    e = sm.measure(x, y, metadata=age, bandwidth_curve=True)
    again = sm.Evaluation.from_json(e.to_json())
    assert again == e
    assert again.bandwidth_curve == e.bandwidth_curve
    assert e != sm.measure(x, y, metadata=age)
    assert str(e).endswith(str(e.bandwidth_curve))
    assert "<pre>Against the bandwidth of metadata." in e._repr_html_()


# --- messages -----------------------------------------------------------------------------------------

X, Y, AGE, SEX = sample(12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sm.measure(X, kernel=Gaussian(1.0)),
            InputError,
            "measure: metadata must be given with a kernel or a bandwidth curve, because a kernel compares "
            "meta-data. Got None. Pass for instance metadata={'age': ages}.",
        ),
        (
            lambda: sm.measure(X, metadata=AGE[:7]),
            ShapeError,
            "measure: metadata must have one entry for each row, because entry i belongs to row i. Got 7 "
            "entries for 12 rows. Pass the meta-data of these rows, in their order.",
        ),
        (
            lambda: bandwidth_curve(X, Y, SEX),
            InputError,
            "bandwidth_curve: kernel must have a bandwidth, because it is what varies along the curve. Got "
            "categorical kernel. Give a column of numbers a kernel such as Gaussian().",
        ),
        (
            lambda: bandwidth_curve(X, Y, AGE, factors=()),
            InputError,
            "bandwidth_curve: factors must be a list of numbers, because the bandwidths of the kernel are "
            "multiplied by each. Got (). Pass for instance factors=(0.5, 1, 2).",
        ),
        (
            lambda: bandwidth_curve(X, Y, AGE, factors=(1, -2)),
            InputError,
            "bandwidth_curve: factors must be a finite number greater than 0, because the formula is defined "
            "only there. Got -2. Pass for instance factors=2.",
        ),
        (
            lambda: bandwidth_curve(X, None, np.zeros(12), kernel=Gaussian(1.0)),
            UndefinedError,
            "bandwidth_curve: metadata must differ between rows, because conditional uniformity is a "
            "mean over "
            "pairs with dissimilar meta-data. Got 12 rows, all alike under the kernel. Use "
            "uniformity(z), or a "
            "smaller bandwidth or threshold.",
        ),
        (
            lambda: bandwidth_curve(X, Y, {"age": AGE}, kernel={"agee": Gaussian(1.0)}),
            InputError,
            "bandwidth_curve: metadata must have the column 'agee', because the kernel compares its "
            "values. Got "
            "columns 'age'. Did you mean 'age'.",
        ),
        (
            lambda: sm.measure(X, Y, metadata=[*AGE[:3], None, *AGE[4:]], kernel=Gaussian(1.0)),
            InputError,
            "measure: metadata must be there for every row, because missing values have no similarity. "
            "Got 1 of "
            "12 rows with a missing entry, the first is row 3. Remove those rows, or pass a kernel with "
            'missing="neutral" or missing="drop".',
        ),
        (
            lambda: sm.measure(X, metadata=[None] * 12, kernel=Gaussian(1.0, missing="drop")),
            UndefinedError,
            "measure: x must have at least 2 rows, because the quantity is a mean over pairs of rows. Got 0 "
            "rows with meta-data. Pass the whole set at once.",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
