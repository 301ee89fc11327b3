"""Comparing two sets: errors against definitions, joins, verdicts, drift, the record."""

import json
import math

import numpy as np
import pytest
import torch
import typer
from scipy import stats
from typer.testing import CliRunner

from spherometer import pairs, rows, sphere, stores
from spherometer._compare import Comparison, compare
from spherometer._compare import _verdicts as verdicts
from spherometer._compare._sides import joined
from spherometer.cli import _compare as command
from spherometer.errors import InputError, ShapeError
from spherometer.metrics import _similarity


def made(num=60, dim=6, seed=0):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel(z, t):
    k = (-t * torch.cdist(z, z).square()).exp()
    return k.fill_diagonal_(0)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, 0.3)])
@pytest.mark.parametrize(("num", "t"), [(9, 2.0), (700, 0.5)])
def test_the_paired_error_is_that_of_the_definition(num, t, weights):
    a, b = sphere.normalize(made(num)), sphere.normalize(made(num, 9, 1))
    ks = [kernel(z, t) for z in (a, b)]
    means = [k.sum() / (num * (num - 1)) for k in ks]
    h = weights[0] * ks[0] / means[0] - weights[1] * ks[1] / means[1]
    mean = h.sum() / (num * (num - 1))
    squares = h.square().sum()
    products = h.sum(1).square().sum() - squares
    first = products / (num * (num - 1) * (num - 2))
    second = squares / (num * (num - 1))
    apart = (h.sum() ** 2 - 4 * products - 2 * squares) / (num * (num - 1) * (num - 2) * (num - 3))
    least = 2 * (second - apart) / (num * (num - 1))
    expected = max(4 * (num - 2) * (first - apart) / (num * (num - 1)) + least, least)
    found = pairs.paired_standard_error(a, b, t, [float(m.log()) for m in means], weights)
    assert found == pytest.approx(math.sqrt(float(expected)), rel=1e-9)
    assert mean == pytest.approx(weights[0] - weights[1], abs=1e-12)


def test_the_discrepancy_is_that_of_the_definition():
    z = sphere.normalize(made(310))
    members = torch.rand(3, 310, generator=torch.Generator().manual_seed(1)).argsort(1) < 120
    found = pairs.discrepancy(z, 120, members, 2.0)
    own = torch.arange(310) < 120
    k = kernel(z, 2.0)
    for value, first in zip([found.value, *found.regrouped], [own, *members], strict=True):
        x, y, xy = k[first][:, first].sum(), k[~first][:, ~first].sum(), k[first][:, ~first].mean()
        assert float(value) == pytest.approx(float(x / (120 * 119) + y / (190 * 189) - 2 * xy), abs=1e-12)


@pytest.mark.parametrize("freedom", [1.0, 2.5, 19.0, 400.0, math.inf])
def test_students_t(freedom):
    law = stats.norm if math.isinf(freedom) else stats.t(freedom)
    for value in (0.0, 0.3, 2.0, 11.0):
        assert verdicts.student_p(-value, freedom) == pytest.approx(2 * law.sf(value), rel=1e-9)
    assert verdicts.student_quantile(0.975, freedom) == pytest.approx(law.ppf(0.975), rel=1e-9)


def test_holm():
    assert verdicts.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert verdicts.holm([]) == []


def test_similarity_is_that_of_the_definition():
    x, y = made(30, 5), made(30, 40, 1)
    centring = torch.eye(30, dtype=torch.float64) - 1 / 30
    k, w = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    plain = (k * w).sum() / (k.norm() * w.norm())
    assert _similarity.linear_cka(x, y) == pytest.approx(float(plain), rel=1e-10)

    def criterion(k, w):
        k, w = k.clone().fill_diagonal_(0), w.clone().fill_diagonal_(0)
        one = torch.ones(30, dtype=torch.float64)
        value = torch.trace(k @ w) + (one @ k @ one) * (one @ w @ one) / (29 * 28)
        return value - 2 * (one @ k @ w @ one) / 28

    debiased = criterion(k, w) / (criterion(k, k) * criterion(w, w)).sqrt()
    assert _similarity.debiased_cka(x, y) == pytest.approx(float(debiased), rel=1e-9)
    assert _similarity.debiased_cka(x, 3 * x) == pytest.approx(1)
    assert _similarity.linear_cka(x, torch.ones(30, 2)) is None
    assert _similarity.neighbor_overlap(x, 2 * x, k=5).value == 1
    found = _similarity.neighbor_overlap(made(400, 5), made(400, 5, 1), k=10)
    assert found.baseline == 10 / 399
    assert found.value == pytest.approx(found.baseline, abs=0.01)


def test_identical_sets_are_not_distinguishable():
    z, y = made(), made(seed=1)
    found = compare((z, y), (z.clone(), y.clone()), drift=True)
    assert found.verdict == "not distinguishable"
    for one in found.metrics.values():
        assert one.difference == 0
        assert one.verdict in (None, "not distinguishable")
    assert found.drift["mmd"]["verdict"] == "no drift shown"
    assert found.drift["neighbor_overlap"]["value"] == 1
    assert found.drift["num_shifted"] == 0


def test_a_rotation_is_no_difference():
    z = made(100, 8).float()
    rotation = torch.linalg.qr(made(8, 8, 3)).Q.float()
    found = compare(z, z @ rotation)
    assert {one.verdict for one in found.metrics.values()} <= {None, "not distinguishable"}


def test_collapsed_sets():
    z = torch.ones(50, 4)
    found = compare(z, z.clone())
    assert found["uniformity"].verdict == "not distinguishable"
    assert compare(z, made(50, 4).float()).metrics["wasserstein_uniformity"].verdict == "better"


def test_a_true_difference_is_found_and_has_a_direction():
    z = made(300, 8)
    noise = made(300, 8, 1)
    found = compare((z, z + 0.6 * noise), (z, z + 0.5 * noise))
    assert found["alignment"].verdict == "better"
    assert found.verdict == "better"
    assert compare((z, z + 0.5 * noise), (z, z + 0.6 * noise)).verdict == "worse"
    stretched = z * torch.tensor([2.0] + [1.0] * 7)
    mixed = compare((z, z + 0.6 * noise), (stretched, stretched + 0.4 * noise))
    assert mixed.verdict == "mixed"
    assert mixed.words == "b is better aligned and less uniform than a."


def test_pairing_makes_intervals_shorter():
    z = made(200, 8)
    other = z + 0.05 * made(200, 8, 1)
    paired, apart = (compare(z, other, paired=each)["uniformity"].interval for each in (True, False))
    assert paired[1] - paired[0] < 0.5 * (apart[1] - apart[0])


def test_rows_are_joined_by_id_whatever_their_order():
    z, other = made(80), made(80, seed=1)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(2))
    ids = [f"doc {k}" for k in range(80)]
    straight = compare(z, other, id=(ids, ids))
    shuffled = compare(z, other[order], id=(ids, [ids[k] for k in order]))
    assert straight.to_json() == shuffled.to_json()
    assert straight.num_shared == 80


def test_joins():
    assert joined(["a", "b", "c"], ["c", "x", "a"], missing="drop") == ([0, 2], [2, 0], 1, 1)
    with pytest.raises(InputError) as caught:
        joined(["a", "b"], ["a", "c"])
    assert str(caught.value) == (
        "compare: id must name the same rows on both sides, because rows are joined by id. Got 1 ids only in "
        "a, 1 only in b, 1 in both; such as 'b', 'c'. Pass missing=\"drop\" to compare the shared rows."
    )
    with pytest.raises(InputError, match=r"be different for each row of b.*1 repeated, such as 'a'"):
        joined(["a"], ["a", "a"])
    with pytest.raises(InputError, match="Look at the columns of ids"):
        joined(["a"], ["b"], missing="drop")


def test_ids_on_one_side_are_refused():
    a = rows.Embeddings(rows.ArrayRows(made(10)), ids=[str(k) for k in range(10)])
    with pytest.raises(InputError) as caught:
        compare(a, made(10))
    assert str(caught.value) == (
        "compare: id must be known on both sides or on neither, because rows are joined by id, never by "
        "position where ids exist. Got ids only in a. Pass id=(ids of a, ids of b), or paired=False for "
        "independent samples."
    )


def test_refusals():
    z = made(30)
    with pytest.raises(ShapeError, match=r"b must have as many rows as a.*30 and 20 rows"):
        compare(z, z[:20], paired=True)
    with pytest.raises(ShapeError, match="drift must be of sets with the same dimensions"):
        compare(z, made(20, 3), drift=True)
    with pytest.raises(ShapeError, match="2 entries for 30 rows"):
        compare(z, z, id=(["a", "b"], ["a", "b"]))
    with pytest.raises(InputError, match="id must be two lists"):
        compare(z, z, id=["a", "b"])
    with pytest.raises(InputError, match="paired must be"):
        compare(z, z, paired="perhaps")
    bad = z.clone()
    bad[3, 0] = math.nan
    with pytest.raises(InputError, match="b must be finite"):
        compare(z, bad)
    found = compare(z, bad, nan="drop")
    assert found.num == (29, 29)
    assert "1 rows with NaN or infinity dropped from b." in found.notes


def test_different_dimensions_and_numbers():
    found = compare(made(100, 6), made(100, 12))
    assert found["uniformity"].verdict is None
    assert found["normalized_uniformity"].verdict == "not distinguishable"
    assert found["rankme"].verdict is None
    assert found.drift is None
    apart = compare(made(100, 6), made(80, 6, 1))
    assert not apart.paired
    assert apart["rankme"].verdict is None
    assert apart["uniformity"].verdict == "not distinguishable"
    assert apart.drift["mmd"]["num"] == [100, 80]


def test_drift_is_found_and_located():
    z, moved = made(150), made(150, seed=1)
    moved[:, 2] += 0.8
    labels = ["x", "y"] * 75
    found = compare(z, moved, paired=False, labels=(labels, labels)).drift
    assert found["mmd"]["verdict"] == "drift"
    assert found["dimensions"][0]["dimension"] == 2
    assert found["dimensions"][0]["shift"] == pytest.approx(0.8, abs=0.3)
    assert found["num_shifted"] == 1
    assert [each["label"] for each in found["classes"]] == ["x", "y"]
    assert all(each["p_holm"] < 0.05 for each in found["classes"])


def test_large_sets_are_a_stated_subset(monkeypatch):
    monkeypatch.setattr("spherometer._compare._sides.EXACT", 50)
    found = compare(made(80), made(80, seed=1), seed=3)
    assert found.num == (50, 50)
    assert "Compared on a random subset of 50 of 80 rows, seed 3." in found.notes


def test_the_record_survives_json_and_refuses_anything_else():
    found = compare((made(), made(seed=1)), (made(seed=2), made(seed=3)), drift=True)
    again = Comparison.from_json(found.to_json())
    assert again.to_json() == found.to_json()
    assert str(again) == str(found)
    assert json.loads(found.to_json())["schema"] == "spherometer.comparison/1"
    document = found.to_dict()
    for name, value in (
        ("schema", "other"), ("names", ["a"]), ("paired", 1), ("num", [1]), ("overall", {}), ("notes", [1]),
        ("metrics", {"x": {}}), ("drift", {"mmd": None}), ("evaluations", []), ("settings", None),
    ):  # fmt: skip
        with pytest.raises(InputError, match="Comparison: document must"):
            Comparison.from_dict({**document, name: value})
    for text in ("{", "[]", "NaN", '{"a": 1e999}'):
        with pytest.raises(InputError):
            Comparison.from_json(text)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("old.npy", made(60).numpy())
    np.save("new.npy", made(60, seed=1).numpy() * [3, 1, 1, 1, 1, 1])

    def opener(path, **options):
        return rows.Embeddings(rows.ArrayRows(np.load(path), path.name))

    monkeypatch.setattr(stores, "open", opener, raising=False)
    app = typer.Typer()
    app.command("compare")(command.compare)
    app.command("nothing")(lambda: None)
    return lambda *arguments: CliRunner().invoke(app, ["compare", *arguments], standalone_mode=False)


def test_the_command(run, tmp_path):
    result = run("old.npy", "new.npy", "--out", "found.json", "--report", "page.html", "--fail-if-worse")
    assert result.return_value == 1
    assert result.stdout.startswith("new.npy against old.npy: worse\n")
    found = Comparison.from_json((tmp_path / "found.json").read_text())
    assert found.names == ("old.npy", "new.npy")
    assert "new.npy" in (tmp_path / "page.html").read_text()
    result = run("new.npy", "old.npy", "--fail-if-worse", "--json")
    assert result.return_value == 0
    assert Comparison.from_json(result.stdout).verdict == "better"


def test_spectra_get_no_verdict_where_null_trials_alarmed_too_often():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(499, 8, generator=generator) for _ in range(2))
    for found in (compare(x, y), compare(x[:, :8], y)):
        assert found["rankme"].verdict is None
        assert "fewer than 500 rows" in found["rankme"].method
        assert found["wasserstein_uniformity"].verdict is not None
    x, y = (torch.randn(600, 8, generator=generator) for _ in range(2))
    assert compare(x, y)["participation_ratio"].verdict is not None
    x[3] *= 20
    assert "much longer than the others" in compare(x, y)["participation_ratio"].method


def test_names_of_columns_open_files(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator).numpy()
    np.savez(tmp_path / "a.npz", x=x, doc_name=np.arange(60), kind=np.arange(60) % 2)
    np.savez(tmp_path / "b.npz", x=x[::-1], doc_name=np.arange(60)[::-1], kind=np.arange(60) % 2)
    found = compare(str(tmp_path / "a.npz"), tmp_path / "b.npz", id="doc_name", labels="kind")
    assert found.num_shared == 60
    assert found["uniformity"].difference == 0
