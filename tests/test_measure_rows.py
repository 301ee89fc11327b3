"""measure() on rows that pass by: the same numbers as in memory, for any format, budget and size of block."""

import json
import math

import numpy as np
import pytest
import torch

import spherometer as sm
from spherometer import _measure_rows, rows, stores
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError
from spherometer.metrics import _jackknife, _spectrum
from spherometer.metrics._streamed_spectrum import Grams

NUM, DIM = 9000, 12


def made(num=NUM, dim=DIM, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, dim, generator=generator) * torch.linspace(1, 0.2, dim) + 0.2
    return x, x + 0.2 * torch.randn(num, dim, generator=generator)


def metrics_of(evaluation):
    return json.dumps(evaluation.to_dict()["metrics"])


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(_measure_rows, "EXACT_ROWS", 1500)


def source(values, name="x"):
    return rows.ArrayRows(values, name)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("dim", [1, 7, 600])
def test_grams_give_the_singular_values_of_the_rows(centred, dim):
    x, _ = made(1000, dim)
    grams = Grams(1000, x[:300].mean(dim=0))
    for start in range(0, 1000, 300):
        grams.add(start, x[start : start + 300])
    whole, left_out = grams.singular_values(centred=centred)
    wanted = _spectrum.singular_values(x, centred=centred, exponent=0)
    assert torch.allclose(whole, wanted, rtol=1e-9, atol=1e-6)
    assert math.isclose(grams.norm(), float(x.double().norm()), rel_tol=1e-12)
    if dim > _jackknife.MAX_DIRECTIONS:
        assert left_out is None
        return
    others = _jackknife.left_out_singular_values(x, centred=centred, exponent=0)
    for one, other in zip(left_out, others, strict=True):
        assert torch.allclose(one, other, rtol=1e-9)


def test_few_rows_are_measured_as_arrays_are():
    x, y = made(500)
    assert metrics_of(sm.measure(source(x), source(y, "y"))) == metrics_of(sm.measure(x, y))
    labels = [i % 3 for i in range(500)]
    assert metrics_of(sm.measure(source(x), labels=labels)) == metrics_of(sm.measure(x, labels=labels))


@pytest.mark.usefixtures("few")
def test_one_pass_gives_what_arrays_give():
    x, y = made()
    got, wanted = sm.measure(source(x), source(y, "y")), sm.measure(x, y)
    assert list(got) == list(wanted)
    for name, one in wanted.items():
        if name == "lidar":
            assert got[name].settings["rows"] == "random subset of 1500 of 9000 rows, seed 0"
            assert got[name].num == 1500
            continue
        low, high = got[name].interval
        if "uniformity" in name and name != "wasserstein_uniformity":
            assert got[name].settings["estimated"] is True
            assert got[name].settings["num_draws"] == 64
            assert low < one.value < high
            continue
        assert math.isclose(got[name].value, one.value, rel_tol=1e-9), name
        assert math.isclose(low, one.interval[0], rel_tol=1e-6), name
        assert math.isclose(high, one.interval[1], rel_tol=1e-6), name
        assert got[name].num == NUM


@pytest.mark.usefixtures("few")
def test_exact_gives_what_arrays_give():
    x, y = made(5000)
    seen = []
    got = sm.measure(source(x), source(y, "y"), exact=True, progress=lambda *state: seen.append(state))
    wanted = sm.measure(x, y)
    for name in ("uniformity", "normalized_uniformity", "cross_uniformity"):
        assert math.isclose(got[name].value, wanted[name].value, rel_tol=1e-6), name
        assert math.isclose(got[name].interval[0], wanted[name].interval[0], rel_tol=1e-5), name
        assert "estimated" not in got[name].settings
    assert seen[:2] == [(4096, 5000, "rows read"), (5000, 5000, "rows read")]
    assert seen[-1][0] == seen[-1][1]
    assert seen[-1][2] == "blocks of pairs"


@pytest.mark.usefixtures("few")
def test_a_budget_changes_no_bit():
    x, y = made()
    labels = (x[:, 0] > 0).tolist()
    texts = {
        metrics_of(sm.measure(source(x), source(y, "y"), labels=labels, budget=budget))
        for budget in (64 << 20, 300 << 20, 1 << 30)
    }
    assert len(texts) == 1
    small = sm.measure(source(x), budget=1 << 20)
    assert small["uniformity"].settings["num_draws"] < 64
    low, high = small["uniformity"].interval
    assert low < sm.measure(x)["uniformity"].value < high


def written(place, kind, x):
    path = place / f"e.{kind}"
    if kind == "npy":
        np.save(path, x)
    elif kind == "npz":
        np.savez(path, x=x)
    elif kind == "safetensors":
        from safetensors.numpy import save_file

        save_file({"x": x}, path)
    elif kind == "pt":
        torch.save(torch.from_numpy(x), path)
    elif kind in ("csv", "tsv"):
        comma = "," if kind == "csv" else "\t"
        lines = [[f"x{k}" for k in range(x.shape[1])], *(map(str, row) for row in x.tolist())]
        path.write_text("".join(comma.join(line) + "\n" for line in lines))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"x": row}) + "\n" for row in x.tolist()))
    elif kind == "faiss":
        import faiss

        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x.astype(np.float32))
        faiss.write_index(index, str(path))
    else:
        import pyarrow as pa
        import pyarrow.feather
        import pyarrow.parquet

        flat = pa.array(x.ravel())
        table = pa.table({"x": pa.FixedSizeListArray.from_arrays(flat, x.shape[1])})
        if kind == "parquet":
            pyarrow.parquet.write_table(table, path, row_group_size=1100)
        elif kind == "arrow":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=700)
        else:
            pyarrow.feather.write_feather(table, path, compression="uncompressed")
    return path


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("num", [300, 5000])
def test_a_format_changes_no_bit(num, tmp_path):
    x = made(num)[0].half().numpy()
    wanted = sm.measure(source(torch.from_numpy(x)))
    if num == 300:
        assert metrics_of(wanted) == metrics_of(sm.measure(x))
    for kind in (
        "npy", "npz", "safetensors", "pt", "parquet", "feather", "arrow", "csv", "tsv", "jsonl", "faiss",
    ):  # fmt: skip
        path = written(tmp_path, kind, x)
        got = sm.measure(str(path))
        assert metrics_of(got) == metrics_of(wanted), kind
        assert [one["name"] for one in got.provenance["files"]] == [path.name]
        assert len(got.provenance["files"][0]["sha256"]) == 64
        assert sm.Evaluation.from_json(got.to_json()) == got


@pytest.mark.usefixtures("few")
def test_classes_and_portrait_are_those_of_a_stated_subset():
    x, y = made()
    labels = np.array(["left", "right"])[(x[:, 0] > 0).long().numpy()]
    ids = tuple(f"doc {i}" for i in range(NUM))
    given = rows.Embeddings(source(x), other=source(y, "y"), ids=ids, labels=labels)
    got = sm.measure(given, portrait=True, metadata={"height": x[:, 1].numpy()})
    for name in ("neighbor_purity", "tolerance", "conditional_uniformity", "lidar"):
        assert got[name].settings["rows"] == "random subset of 1500 of 9000 rows, seed 0"
    assert (got.portrait.num, got.portrait.num_total) == (1500, NUM)
    assert got.portrait.neighbors["outliers"][0]["id"].startswith("doc ")
    assert {row["name"] for row in got.portrait.groups[0]["rows"]} == {"left", "right"}
    assert sm.Evaluation.from_json(got.to_json()) == got
    whole = sm.measure(x[:500], labels=labels[:500], portrait=True)
    assert (whole.portrait.num, whole.portrait.num_total) == (500, 500)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("exact", [False, True])
def test_dropped_rows_are_counted_and_leave_the_others_as_they_are(exact):
    x, _ = made(5000)
    x[[3, 4100, 4999]] = math.nan
    got = sm.measure(source(x), nan="drop", exact=exact)
    wanted = sm.measure(x, nan="drop")
    assert got.notes == wanted.notes == ("3 rows with NaN or infinity dropped, 4997 kept.",)
    for name, one in wanted.items():
        assert got[name].num == 4997
        near = 1e-9 if "uniformity" not in name or "wasserstein" in name else (1e-6 if exact else 0.05)
        assert math.isclose(got[name].value, one.value, rel_tol=near), name


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("missing", [None, math.nan, ""])
def test_missing_labels_outside_the_subset_are_refused_or_counted(missing):
    x, _ = made(5000)
    inside = torch.zeros(5000, dtype=torch.bool)
    inside[_measure_rows.chosen_rows(5000, 1500, 0)] = True
    first, second = (~inside).nonzero()[[5, 9], 0].tolist()
    labels = ["left" if row[0] > 0 else "right" for row in x.tolist()]
    whole = sm.measure(rows.Embeddings(source(x), labels=labels), nan="drop")
    labels[first] = labels[second] = missing
    given = rows.Embeddings(source(x), labels=labels)
    with pytest.raises(InputError) as caught:
        sm.measure(given)
    assert str(caught.value) == (
        "measure: labels must be there for every row, because a missing label is not a class of its own. "
        f"Got 2 of 5000 labels None, NaN or empty, the first is label {first}. "
        'Remove those rows, or pass nan="drop" to leave them out.'
    )
    got = sm.measure(given, nan="drop")
    assert got.notes == ("2 rows without a label left out of the label metrics.",)
    assert metrics_of(got) == metrics_of(whole)  # the subset has all its labels
    x[second] = math.nan  # what is dropped for its numbers is not counted twice
    assert sm.measure(rows.Embeddings(source(x), labels=labels), nan="drop").notes == (
        "1 rows with NaN or infinity dropped, 4999 kept.",
        "1 rows without a label left out of the label metrics.",
    )


@pytest.mark.usefixtures("few")
def test_missing_labels_inside_the_subset_are_counted_over_all_rows():
    x, _ = made(5000)
    labels = np.where(x[:, 0] > 0, 1.0, 0.0)
    labels[::2] = math.nan
    got = sm.measure(rows.Embeddings(source(x), labels=labels), nan="drop")
    assert got.notes == ("2500 rows without a label left out of the label metrics.",)
    assert 600 < got["tolerance"].num < 900


def refusal(error, x, y=None, **options):
    with pytest.raises(error) as caught:
        sm.measure(source(x), None if y is None else source(y, "y"), **options)
    return str(caught.value)


@pytest.mark.usefixtures("few")
def test_refusals_name_the_row_in_the_whole():
    x, _ = made(5000)
    bad = x.clone()
    bad[4200:4202] = math.inf
    assert refusal(InputError, bad) == (
        "measure: x must be finite, because NaN or infinity in one row spoils every pair with it. Got 2 of "
        '5000 rows with NaN or infinity, the first is row 4200. Remove them, or pass nan="drop" to leave '
        "them out."
    )
    zero = x.clone()
    zero[4500] = 0
    with pytest.raises(NotOnSphereError) as caught:
        sm.measure(zero)
    assert refusal(NotOnSphereError, zero) == str(caught.value)
    unit = torch.nn.functional.normalize(x)
    unit[4300] *= 1.5
    with pytest.raises(NotOnSphereError) as caught:
        sm.measure(unit, normalize=False)
    assert refusal(NotOnSphereError, unit, normalize=False) == str(caught.value)
    assert "(5000, 12) and (4000, 12)" in refusal(ShapeError, x, x[:4000])
    with pytest.raises(ShapeError, match="labels must have one entry for each row"):
        sm.measure(source(x), labels=[0, 1])
    with pytest.raises(UndefinedError, match="at least 2 rows"):
        sm.measure(source(x[:1]))
    with pytest.raises(InputError, match="budget must be a whole number of at least 1048576"):
        sm.measure(x, budget=10)


@pytest.mark.usefixtures("few")
def test_spectra_that_do_not_fit_are_left_out_with_a_note():
    x = torch.randn(2000, 200, generator=torch.Generator().manual_seed(0))
    got = sm.measure(source(x), budget=2 << 20)
    assert "rankme" not in got
    assert got.notes == ("Spectra left out: 200 x 200 matrices do not fit a quarter of the budget of 2 MiB.",)


def test_files_that_change_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "e.npy"
    np.save(path, made(300)[0].numpy())
    opened = stores.open(path)
    np.save(path, made(301)[0].numpy())
    with pytest.raises(InputError, match=r"e\.npy"):
        sm.measure(opened)
