"""The checks themselves, where the batteries do not reach."""

import numpy as np
import pytest
import torch

from spherometer import _checks
from spherometer.errors import InputError, MissingExtraError, ShapeError, SpherometerError, UndefinedError


def test_errors_are_also_the_standard_ones():
    assert issubclass(InputError, ValueError)
    assert issubclass(ShapeError, InputError)
    assert issubclass(UndefinedError, InputError)
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(MissingExtraError, SpherometerError)
    assert not issubclass(MissingExtraError, InputError)


def test_the_grammar_is_one_line():
    with pytest.raises(ShapeError) as caught:
        _checks.refuse(ShapeError, "f", "x", "be\nsmall", "of  this", "a\tlot", "Do that")
    assert str(caught.value) == "f: x must be small, because of this. Got a lot. Do that."


def test_features_keep_what_is_needed_to_answer_in_kind():
    array = np.arange(6, dtype=np.float16).reshape(3, 2)
    array[1, 0] = np.nan
    checked = _checks.features("f", "x", array, nan="drop")
    assert checked.rows.dtype == torch.float32
    assert checked.dtype == torch.float16
    assert checked.kept.tolist() == [True, False, True]
    assert checked.num_dropped == 1
    assert checked.is_numpy
    value = torch.tensor(1 / 3, dtype=torch.float64)
    assert checked.scalar(value) == 1 / 3  # a float keeps every digit
    assert checked.vector(value[None]).dtype == np.float32
    tensor = _checks.features("f", "x", torch.eye(2))
    assert tensor.scalar(value).dtype == torch.float32
    assert tensor.num_dropped == 0
    assert tensor.kept is None


def test_pairs_are_dropped_together_and_sets_apart():
    x, y = torch.ones(4, 2), torch.ones(4, 2)
    x[0], y[3] = np.nan, np.inf
    first, second = _checks.feature_set("f", ("x", "y"), (x, y), nan="drop")
    assert first.kept.tolist() == second.kept.tolist() == [False, True, True, False]
    first, second = _checks.feature_set("f", ("x", "y"), (x, y), nan="drop", paired=False)
    assert first.kept.tolist() == [False, True, True, True]
    assert second.kept.tolist() == [True, True, True, False]


def test_ordinary_arrays_are_not_copied():
    array = np.random.default_rng(0).standard_normal((5, 3))
    assert _checks.features("f", "x", array).rows.data_ptr() == array.ctypes.data
    tensor = torch.eye(3)
    assert _checks.features("f", "x", tensor).rows.data_ptr() == tensor.data_ptr()


def test_a_read_only_map_is_neither_copied_nor_warned_about(tmp_path, recwarn):
    np.save(tmp_path / "x.npy", np.ones((4, 2), dtype=np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert _checks.features("f", "x", mapped).rows.sum() == 8
    assert not recwarn.list


@pytest.mark.parametrize("value", [1, 2.5, np.float32(3), torch.tensor(2.0), np.int64(4)], ids=repr)
def test_positive_numbers_pass(value):
    _checks.positive("f", "t", value)


def test_a_raised_floor_is_inclusive():
    _checks.positive("f", "alpha", 1.0, at_least=1)
    with pytest.raises(InputError) as caught:
        _checks.positive("f", "alpha", 0.5, at_least=1)
    assert str(caught.value) == (
        "f: alpha must be a finite number at least 1, because below it the gradient is not finite. "
        "Got 0.5. Pass for instance alpha=2."
    )


@pytest.mark.parametrize("value", [3, np.int64(3)], ids=repr)
def test_whole_numbers_pass(value):
    _checks.whole("f", "k", value)


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", None, True, float("nan")], ids=repr)
def test_other_numbers_are_no_counts(value):
    with pytest.raises(InputError) as caught:
        _checks.whole("f", "k", value)
    assert str(caught.value) == (
        "f: k must be a whole number of at least 1, because it counts something. "
        f"Got {value!r}. Pass for instance k=1."
    )


def test_a_missing_package_names_its_extra():
    assert _checks.extra("json", "dev", "reading") is __import__("json")
    with pytest.raises(MissingExtraError) as caught:
        _checks.extra("no_such_package_at_all", "graph", "GCNClassifier")
    assert str(caught.value) == (
        "GCNClassifier: no_such_package_at_all must be installed, because GCNClassifier uses it. "
        "Got no such module. Install it with: pip install 'spherometer[graph]'."
    )


def test_a_package_that_breaks_on_import_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as caught:
        _checks.extra("broken_package", "dev", "reading")
    assert not isinstance(caught.value, MissingExtraError)
