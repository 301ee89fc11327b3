"""Kernels of meta-data against their formulas, written out number by number."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spherometer as sm
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.kernels import (
    Categorical,
    Epanechnikov,
    Gaussian,
    Laplace,
    Periodic,
    Product,
    WeightedSum,
    kernel_for,
    kernel_from_text,
)


def gaussian(a, b, width):
    return math.exp(-((a - b) ** 2) / (2 * width**2))


def laplace(a, b, width):
    return math.exp(-abs(a - b) / width)


def epanechnikov(a, b, width):
    return max(0.0, 1 - (a - b) ** 2 / width**2)


AGES = [20.0, 20.5, 31.0, 47.25, 80.0]
ONE_COLUMN = [(Gaussian, gaussian), (Laplace, laplace), (Epanechnikov, epanechnikov)]


@pytest.mark.parametrize(("kind", "formula"), ONE_COLUMN)
@pytest.mark.parametrize("width", [0.3, 5.0, 200.0])
def test_one_column_is_its_formula(kind, formula, width):
    expected = [[formula(a, b, width) for b in AGES] for a in AGES]
    np.testing.assert_allclose(kind(width)(AGES).numpy(), expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize(("kind", "formula"), ONE_COLUMN)
def test_several_columns_take_the_euclidean_distance(kind, formula):
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = [[formula(float((a - b).norm()), 0.0, 1.7) for b in rows] for a in rows]
    np.testing.assert_allclose(kind(1.7)(rows).numpy(), expected, rtol=1e-13)


def test_many_columns_too():
    rows = torch.randn(6, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = [[gaussian(float((a - b).norm()), 0.0, 3.0) for b in rows] for a in rows]
    np.testing.assert_allclose(Gaussian(3.0)(rows).numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("width", [0.5, 2.0, 40.0])
def test_periodic_is_its_formula(width):
    hours = [0.0, 1.0, 6.0, 12.0, 23.5]
    b = 2 * math.pi * width / 24
    expected = [[math.exp(-2 * math.sin(math.pi * (u - v) / 24) ** 2 / b**2) for v in hours] for u in hours]
    np.testing.assert_allclose(Periodic(24.0, width)(hours).numpy(), expected, rtol=1e-11, atol=1e-300)


def test_periodic_is_the_gaussian_for_small_differences_and_repeats():
    values = torch.tensor([0.0, 0.01, 0.02], dtype=torch.float64)
    torch.testing.assert_close(Periodic(24.0, 0.02)(values), Gaussian(0.02)(values), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        Periodic(24.0, 2.0)(values + 48), Periodic(24.0, 2.0)(values), rtol=1e-9, atol=0
    )


def test_categories_are_equal_or_not():
    expected = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    assert Categorical()(["f", "m", "f"]).tolist() == expected
    assert Categorical()([3, 1, 3]).tolist() == expected
    assert Categorical()([True, False, True]).tolist() == expected
    assert Categorical()(torch.tensor([[1, 2], [1, 3], [1, 2]])).tolist() == expected


TABLE = {"age": [20.0, 25.0, 25.0, 60.0], "sex": ["f", "f", "m", "f"], "site": [1, 1, 2, 2]}


def test_a_product_multiplies_and_a_dict_is_one():
    kernels = {"age": Gaussian(5.0), "sex": Categorical()}
    expected = [
        [gaussian(a, b, 5.0) * (s == r) for b, r in zip(TABLE["age"], TABLE["sex"], strict=True)]
        for a, s in zip(TABLE["age"], TABLE["sex"], strict=True)
    ]
    np.testing.assert_allclose(Product(kernels)(TABLE).numpy(), expected, rtol=1e-13)
    assert sm.kernels.as_kernel("f", kernels) == Product(kernels)


def test_a_weighted_sum_adds_shares_that_add_up_to_one():
    kernel = WeightedSum({"age": (3.0, Laplace(5.0)), "sex": (1.0, Categorical())})
    expected = [
        [0.75 * laplace(a, b, 5.0) + 0.25 * (s == r) for b, r in zip(TABLE["age"], TABLE["sex"], strict=True)]
        for a, s in zip(TABLE["age"], TABLE["sex"], strict=True)
    ]
    np.testing.assert_allclose(kernel(TABLE).numpy(), expected, rtol=1e-13)
    assert kernel.shares == {"age": 0.75, "sex": 0.25}


EVERY = [
    Gaussian(5.0),
    Laplace(5.0),
    Epanechnikov(30.0),
    Periodic(50.0, 5.0),
    Categorical(),
    Product({"age": Gaussian(5.0)}),
    WeightedSum({"age": (1.0, Gaussian(5.0))}),
    Gaussian(0.5, standardize=True).fit(AGES),
]


@pytest.mark.parametrize("kernel", EVERY, ids=str)
@pytest.mark.parametrize("missing", ["refuse", "neutral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiles_are_parts_of_the_whole_and_add_up_to_one(kernel, missing, dtype):
    kernel = with_missing(kernel, missing)
    encoded = kernel.encode({"age": AGES})
    rows = kernel.rows(encoded, dtype)
    whole = kernel({"age": AGES})
    tile = kernel.weights(rows[1:4], rows[2:])
    assert tile.dtype == dtype
    torch.testing.assert_close(
        tile.double(), whole[1:4, 2:], rtol=0, atol=3e-7 if dtype == torch.float32 else 1e-15
    )
    apart = kernel.complements(rows[1:4], rows[2:])
    torch.testing.assert_close(tile + apart, torch.ones_like(tile), rtol=0, atol=3e-7)
    assert bool((whole == whole.T).all())
    assert float(whole.min()) >= 0
    assert float(whole.max()) == 1


def with_missing(kernel, missing):
    if isinstance(kernel, Product):
        return Product(kernel.columns, missing=missing)
    if isinstance(kernel, WeightedSum):
        return WeightedSum({name: (1.0, each) for name, each in kernel.columns.items()}, missing=missing)
    return type(kernel)(
        **{**{f: getattr(kernel, f) for f in kernel.__dataclass_fields__ if f != "_"}, "missing": missing}
    )


@pytest.mark.parametrize("width", [1e-12, 1e-3, 1e6, 1e12])
@pytest.mark.parametrize("kind", [Gaussian, Laplace, Epanechnikov])
def test_complements_keep_their_digits_at_any_bandwidth(kind, width):
    kernel = kind(width)
    rows = kernel.rows(kernel.encode(AGES), torch.float32)
    found = kernel.complements(rows, rows).double()
    u = (torch.tensor(AGES, dtype=torch.float64)[:, None] - torch.tensor(AGES, dtype=torch.float64)) / width
    if kind is Gaussian:
        expected = -torch.expm1(-u.square() / 2)
    elif kind is Laplace:
        expected = -torch.expm1(-u.abs())
    else:
        expected = u.square().clamp(max=1)
    torch.testing.assert_close(found, expected, rtol=3e-6, atol=0)


def test_float32_rows_tell_near_values_apart():
    values = torch.tensor([50.0, 50.000001, 90.0], dtype=torch.float64)
    kernel = Gaussian(1e-6)
    rows = kernel.rows(kernel.encode(values), torch.float32)
    assert float(kernel.weights(rows[:1], rows[1:2])) == pytest.approx(math.exp(-0.5), abs=1e-3)


@given(
    shift=st.floats(-1e3, 1e3),
    power=st.integers(-8, 8),
    seed=st.integers(0, 10_000),
)
def test_moving_or_scaling_the_meta_data_with_the_bandwidth_changes_nothing(shift, power, seed):
    values = torch.rand(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 60
    before = Gaussian(5.0)(values)
    torch.testing.assert_close(Gaussian(5.0)(values + shift), before, rtol=1e-9, atol=1e-12)
    factor = 2.0**power
    assert torch.equal(Gaussian(5.0 * factor)(values * factor), before)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(Gaussian(5.0)(values[order]), before[order][:, order], rtol=1e-12, atol=0)


# -- bandwidths from data


def test_the_median_rule_is_the_median_of_distances_that_differ():
    values = [1.0, 1.0, 2.0, 5.0]
    distances = [1.0, 4.0, 1.0, 4.0, 3.0]  # without the 0 of the two equal rows
    fitted = Gaussian("median").fit(values)
    assert fitted.bandwidth == sorted(distances)[2]
    assert fitted.rule == "median"
    assert "by the median rule" in str(fitted)


@pytest.mark.parametrize("rule", ["scott", "silverman"])
@pytest.mark.parametrize("width", [1, 3])
def test_scott_and_silverman_are_their_formulas(rule, width):
    rows = torch.randn(50, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    spread = math.sqrt(np.var(rows.numpy(), axis=0, ddof=1).mean())
    n = 50 if rule == "scott" else 50 * (width + 2) / 4
    assert Gaussian(rule).fit(rows).bandwidth == pytest.approx(spread * n ** (-1 / (width + 4)), rel=1e-12)


def test_the_median_of_a_large_set_is_that_of_evenly_spaced_rows():
    values = torch.randn(5000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    some = values[torch.arange(2048) * 5000 // 2048]
    expected = float(torch.pdist(some[:, None]).median())
    assert Gaussian("median").fit(values).bandwidth == pytest.approx(expected)
    rare = torch.zeros(5000, dtype=torch.float64)
    rare[1], rare[4999] = 1.0, 3.0
    assert Gaussian("median").fit(rare).bandwidth == 2.0  # of 1, 2, 3


def test_standardised_columns_count_alike():
    rows = torch.tensor([[0.0, 0.0], [1.0, 1000.0], [2.0, 0.0]], dtype=torch.float64)
    kernel = Gaussian(1.0, standardize=True).fit(rows)
    scaled = rows / rows.std(dim=0, correction=0)
    torch.testing.assert_close(kernel(rows), Gaussian(1.0)(scaled), rtol=1e-13, atol=0)
    assert kernel.to_dict()["unit"] == "standard deviations"


def test_scaling_a_kernel_scales_its_bandwidths_alone():
    kernel = Product({"age": Gaussian(5.0), "sex": Categorical()}).scaled(2.0)
    assert kernel == Product({"age": Gaussian(10.0), "sex": Categorical()})
    assert Gaussian("median").fit(AGES).scaled(0.5).rule == "0.5 x median"
    assert Periodic(24.0, 2.0).scaled(3.0).bandwidth == 6.0


def test_a_kernel_for_meta_data_looks_at_its_columns():
    kernel = kernel_for(
        {"age": AGES, "sex": ["f", "m", "f", "m", "f"], "scanned": [True, False, True, True, True]}
    )
    assert [each.kind for each in kernel.columns.values()] == ["gaussian", "categorical", "categorical"]
    assert kernel.fitted
    assert kernel_for(torch.tensor(AGES)) == Gaussian("median").fit(AGES)
    assert isinstance(kernel_for(["a", "b"]), Categorical)
    assert kernel_for({"age": [20.0, None, 30.0]}, missing="neutral").columns["age"].bandwidth == 10.0


# -- missing entries


GAPS = {"age": [20.0, None, 25.0, None], "sex": ["f", "f", None, None]}


def test_a_missing_entry_is_neutral():
    kernel = Product({"age": Gaussian(5.0), "sex": Categorical()}, missing="neutral")
    near = gaussian(20.0, 25.0, 5.0)
    expected = [[1.0, 1.0, near, 0.0], [1.0, 1.0, 0.0, 0.0], [near, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    np.testing.assert_allclose(kernel(GAPS).numpy(), expected, rtol=1e-12)
    rows = kernel.rows(kernel.encode(GAPS), torch.float32)
    off = ~torch.eye(4, dtype=torch.bool)
    torch.testing.assert_close(
        kernel.complements(rows, rows)[off].double(), 1 - kernel(GAPS)[off], rtol=0, atol=1e-6
    )


def test_a_missing_entry_leaves_the_mean_over_the_others():
    kernel = WeightedSum({"age": (3.0, Gaussian(5.0)), "sex": (1.0, Categorical())}, missing="neutral")
    near = gaussian(20.0, 25.0, 5.0)
    expected = [[1.0, 1.0, near, 0.0], [1.0, 1.0, 0.0, 0.0], [near, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    np.testing.assert_allclose(kernel(GAPS).numpy(), expected, rtol=1e-12)


def test_a_row_about_which_nothing_is_known_is_similar_to_itself_alone():
    kernel = Gaussian(5.0, missing="neutral")
    assert kernel([20.0, None, 20.0]).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_rows_with_gaps_are_dropped_when_asked():
    kernel = Product({"age": Gaussian(5.0), "sex": Categorical()}, missing="drop")
    assert kernel.keep(kernel.encode(GAPS)).tolist() == [True, False, False, False]
    with pytest.raises(InputError, match=r"^Kernel\.rows: encoded must hold no missing entry, because"):
        kernel.rows(kernel.encode(GAPS))


# -- what is refused


MESSAGES = [
    (
        lambda: Gaussian(5.0)([1.0, None]),
        InputError,
        "Kernel: metadata must be there for every row, because missing values have no similarity. Got 1 "
        "of 2 rows "
        "with a missing entry, the first is row 1. Remove those rows, or pass a kernel with "
        'missing="neutral" or '
        'missing="drop".',
    ),
    (
        lambda: Gaussian(0.0),
        InputError,
        "Gaussian: bandwidth must be a finite number greater than 0, because the formula is defined only "
        "there. "
        "Got 0. Pass for instance bandwidth=2.",
    ),
    (
        lambda: Gaussian("mean"),
        InputError,
        "Gaussian: bandwidth must be one of 'median', 'scott', 'silverman', because nothing else is "
        "defined. "
        "Got 'mean'. Pass bandwidth='median'.",
    ),
    (
        lambda: Gaussian().fit([3.0, 3.0]),
        UndefinedError,
        "Gaussian.fit: metadata must vary, because the median rule takes the bandwidth from its spread. "
        "Got 2 rows with the same value. Leave it out, or give a bandwidth as a number.",
    ),
    (
        lambda: Gaussian().rows(torch.zeros(2, 1)),
        UndefinedError,
        "Kernel.rows: kernel must have numbers as bandwidths, because a rule that looked at one batch "
        "after the "
        "other would compare with another kernel each time. Got gaussian kernel, bandwidth median. Pass "
        "kernel.fit(metadata), fitted on the whole set.",
    ),
    (
        lambda: Product({"age": Gaussian(5.0)})({"Age": [1.0]}),
        InputError,
        "Kernel: metadata must have the column 'age', because the kernel compares its values. Got columns "
        "'Age'. "
        "Did you mean 'Age'.",
    ),
    (
        lambda: Product({"age": Gaussian(5.0), "sex": Categorical()})({"age": [1.0], "sex": [1, 2]}),
        ShapeError,
        "Kernel: sex must have one entry for each sample, because row i of every column belongs to sample "
        "i. "
        "Got shape (2, 1) beside 1 rows. Use one named column for each number.",
    ),
    (
        lambda: Gaussian(5.0)(["old", "young"]),
        InputError,
        "Kernel: metadata must hold numbers, because the kernel compares their differences. Got 'old'. "
        "Pass "
        "numbers, or use Categorical() for it.",
    ),
    (
        lambda: Gaussian(5.0)([1.0, math.inf]),
        InputError,
        "Kernel: metadata must be finite, because an infinite value is no nearer to one than to another. "
        "Got 1 "
        "infinite values, the first in row 1. Remove those rows, or correct them.",
    ),
    (
        lambda: Gaussian(5.0)({"age": [1.0], "sex": ["f"]}),
        InputError,
        "Kernel: kernel must name its columns when the meta-data have several, because it does not know "
        "which one "
        "to compare. Got gaussian kernel, bandwidth 5 and columns age, sex. Pass kernel={'age': "
        "Gaussian(...)}.",
    ),
    (
        lambda: Product({}),
        InputError,
        "Product: columns must map column names to kernels of one column, because each column is compared "
        "in its "
        "own way. Got {}. Pass for instance Product({'age': Gaussian(5.0), 'sex': Categorical()}).",
    ),
    (
        lambda: Product({"age": Gaussian(5.0, missing="drop")}),
        InputError,
        "Product: columns['age'] must leave missing to the whole, because what a gap means depends on the "
        "other "
        "columns. Got missing='drop'. Pass missing='drop' to Product.",
    ),
    (
        lambda: sm.kernels.as_kernel("f", Gaussian),
        InputError,
        "f: kernel must be a kernel, or a dict column -> kernel, because it says which samples are "
        "similar. Got a "
        "class. Pass for instance spherometer.kernels.Gaussian(5.0).",
    ),
    (
        lambda: kernel_from_text("age:round"),
        InputError,
        "kernel_from_text: kernel must have the form COLUMN:KIND[:BANDWIDTH[:PERIOD]], because a kernel "
        "compares "
        "one column in one way; kinds are gaussian, laplace, epanechnikov, periodic, categorical. Got "
        "'age:round'. "
        "Pass for instance age:gaussian:5, sex:categorical or hour:periodic:2:24.",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), MESSAGES, ids=range(len(MESSAGES)))
def test_messages(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_weights_must_be_positive():
    with pytest.raises(
        InputError, match=r"^WeightedSum: columns\['age'\] must be a finite number greater than 0"
    ):
        WeightedSum({"age": (0.0, Gaussian(5.0))})


# -- encoding


def test_codes_of_strings_depend_on_the_string_alone():
    one = Categorical().encode(["siemens", "philips"])
    two = Categorical().encode(["philips", "ge", "siemens"])
    assert one[0] == two[2]
    assert one[1] == two[0]
    assert len(set(two.ravel().tolist())) == 3


def test_what_is_encoded_passes_unchanged():
    kernel = Product({"age": Gaussian(5.0), "sex": Categorical()})
    encoded = kernel.encode(TABLE)
    assert encoded.dtype == torch.float64
    assert torch.equal(kernel.encode(encoded), encoded)
    torch.testing.assert_close(kernel(encoded), kernel(TABLE))


def test_values_come_in_many_kinds():
    expected = Gaussian(5.0)(AGES)
    for values in (np.array(AGES), np.array(AGES, dtype=np.float32), torch.tensor(AGES), tuple(AGES),
                   torch.tensor(AGES)[:, None], {"age": np.array(AGES)}):  # fmt: skip
        assert torch.equal(Gaussian(5.0)(values), expected)


def test_other_samples_are_compared_in_the_same_units():
    kernel = Gaussian(5.0)
    assert float(kernel([20.0], [25.0])) == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize(
    ("text", "name", "kernel"),
    [
        ("age:gaussian:5", "age", Gaussian(5.0)),
        ("age:gaussian", "age", Gaussian("median")),
        ("age:laplace:scott", "age", Laplace("scott")),
        ("dose:epanechnikov:0.5", "dose", Epanechnikov(0.5)),
        ("hour:periodic:2:24", "hour", Periodic(24.0, 2.0)),
        ("sex:categorical", "sex", Categorical()),
    ],
)
def test_kernels_from_text(text, name, kernel):
    assert kernel_from_text(text) == (name, kernel)


@pytest.mark.parametrize(
    "text", ["age", "", ":gaussian", "age:gaussian:5:6", "sex:categorical:1", "hour:periodic:2"]
)
def test_other_text_is_refused(text):
    with pytest.raises(InputError, match=r"^kernel_from_text: kernel must have the form"):
        kernel_from_text(text)


def test_results_state_the_kernel():
    kernel = Product({"age": Gaussian("median"), "sex": Categorical()}, missing="neutral").fit(TABLE)
    assert kernel.to_dict() == {
        "kind": "product",
        "columns": {
            "age": {
                "kind": "gaussian",
                "bandwidth": 35.0,
                "rule": "median",
                "unit": "the column's own",
                "scale": None,
            },
            "sex": {"kind": "categorical"},
        },
        "missing": "neutral",
    }
