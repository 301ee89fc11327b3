"""Results: tables, JSON out and in, data frames, what to cite."""

import copy
import json
import math
import pickle

import numpy as np
import pandas
import pytest
import torch

import spherometer as sm
from spherometer import Evaluation, Measurement
from spherometer.errors import InputError, MissingExtraError


def small():
    return Evaluation(
        {
            "uniformity": Measurement(
                name="uniformity",
                value=-3.9375,
                interval=(-3.95, -3.925),
                baseline={"uniform law": -3.93753, "one point": 0.0},
                num=1000,
                settings={"t": 2.0, "estimator": "u"},
                better="lower",
                label="Uniformity (t = 2)",
            ),
            "rankme": Measurement(name="rankme", value=118.5, num=1000, better="higher"),
            "tiny": Measurement(name="tiny", value=2.5e-7),
        },
        notes=("3 rows dropped.",),
    )


def test_mapping():
    e = small()
    assert e["uniformity"].interval == (-3.95, -3.925)
    assert list(e) == ["uniformity", "rankme", "tiny"]
    assert len(e) == 3
    assert "rankme" in e
    assert "alignment" not in e
    assert float(e["rankme"]) == 118.5
    assert e["tiny"].label == "tiny"
    assert repr(e) == "Evaluation(uniformity=-3.938, rankme=118.5, tiny=2.5e-07)"
    with pytest.raises(KeyError):
        e["alignment"]


def test_table():
    assert str(small()) == (
        "metric                  value       95 % interval  compare with            n  better\n"
        "------------------  ---------  ------------------  -------------------  ----  ------\n"
        "Uniformity (t = 2)    -3.9375  [-3.9500, -3.9250]  -3.9375 uniform law  1000  lower\n"
        "                                                   0.0000 one point\n"
        "rankme                 118.50                                           1000  higher\n"
        "tiny                2.500e-07                                              0\n"
        "Note: 3 rows dropped."
    )


def test_table_of_nothing():
    assert str(Evaluation({})).splitlines()[0].split("  ")[0] == "metric"


def test_html_escapes_everything():
    bad = "<script>alert('x')</script>"
    e = Evaluation({"a": Measurement(name="a", value=1.0, label=bad, baseline={bad: 1.0})}, notes=(bad,))
    page = e._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 3
    assert page.startswith("<table>")


def test_frozen_and_copied():
    m = small()["uniformity"]
    with pytest.raises(AttributeError):
        m.value = 0.0
    with pytest.raises(TypeError):
        m.baseline["uniform law"] = 0.0
    with pytest.raises(TypeError):
        m.settings["t"] = 1.0
    for again in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert again == m
    assert pickle.loads(pickle.dumps(small())) == small()
    settings = {"t": 1.0}
    kept = Measurement(name="a", value=1.0, settings=settings)
    settings["t"] = 2.0
    assert kept.settings["t"] == 1.0


def test_equality():
    assert small() == small()
    other = small().to_dict()
    other["metrics"]["rankme"]["value"] = 118.6
    assert Evaluation.from_dict(other) != small()
    assert small() != "evaluation"


def test_json_round_trip(tmp_path):
    e = small()
    text = e.to_json(tmp_path / "e.json")
    again = Evaluation.from_json(text)
    assert again == e
    assert str(again) == str(e)  # also the order of metrics and baselines
    assert again.to_json() == text
    assert Evaluation.from_json((tmp_path / "e.json").read_bytes()) == e
    document = json.loads(text)
    assert document["schema"] == "spherometer.evaluation/2"
    assert document["spherometer"] == sm.__version__
    assert document["metrics"]["uniformity"] == {
        "value": -3.9375,
        "interval": [-3.95, -3.925],
        "baseline": {"uniform law": -3.93753, "one point": 0.0},
        "num": 1000,
        "settings": {"t": 2.0, "estimator": "u"},
        "better": "lower",
        "label": "Uniformity (t = 2)",
    }


def test_json_keeps_every_digit():
    values = np.random.default_rng(0).standard_normal(50) * 10.0 ** np.arange(-25, 25)
    e = Evaluation({str(i): Measurement(name=str(i), value=float(v)) for i, v in enumerate(values)})
    assert [m.value for m in Evaluation.from_json(e.to_json()).values()] == values.tolist()


def test_what_json_cannot_hold_is_not_written():
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError):
            Evaluation({"a": Measurement(name="a", value=value)}).to_json()


def changed(path, value):
    document = small().to_dict()
    *inner, last = path
    place = document
    for key in inner:
        place = place[key]
    place[last] = value
    return json.dumps(document)


UNIFORMITY = ("metrics", "uniformity")
BAD_DOCUMENTS = [
    ("", "be strict JSON", "JSONDecodeError (Expecting value: line 1 column 1 (char 0))"),
    ('{"a": NaN}', "be strict JSON", "ValueError (NaN is not JSON)"),
    ('{"a": 1e999}', "be strict JSON", "ValueError (1e999 is too large)"),
    ("[" * 100_000, "be strict JSON", None),
    (b"\xff\xfe", "be strict JSON", None),
    ("[]", "be an object whose schema is 'spherometer.evaluation/2'", "'list'"),
    ('{"schema": "x"}', "be an object whose schema is 'spherometer.evaluation/2'", "'x'"),
    (changed(("notes",), "x"), "hold a list of strings 'notes'", "'x'"),
    (changed(("metrics",), []), "hold an object 'metrics'", "[]"),
    (changed(("spherometer",), 1), "hold a string 'spherometer' (the version)", "1"),
    (
        changed(("more",), 1),
        "hold nothing but schema, spherometer, metrics, notes, bandwidth_curve, local_density, portrait and "
        "provenance",
        "['more']",
    ),
    (changed((*UNIFORMITY, "value"), None), "hold a usable 'value' in measurement 'uniformity'", "None"),
    (changed((*UNIFORMITY, "value"), True), "hold a usable 'value' in measurement 'uniformity'", "True"),
    (changed((*UNIFORMITY, "interval"), [1]), "hold a usable 'interval' in measurement 'uniformity'", "[1]"),
    (
        changed((*UNIFORMITY, "baseline"), {"a": "b"}),
        "hold a usable 'baseline' in measurement 'uniformity'",
        "{'a': 'b'}",
    ),
    (changed((*UNIFORMITY, "num"), -1), "hold a usable 'num' in measurement 'uniformity'", "-1"),
    (changed((*UNIFORMITY, "settings"), 3), "hold a usable 'settings' in measurement 'uniformity'", "3"),
    (changed((*UNIFORMITY, "better"), "up"), "hold a usable 'better' in measurement 'uniformity'", "'up'"),
    (changed((*UNIFORMITY, "label"), 3), "hold a usable 'label' in measurement 'uniformity'", "3"),
    (
        changed(UNIFORMITY, {"value": 1}),
        "hold measurement 'uniformity' with the keys value, interval, baseline, num, settings, better, label",
        "['value']",
    ),
    (
        changed((*UNIFORMITY, "value"), 10**400),
        "hold a usable 'value' in measurement 'uniformity'",
        None,
    ),
]


@pytest.mark.parametrize(("text", "must", "got"), BAD_DOCUMENTS, ids=range(len(BAD_DOCUMENTS)))
def test_other_documents_are_refused_in_one_line(text, must, got):
    with pytest.raises(InputError) as caught:
        Evaluation.from_json(text)
    message = str(caught.value)
    start = (
        f"Evaluation: document must {must}, because only results written by this package can be read. Got "
    )
    assert message.startswith(start)
    assert "\n" not in message
    assert len(message) < 700
    if got is not None:
        assert message == f"{start}{got}. Write it with to_json(), or measure again."


def test_frame():
    frame = small().to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == ["uniformity", "rankme", "tiny"]
    row = frame.loc["uniformity"]
    assert (row["value"], row["low"], row["high"], row["num"]) == (-3.9375, -3.95, -3.925, 1000)
    assert (row["baseline"], row["baseline_label"], row["better"]) == (-3.93753, "uniform law", "lower")
    assert np.isnan(frame.loc["rankme", "low"])
    assert list(Evaluation({}).to_frame().columns) == list(frame.columns)


def test_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtraError) as caught:
        small().to_frame()
    assert str(caught.value) == (
        "Evaluation.to_frame: pandas must be installed, because Evaluation.to_frame uses it. "
        "Got no such module. Install it with: pip install 'spherometer[dev]'."
    )


def test_measured_results_survive_json():
    z = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    e = sm.measure(z, z + 0.1, labels=[i % 3 for i in range(60)])
    assert Evaluation.from_json(e.to_json()) == e


def test_citation():
    assert "Tongzhou" in sm.citation("uniformity")
    assert sm.citation("rankme").startswith("@inproceedings{garrido2023rankme,")
    for name, nearest in (("uniformty", "uniformity"), ("RankMe", "rankme"), ("InfoNCE", "InfoNCELoss")):
        with pytest.raises(InputError) as caught:
            sm.citation(name)
        assert str(caught.value) == (
            f"citation: name must be a metric or a loss of this package, because only those have a source "
            f"here. Got {name!r}. Did you mean {nearest!r}."
        )
    with pytest.raises(InputError, match="Got None"):
        sm.citation(None)


def test_every_public_loss_has_a_citation():
    for name in vars(sm.losses):
        if not name.startswith("_") and callable(getattr(sm.losses, name)):
            assert sm.citation(name).startswith("@"), name


def test_a_file_of_the_first_schema_is_still_read():
    new = small().to_dict()
    old = {"measurements" if key == "metrics" else key: value for key, value in new.items()}
    old["schema"] = "spherometer.evaluation/1"
    assert Evaluation.from_dict(old) == small()
    with pytest.raises(InputError, match="'metrics'"):
        Evaluation.from_dict({**old, "schema": "spherometer.evaluation/2"})
