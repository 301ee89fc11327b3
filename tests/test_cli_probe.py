"""``spherometer probe``: the numbers of sm.probes on a stated split, messages, exit codes."""

import json
import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import spherometer as sm
from spherometer.cli import _probe_rows, main
from spherometer.probes import GCNClassifier, KNNProbe, LinearProbe, RidgeProbe, few_labels, stratified_split

NUM, DIM = 240, 6


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(num=NUM, seed=0):
    """Three overlapping classes of 1/2, 1/4 and 1/4 of the rows, and a number that is read linearly."""
    generator = np.random.default_rng(seed)
    y = np.array([0, 0, 1, 2])[np.arange(num) % 4]
    x = np.eye(3, DIM)[y] * 1.5 + generator.standard_normal((num, DIM))
    return x.astype(np.float32), y, (x @ np.arange(1, DIM + 1) + generator.standard_normal(num))


def saved(path="z.parquet", **changed):
    x, y, age = made()
    columns = {
        "features": list(x),
        "kind": np.array(["cat", "dog", "emu"])[y].tolist(),
        "age": age.tolist(),
        "part": ["test" if row % 3 == 0 else "train" for row in range(NUM)],
        **changed,
    }
    pq.write_table(pa.table(columns), path)
    return x.astype(np.float64), np.array(["cat", "dog", "emu"])[y], age


def run(capsys, *arguments):
    code = main(["probe", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def found(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_accuracies_are_those_of_the_probes(place, capsys):
    x, y, _ = saved()
    got = found(capsys, "z.parquet", "--labels", "kind", "--seed", 3)
    train, test = stratified_split(y, 0.2, 3)
    fit, apart = stratified_split(y[train], 0.2, 3)
    assert len(test) == 48
    linear = [
        LinearProbe(each).fit(x[train][fit], y[train][fit]).score(x[train][apart], y[train][apart])
        for each in (1e-4, 1e-3, 0.01, 0.1, 1, 10)
    ]
    strength = (1e-4, 1e-3, 0.01, 0.1, 1, 10)[int(np.argmax(linear))]
    near = [
        KNNProbe(k, metric="cosine").fit(x[train][fit], y[train][fit]).score(x[train][apart], y[train][apart])
        for k in (50, 20, 10, 5, 1)
    ]
    k = (50, 20, 10, 5, 1)[int(np.argmax(near))]
    for name, wanted, setting in (
        ("linear", LinearProbe(strength), ("strength", strength)),
        ("knn", KNNProbe(k, metric="cosine"), ("k", k)),
    ):
        one = got["metrics"][name]
        accuracy = wanted.fit(x[train], y[train]).score(x[test], y[test])
        assert one["value"] == accuracy
        assert one["interval"] == list(sm.probes.wilson_interval(accuracy, 48))
        assert one["settings"][setting[0]] == setting[1]
        assert one["settings"]["num_train"] == 192
        assert one["settings"]["seed"] == 3
        assert one["num"] == 48
        assert one["baseline"]["always the most frequent class"] == 0.5
        assert one["baseline"]["one of 3 classes at random"] == pytest.approx(1 / 3)
    assert got["provenance"]["files"][0]["name"] == "z.parquet"
    assert got == sm.Evaluation.from_json(json.dumps(got)).to_dict()


def test_nothing_is_chosen_on_test_rows(place, capsys):
    """Other labels of the test rows change the accuracy, and no setting."""
    _, y, _ = saved()
    before = found(
        capsys, "z.parquet", "--labels", "kind", "--split", "part", "--probe", "gcn", "--probe", "knn"
    )
    turned = [{"cat": "dog", "dog": "emu", "emu": "cat"}[name] if row % 3 == 0 else name
              for row, name in enumerate(y.tolist())]  # fmt: skip
    saved(kind=turned)
    after = found(
        capsys, "z.parquet", "--labels", "kind", "--split", "part", "--probe", "gcn", "--probe", "knn"
    )
    for name in ("gcn", "knn"):
        assert before["metrics"][name]["settings"] == after["metrics"][name]["settings"]
        assert before["metrics"][name]["value"] > 0.5 > after["metrics"][name]["value"]


def test_the_graph_classifier_reads_rows_without_labels(place, capsys):
    x, y, _ = saved()
    got = found(
        capsys, "z.parquet", "--labels", "kind", "--split", "part", "--probe", "gcn", "--few-labels", 12
    )
    test, train = np.arange(0, NUM, 3), np.array([row for row in range(NUM) if row % 3])
    known = train[few_labels(y[train], 12, seed=0)]
    unknown = np.setdiff1d(train, known)
    codes = np.concatenate([np.searchsorted(["cat", "dog", "emu"], y[known]), np.full(len(unknown), -1)])
    model = GCNClassifier(unlabeled=-1).fit(x[np.concatenate([known, unknown])], codes)
    wanted = np.mean(np.array(["cat", "dog", "emu"])[model.predict(x[test])] == y[test])
    assert got["metrics"]["gcn"]["value"] == wanted
    assert got["metrics"]["gcn"]["settings"]["unlabelled training rows"] == 148
    assert got["notes"][0] == "Fitted to 12 of 160 rows, tested on 80 others (column 'part')."


def test_numbers_are_read_by_ridge(place, capsys):
    x, _, age = saved()
    got = found(capsys, "z.parquet", "--target", "age", "--test-fraction", 0.25)["metrics"]
    train, test = stratified_split(age, 0.25, 0, numbers=True)
    probe = RidgeProbe().fit(x[train], age[train])
    wanted = probe.evaluate(x[test], age[test])
    assert list(got) == ["ridge_r2", "ridge_mae"]
    for name in ("r2", "mae"):
        one = got[f"ridge_{name}"]
        assert one["value"] == wanted[name].value
        assert one["interval"] == list(wanted[name].interval)
        assert one["settings"]["strength"] == probe.strength
    assert got["ridge_r2"]["value"] > 0.9


def test_kinds_of_files_give_the_same(place, capsys):
    x, y, _ = saved()
    codes = np.searchsorted(["cat", "dog", "emu"], y)
    np.save("z.npy", x.astype(np.float32))
    np.save("labels.npy", codes)
    np.savez("z.npz", x=x.astype(np.float32), labels=codes)
    (place / "labels.csv").write_text("kind\n" + "\n".join(y) + "\n")
    wanted = found(capsys, "z.parquet", "--labels", "kind")["metrics"]
    assert found(capsys, "z.npy", "--labels", "labels.npy")["metrics"] == wanted
    assert found(capsys, "z.npz")["metrics"] == wanted
    assert found(capsys, "z.npy", "--table", "labels.csv", "--labels", "kind")["metrics"] == wanted


def test_the_table_says_all_that_belongs_to_a_number(place, capsys):
    saved()
    code, out, err = run(
        capsys,
        "z.parquet",
        "--labels",
        "kind",
        "--fail-if",
        "linear<0.99",
        "--out",
        "p.json",
        "--probe",
        "linear",
    )
    assert (code, err) == (1, "spherometer: check failed: linear<0.99 for 'z.parquet'\n")
    for part in ("Linear probe: accuracy", "95 % interval", "0.5000 always the most frequent class", "48  higher",  # noqa: E501
                 "0.3333 one of 3 classes at random", "Note: linear: strength ", "training rows.",
                 "Note: Fitted to 192 rows, tested on 48 others (0.2 set apart, stratified, seed 0)."):  # fmt: skip  # noqa: E501
        assert part in out
    assert str(sm.Evaluation.from_json((place / "p.json").read_text())) + "\n" == out
    assert (
        run(capsys, "z.parquet", "--labels", "kind", "--fail-if", "linear<0.1", "--fail-if", "knn<0")[0] == 0
    )


def test_few_rows_are_probed_as_usual(place, capsys):
    saved(part=["train" if row < 12 else "test" for row in range(NUM)])
    got = found(capsys, "z.parquet", "--labels", "kind", "--split", "part")["metrics"]
    words = "as usual (12 training rows are too few to choose on)"
    assert got["linear"]["settings"]["chosen"] == got["knn"]["settings"]["chosen"] == words
    assert (got["linear"]["settings"]["strength"], got["knn"]["settings"]["k"]) == (1.0, 5)


def test_a_class_without_training_rows_counts_as_wrong(place, capsys):
    _, y, _ = saved()
    saved(part=["test" if name == "emu" or row % 8 == 0 else "train" for row, name in enumerate(y.tolist())])
    got = found(capsys, "z.parquet", "--labels", "kind", "--split", "part")
    assert "1 classes have no training row and count as wrong, e.g. 'emu'." in got["notes"]
    assert got["metrics"]["linear"]["value"] <= 30 / 90


def test_missing_labels_and_numbers(place, capsys):
    x, y, _ = saved()
    kinds = [None if row in (5, 9) else "" if row == 11 else name for row, name in enumerate(y.tolist())]
    rows = x.astype(np.float32)
    rows[20, 3] = math.nan
    saved(kind=kinds, features=list(rows))
    code, out, err = run(capsys, "z.parquet", "--labels", "kind")
    assert (code, out) == (2, "")
    assert err == (
        "spherometer: probe: every row must have a label, because nothing can be fitted or tested without. "
        "Got 3 of 240 rows without, the first is row 5. Complete them, or pass --nan drop to leave those rows "  # noqa: E501
        "out.\n"
    )
    got = found(capsys, "z.parquet", "--labels", "kind", "--nan", "drop")
    assert got["notes"][:2] == ["3 rows without a label left out.", "1 rows with NaN or infinity dropped."]
    assert got["metrics"]["knn"]["num"] + got["metrics"]["knn"]["settings"]["num_train"] == 236
    saved(features=list(rows))
    assert "1 of 240 rows with NaN or infinity, the first is row 20" in run(
        capsys, "z.parquet", "--labels", "kind"
    )[2]  # fmt: skip


def test_of_many_rows_a_random_subset_is_probed(place, capsys, monkeypatch):
    saved()
    monkeypatch.setattr(_probe_rows, "MOST_ROWS", 100)
    first, again, other = (
        found(capsys, "z.parquet", "--labels", "kind", "--seed", seed) for seed in (1, 1, 2)
    )
    assert first["metrics"] == again["metrics"] != other["metrics"]
    assert first["notes"][0] == "Of 240 rows a random subset of 100 is probed (seed 1)."
    assert first["metrics"]["knn"]["num"] == 20


SAME = ["z.parquet", "--labels", "kind"]
FAULTS = {
    "no labels": (["z.parquet"], "probe: --labels must say which classes the rows have"),
    "no file": (["no.npy", "--labels", "kind"], "open: file 'no.npy' must exist and be readable"),
    "no column": (["z.parquet", "--labels", "kin"], "Did you mean 'kind'"),
    "one class": (["z.parquet", "--labels", "one"], "Got 1 in 240 rows ('a'). Name another column."),
    "all differ": (["z.parquet", "--labels", "age"], "Got 240 rows, all with different labels."),
    "a table": (["z.parquet", "--labels", "a.csv"], "Pass --table a.csv --labels COLUMN."),
    "ridge": ([*SAME, "--probe", "ridge"], "probe: --target must be given with --probe ridge"),
    "classes": (["z.parquet", "--target", "age", "--probe", "knn"], "--labels must be given with --probe knn"),  # noqa: E501
    "no numbers": (["z.parquet", "--target", "kind"], "Pass --labels kind for classes."),
    "a constant": (["z.parquet", "--target", "flat"], "the target must vary in the training rows"),
    "split": ([*SAME, "--split", "kind"], "Got 240 of 240 rows with something else, the first is row 0 with 'cat'"),  # noqa: E501
    "one side": ([*SAME, "--split", "all"], "--split must leave rows for test"),
    "one side's classes": ([*SAME, "--split", "cats"], "Got 'cat' alone."),
    "fraction": ([*SAME, "--test-fraction", "1"], "--test-fraction must lie between 0 and 1"),
    "few": ([*SAME, "--few-labels", "2"], "probe: --few-labels must lie between 3 and 192"),
    "memory": ([*SAME, "--memory", "9"], "probe: --memory must be a size"),
    "condition": ([*SAME, "--fail-if", "linear"], "Pass for instance --fail-if 'linear<0.9'."),
    "its name": ([*SAME, "--fail-if", "ridge_r2<1"], "probe: --fail-if must name something that was measured"),  # noqa: E501
    "its labels": (["z.npy", "--labels", "short.npy"], "Got shape (3,) for 240 rows."),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_one_line(name, place, capsys):
    arguments, words = FAULTS[name]
    _, y, _ = saved()
    saved(
        one=["a"] * NUM, flat=[1.0] * NUM, all=["train"] * NUM,
        cats=["train" if each == "cat" else "test" for each in y.tolist()],
    )  # fmt: skip
    np.save("z.npy", made()[0])
    np.save("short.npy", np.arange(3))
    code, out, err = run(capsys, *arguments, "--out", "p.json")
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("spherometer: ")
    assert err.count("\n") == 1
    assert not (place / "p.json").exists()


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom spherometer.cli import main\nassert main(['probe', '--help']) == 0\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--few-labels" in done.stdout
    assert "of the training labels" in done.stdout
