"""One function for each promise about inputs, run over every registered metric (losses: the next file).

Nothing here may be marked as an expected failure: a new metric joins by passing all of it.
"""

import inspect
import itertools
import random

import numpy as np
import pytest
import torch

import spherometer as sm
from registry import CLOSED_FORMS, DENSE_LOSSES, DENSE_METRICS, KEEPERS, LOSSES, METRICS, VIEW_METRICS
from spherometer import metrics as metrics_room
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError

every_metric = pytest.mark.parametrize("metric", METRICS, ids=str)


def every_metric_with(promise):
    return pytest.mark.parametrize("metric", [each for each in METRICS if promise(each)], ids=str)


def some_rows(num=9, dim=4, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((num, dim)).astype(dtype)


def some_inputs(metric, num=9, dim=4, dtype=np.float64):
    return metric.inputs(some_rows(num, dim, 1, dtype), some_rows(num, dim, 2, dtype))


def replaced(features, position, value):
    """The same feature arguments with one exchanged."""
    return tuple(value if i == position else each for i, each in enumerate(features))


def same(a, b):
    """Equal to the last bit, whatever the kind."""
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def message(call, error):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return str(caught.value)


# --- the list itself ----------------------------------------------------------------------------------


def test_every_public_metric_is_registered():
    others = CLOSED_FORMS | DENSE_METRICS | VIEW_METRICS
    assert {metric.name for metric in METRICS} | others == set(metrics_room.__all__)


def test_every_public_loss_is_registered():
    public = {name for name in vars(sm.losses) if not name.startswith("_")}
    public = {name for name in public if callable(getattr(sm.losses, name))}
    assert {loss.name for loss in LOSSES} | KEEPERS | DENSE_LOSSES == public


@every_metric
def test_names_and_defaults_are_the_agreed_ones(metric):
    parameters = inspect.signature(metric.function).parameters
    positional = metric.positional
    for name, parameter in parameters.items():
        kind = parameter.POSITIONAL_OR_KEYWORD if name in positional else parameter.KEYWORD_ONLY
        assert parameter.kind is kind, name
    assert list(parameters)[: len(positional)] == positional
    assert parameters["nan"].default == "refuse"
    assert parameters["normalize"].default is metric.on_sphere
    assert ("t" in parameters) is metric.has_t
    assert ("alpha" in parameters) is metric.has_alpha
    assert ("estimator" in parameters) is metric.has_estimator
    assert ("power" in parameters) is metric.has_power


@every_metric
def test_docstring_says_all_there_is_to_know(metric):
    text = inspect.getdoc(metric.function)
    for section in ("Args:", "Returns:", "Range", "Raises:", "Cost:", "Source:", "Example:"):
        assert section in text, section


@every_metric
def test_there_is_a_citation(metric):
    assert sm.citation(metric.name).startswith("@")


# --- NaN and infinity ---------------------------------------------------------------------------------


@every_metric
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("row", [0, 4, 8])
def test_a_row_that_is_not_finite_is_refused(metric, dtype, row):
    features = some_inputs(metric, dtype=dtype)
    for position, bad in itertools.product(range(len(features)), (np.nan, np.inf, -np.inf)):
        rows = features[position].copy()
        rows[row, 1] = bad
        text = message(lambda rows=rows, at=position: metric.call(*replaced(features, at, rows)), InputError)
        assert text == (
            f"{metric.name}: {metric.arguments[position]} must be finite, because NaN or infinity in one row "
            f"spoils every pair with it. Got 1 of 9 rows with NaN or infinity, the first is row {row}. "
            'Remove them, or pass nan="drop" to leave them out.'
        )


@every_metric
def test_a_single_row_that_is_not_finite_is_refused_as_such(metric):
    features = tuple(np.full((1, 3), np.nan) for _ in metric.arguments)
    assert "Got 1 of 1 rows with NaN" in message(lambda: metric.call(*features), InputError)


@every_metric
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_rows_are_dropped_on_request(metric, kind):
    features = some_inputs(metric)
    kept = np.array([i not in (0, 5) for i in range(9)])
    labels = [np.array(each)[kept] for each in metric.labels(9)]
    spoiled = [each.copy() for each in features]
    spoiled[0][[0, 5], 2] = np.nan
    if metric.paired:
        spoiled[-1][5] = np.inf
        clean = [each[kept] for each in features]
    else:
        clean = [features[0][kept], *features[1:]]
    convert = torch.from_numpy if kind == "torch" else np.asarray
    dropped = metric.call(*map(convert, spoiled), nan="drop")
    wanted = metric.function(*map(convert, clean), *labels, **metric.options)
    assert same(dropped, wanted)


@every_metric
def test_nothing_left_after_dropping_is_undefined(metric):
    features = tuple(np.full((5, 3), np.nan) for _ in metric.arguments)
    text = message(lambda: metric.call(*features, nan="drop"), UndefinedError)
    assert "Got 0 rows after 5 rows with NaN or infinity were dropped." in text


@every_metric
def test_an_unknown_policy_is_refused(metric):
    text = message(lambda: metric.call(*some_inputs(metric), nan="ignore"), InputError)
    assert text == (
        f"{metric.name}: nan must be one of 'refuse', 'drop', because nothing else is defined. "
        "Got 'ignore'. Pass nan='refuse'."
    )


# --- zero rows, few rows, one dimension, collapse ------------------------------------------------------


@every_metric
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_of_zeros_have_no_direction(metric, dtype):
    features = some_inputs(metric, dtype=dtype)
    for position, name in enumerate(metric.arguments):
        rows = features[position].copy()
        rows[[3, 7]] = [0.0, -0.0, 0.0, 0.0]
        changed = replaced(features, position, rows)
        if not metric.on_sphere:
            assert np.isfinite(metric.call(*changed)).all()
            changed = (*changed,)
            assert "rows of zeros" in message(
                lambda f=changed: metric.call(*f, normalize=True), NotOnSphereError
            )
            continue
        assert message(lambda f=changed: metric.call(*f), NotOnSphereError) == (
            f"{metric.name}: {name} must have no rows of zeros, because a zero vector has no direction "
            "on the sphere. Got 2 of 9 rows of zeros, the first is row 3. "
            "Remove them, or look for dead units in the encoder."
        )


@every_metric
def test_too_few_rows_are_undefined(metric):
    for num in range(min(metric.min_rows, 2)):
        features = tuple(np.ones((num, 3)) for _ in metric.arguments)
        text = message(lambda f=features: metric.call(*f), UndefinedError)
        because = "the quantity is a mean over pairs of rows" if metric.min_rows > 1 else "a mean needs a row"
        needed = "1 row" if metric.min_rows == 1 else "2 rows"
        rows = "1 row" if num == 1 else f"{num} rows"
        assert text == (
            f"{metric.name}: {metric.arguments[0]} must have at least {needed}, because {because}. "
            f"Got {rows}. Pass the whole set at once."
        )


@every_metric
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_fewest_rows_are_defined(metric, dim):
    features = some_inputs(metric, num=metric.min_rows, dim=dim)
    if dim < metric.min_dim:
        message(lambda: metric.call(*features), UndefinedError)
        return
    in_two_places = metric.distinct_rows or (metric.on_sphere and not metric.constant_defined)
    if in_two_places and dim == 1:
        features = metric.inputs(np.array([[-2.0], [3.0], [4.0]])[: metric.min_rows])
    assert np.allclose(metric.call(*features), metric.reference(*features), rtol=1e-8, atol=1e-8)


@every_metric
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_dimension_is_defined(metric, dtype):
    features = some_inputs(metric, num=8, dim=1, dtype=dtype)
    if metric.min_dim > 1:
        message(lambda: metric.call(*features), UndefinedError)
        return
    if metric.distinct_rows:  # there are two places only
        message(lambda: metric.call(*features), UndefinedError)
        features = metric.inputs(np.array([[-2.0], [3.0]], dtype=dtype))
    tolerance = metric.tolerance[0 if dtype is np.float32 else 1]
    assert np.allclose(metric.call(*features), metric.reference(*features), rtol=1e-6, atol=tolerance)


@every_metric
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_identical_rows(metric, dtype):
    rows = np.repeat(some_rows(1, 7, 3, dtype), 12, axis=0)
    features = metric.inputs(rows, rows)
    if metric.distinct_rows:
        assert message(lambda: metric.call(*features), UndefinedError) == (
            f"{metric.name}: z must have rows with different directions, because two rows in the same place "
            "repel each other infinitely. Got rows 0 and 1 in the same place. "
            "Remove duplicates, or use uniformity, which bears them."
        )
        return
    if not metric.constant_defined:
        assert message(lambda: metric.call(*features), UndefinedError) == (
            f"{metric.name}: {metric.constant_refused} Look for a collapsed encoder."
        )
        return
    assert np.allclose(metric.call(*features), metric.reference(*features), rtol=0, atol=2e-6)


@every_metric
def test_duplicated_rows(metric):
    rows = some_rows(4, 3)[[0, 1, 1, 2, 2, 3, 3, 3]]
    features = metric.inputs(rows, rows[::-1].copy())
    if metric.distinct_rows:
        text = message(lambda: metric.call(*features), UndefinedError)
        assert "Got rows 1 and 2 in the same place." in text
        return
    assert np.allclose(metric.call(*features), metric.reference(*features), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["rankme", "effective_rank"])
def test_a_zero_matrix_has_no_directions(name):
    assert message(lambda: getattr(sm, name)(np.zeros((4, 3))), UndefinedError) == (
        f"{name}: z must hold a number that is not 0, because a zero matrix has no singular directions. "
        "Got zeros only. Look for a collapsed encoder."
    )


# --- scale --------------------------------------------------------------------------------------------


@every_metric
@pytest.mark.parametrize("exponent", [-100, -41, -1, 3, 61, 100])
def test_powers_of_two_change_no_bit(metric, exponent):
    features = some_inputs(metric, dtype=np.float32)
    factor = np.float32(2.0**exponent)
    assert same(metric.call(*features), metric.call(*(each * factor for each in features)))


@every_metric_with(lambda each: each.on_sphere)
def test_rows_of_very_different_length_change_no_bit(metric):
    features = some_inputs(metric, dtype=np.float32)
    factors = (2.0 ** np.arange(-99, 99, 22))[:, None].astype(np.float32)
    assert same(metric.call(*features), metric.call(*(each * factors for each in features)))


@every_metric
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (np.float32, 1e38),
        (np.float32, 1e-38),
        (np.float64, 1e300),
        (np.float64, 1e-300),
        (np.float64, 1e-310),
    ],
)
def test_extreme_scales_lose_nothing_but_the_digits_that_are_not_there(metric, dtype, factor):
    features = tuple(each / np.abs(each).max() for each in some_inputs(metric, dtype=dtype))
    got = metric.call(*(each * dtype(factor) for each in features))
    subnormal = factor in (1e-38, 1e-310)
    assert np.allclose(got, metric.call(*features), rtol=1e-4 if subnormal else 1e-6, atol=1e-5)


# --- parameters ---------------------------------------------------------------------------------------

BAD_NUMBERS = [
    (0.0, "0"),
    (-1.0, "-1"),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    ("2", "'2'"),
    (None, "None"),
    (True, "True"),
    (torch.tensor([1.0, 2.0]), "tensor([1., 2.])"),
]


@every_metric_with(lambda each: each.has_t or each.has_alpha)
@pytest.mark.parametrize(("value", "shown"), BAD_NUMBERS, ids=[shown for _, shown in BAD_NUMBERS])
def test_parameters_out_of_range_are_refused(metric, value, shown):
    for name in ("t", "alpha"):
        if not getattr(metric, f"has_{name}"):
            continue
        text = message(lambda name=name: metric.call(*some_inputs(metric), **{name: value}), InputError)
        assert text == (
            f"{metric.name}: {name} must be a finite number greater than 0, because the formula is defined "
            f"only there. Got {shown}. Pass for instance {name}=2."
        )


@every_metric_with(lambda each: each.has_t)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [1e-4, 30.0, 1e4])
def test_any_sharpness_is_finite_and_right(metric, dtype, t):
    features = some_inputs(metric, dtype=dtype)
    got, wanted = metric.call(*features, t=t), metric.reference(*features, t=t)
    assert np.isfinite(got).all()
    unit = abs(sm.expected_uniformity(4, t)) if metric.name == "normalized_uniformity" else 1.0
    if dtype is np.float64:
        assert np.allclose(got, wanted, rtol=1e-11, atol=1e-13 / unit)
    else:  # rounding a coordinate moves the exponent by t * 1e-7
        assert np.allclose(got, wanted, rtol=1e-6, atol=1e-6 * max(1.0, t) / unit)


@every_metric_with(lambda each: each.has_estimator)
@pytest.mark.parametrize("estimator", ["u", "v"])
def test_estimators(metric, estimator):
    features = some_inputs(metric)
    got, wanted = (
        metric.call(*features, estimator=estimator),
        metric.reference(*features, estimator=estimator),
    )
    assert np.allclose(got, wanted, rtol=0, atol=1e-12)
    text = message(lambda: metric.call(*features, estimator="w"), InputError)
    assert text == (
        f"{metric.name}: estimator must be one of 'u', 'v', because nothing else is defined. "
        "Got 'w'. Pass estimator='u'."
    )


@every_metric_with(lambda each: each.has_alpha)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0, 20.0])
def test_powers(metric, alpha):
    features = some_inputs(metric)
    assert np.allclose(
        metric.call(*features, alpha=alpha), metric.reference(*features, alpha=alpha), rtol=1e-13
    )


# --- kinds, dtypes, shapes ----------------------------------------------------------------------------


@every_metric
@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (np.ones((9, 4), dtype=np.int8), "int8"),
        (np.ones((9, 4), dtype=np.int64), "int64"),
        (np.ones((9, 4), dtype=np.uint8), "uint8"),
        (np.ones((9, 4), dtype=bool), "bool"),
        (np.ones((9, 4), dtype=object), "object"),
        (np.full((9, 4), "1"), "<U1"),
        (np.ones((9, 4), dtype=complex), "complex128"),
        (np.ones((9, 4), dtype="datetime64[s]"), "datetime64[s]"),
        (torch.ones(9, 4, dtype=torch.int64), "int64 (strided)"),
        (torch.ones(9, 4, dtype=torch.bool), "bool (strided)"),
        (torch.ones(9, 4, dtype=torch.complex64), "complex64 (strided)"),
        (torch.ones(9, 4).to_sparse(), "float32 (sparse_coo)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_dtypes_are_refused(metric, bad, shown):
    features = tuple(bad for _ in metric.arguments)
    assert message(lambda: metric.call(*features), InputError) == (
        f"{metric.name}: {metric.arguments[0]} must hold real floating-point numbers (float16, bfloat16, "
        f"float32 or float64), because it is a set of feature vectors. Got dtype {shown}. "
        "Cast it, for instance with .astype('float32') or .float()."
    )


@every_metric
@pytest.mark.parametrize("bad", [[[1.0, 2.0]], None, 3.0, "rows", b"rows", {"z": 1}], ids=repr)
def test_other_kinds_are_refused(metric, bad):
    features = [bad] * len(metric.arguments)
    labels = metric.labels(2)
    assert message(lambda: metric.function(*features, *labels, **metric.options), InputError) == (
        f"{metric.name}: {metric.arguments[0]} must be a NumPy array or a torch tensor, because its kind "
        f"decides the kind of the result. Got {type(bad).__name__}. "
        "Convert it with np.asarray(...) or torch.as_tensor(...)."
    )


@every_metric
@pytest.mark.parametrize("shape", [(9,), (3, 9, 4), (2, 3, 9, 4), (9, 0)], ids=str)
def test_other_shapes_are_refused(metric, shape):
    features = tuple(np.ones(shape) for _ in metric.arguments)
    assert message(lambda: metric.call(*features), ShapeError) == (
        f"{metric.name}: {metric.arguments[0]} must have shape [N, D] with D >= 1, because each row is one "
        f"point. Got shape {shape}. Flatten or stack it to one row per point."
    )


@every_metric_with(lambda each: len(each.arguments) == 2)
def test_sides_must_match(metric):
    x = some_rows(9, 4)
    text = message(lambda: metric.call(x, some_rows(9, 5)), ShapeError)
    what = "the same shape as x" if metric.paired else "as many columns as x"
    because = "row i of one belongs to row i of the other" if metric.paired else "both live on one sphere"
    assert text == (
        f"{metric.name}: y must have {what}, because {because}. Got x (9, 4), y (9, 5). Pass matching arrays."
    )
    if metric.paired:
        assert "Got x (9, 4), y (8, 4)." in message(lambda: metric.call(x, some_rows(8, 4)), ShapeError)
    else:
        assert np.isfinite(metric.call(x, some_rows(8, 4)))
    must = f"{metric.name}: y must have the same kind, dtype and device as x,"
    must += " because nothing is converted silently."
    assert message(lambda: metric.call(x, torch.from_numpy(x)), InputError) == (
        f"{must} Got x float64 on cpu, y float64 on cpu (one is a NumPy array, the other a tensor). "
        "Convert one of them first."
    )
    assert message(lambda: metric.call(x, x.astype(np.float32)), InputError) == (
        f"{must} Got x float64 on cpu, y float32 on cpu. Convert one of them first."
    )


@every_metric
def test_the_result_has_the_kind_of_the_input(metric):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        features = tuple(torch.from_numpy(each).to(dtype) for each in some_inputs(metric))
        result = metric.call(*features)
        assert isinstance(result, torch.Tensor)
        assert result.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
        assert result.shape == ((9,) if metric.per_row else ())
    for dtype in (np.float16, np.float32, np.float64):
        result = metric.call(*some_inputs(metric, dtype=dtype))
        if metric.per_row:
            assert isinstance(result, np.ndarray)
            assert result.shape == (9,)
        else:
            assert type(result) is float


@every_metric
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [2, 24])
def test_precision_against_the_definition_on_the_same_rounded_rows(metric, dtype, dim):
    features = tuple(torch.from_numpy(each).to(dtype) for each in some_inputs(metric, num=40, dim=dim))
    wanted = np.asarray(metric.reference(*(each.double().numpy() for each in features)))
    got = metric.call(*features).double().numpy()
    bound = metric.tolerance[1 if dtype is torch.float64 else 0]
    rounding = 4e-15 if dtype is torch.float64 else np.finfo(np.float32).eps  # of the result
    assert (np.abs(got - wanted) <= bound + rounding * np.abs(wanted)).all()


# --- memory layout ------------------------------------------------------------------------------------


def layouts(rows, path):
    """The same numbers in other clothes."""
    wide = np.zeros((len(rows), 2 * rows.shape[1]), dtype=rows.dtype)
    wide[:, ::2] = rows
    tall = np.zeros((3 * len(rows), rows.shape[1]), dtype=rows.dtype)
    tall[::3] = rows
    frozen = rows.copy()
    frozen.setflags(write=False)
    np.save(path, rows)
    return {
        "fortran": np.asfortranarray(rows),
        "transposed": np.ascontiguousarray(rows.T).T,
        "every second column": wide[:, ::2],
        "every third row": tall[::3],
        "rows backwards": np.ascontiguousarray(rows[::-1])[::-1],
        "columns backwards": np.ascontiguousarray(rows[:, ::-1])[:, ::-1],
        "read-only": frozen,
        "memory map": np.load(path, mmap_mode="r"),
        "big-endian": rows.astype(rows.dtype.newbyteorder(">")),
    }


@every_metric
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("num", "dim"), [(9, 4), (70, 33)])
def test_layout_changes_no_bit_and_nothing_is_written(metric, dtype, num, dim, tmp_path):
    features = some_inputs(metric, num=num, dim=dim, dtype=dtype)
    wanted = metric.call(*features)
    for name in layouts(features[0], tmp_path / "rows.npy"):
        dressed = [layouts(each, tmp_path / f"{i}.npy")[name] for i, each in enumerate(features)]
        assert same(metric.call(*dressed), wanted), name
        assert all(same(after, before) for after, before in zip(dressed, features, strict=True)) or (
            name == "big-endian"
        )
    tensors = [torch.from_numpy(each) for each in features]
    for dressed in (
        [each.T.contiguous().T for each in tensors],
        [torch.stack([each, each], dim=2)[:, :, 1] for each in tensors],
        [each.clone().requires_grad_() for each in tensors],
    ):
        versions = [each._version for each in dressed]
        assert same(torch.as_tensor(metric.call(*dressed)).detach(), metric.call(*tensors))
        assert [each._version for each in dressed] == versions
        assert all(torch.equal(after, before) for after, before in zip(dressed, tensors, strict=True))


@every_metric
def test_expanded_rows(metric):
    row = torch.from_numpy(some_rows(1, 5))
    expanded = metric.inputs(row.expand(6, 5), row.expand(6, 5))
    copies = tuple(each.contiguous() for each in expanded)
    if metric.constant_defined:
        assert same(metric.call(*expanded), metric.call(*copies))
    else:
        message(lambda: metric.call(*expanded), UndefinedError)


# --- surroundings -------------------------------------------------------------------------------------


@every_metric
def test_no_global_generator_is_touched(metric):
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    metric.call(*some_inputs(metric))
    metric.call(*(torch.from_numpy(each) for each in some_inputs(metric)))
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert str(before[1]) == str(after[1])
    assert before[2] == after[2]


@every_metric
def test_modes_of_torch_change_no_bit(metric):
    features = tuple(torch.from_numpy(each).float() for each in some_inputs(metric))
    wanted = metric.call(*features)
    with torch.no_grad():
        assert same(metric.call(*features), wanted)
    with torch.inference_mode():
        assert same(metric.call(*(each.clone() for each in features)), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(metric.call(*features), wanted)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert same(metric.call(*features), wanted)
    finally:
        torch.set_default_dtype(default)


@every_metric
def test_gradients_exist_where_they_are_promised(metric):
    features = tuple(torch.from_numpy(each).requires_grad_() for each in some_inputs(metric))
    result = metric.call(*features)
    assert result.requires_grad is metric.differentiable
    if metric.differentiable:
        result.sum().backward()
        assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in features)


@every_metric
def test_rows_said_to_be_on_the_sphere_are_checked(metric):
    features = some_inputs(metric)
    units = tuple(each / np.linalg.norm(each, axis=1, keepdims=True) for each in features)
    assert np.allclose(metric.call(*units, normalize=False), metric.call(*units, normalize=True), atol=1e-7)
    if not metric.checks_sphere:
        assert np.isfinite(metric.call(*(3 * each for each in units), normalize=False)).all()
        return
    for position, name in enumerate(metric.arguments):
        rows = units[position].copy()
        rows[6] *= 1.25
        changed = replaced(units, position, rows)
        assert message(lambda f=changed: metric.call(*f, normalize=False), NotOnSphereError) == (
            f"{metric.name}: {name} must have rows of length 1, because normalize=False says that they "
            "already lie on the unit sphere. Got length 1.25 in row 6 (the worst of 9). "
            "Pass normalize=True, or normalise the rows first."
        )


@every_metric
def test_half_precision_units_pass_as_units(metric):
    for dtype in (torch.float16, torch.bfloat16):
        units = tuple(
            torch.nn.functional.normalize(torch.from_numpy(each)).to(dtype) for each in some_inputs(metric)
        )
        assert torch.isfinite(metric.call(*units, normalize=False)).all()


@every_metric
def test_range(metric):
    for seed, scale in itertools.product(range(3), (0.01, 1.0)):
        rows = 1.0 + scale * some_rows(20, 3, seed)
        for features in (metric.inputs(rows), metric.inputs(rows, -rows), metric.inputs(-rows, rows)):
            values = np.asarray(metric.call(*features))
            assert (values >= metric.low).all()
            assert (values <= metric.high).all()
