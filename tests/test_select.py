"""Choosing without labels: scores and ranks, names, files, doubts, judgement by known results, JSON."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spherometer as sm
from spherometer import rows
from spherometer._select import CRITERIA, Selection, _candidates, _criteria, _names, select
from spherometer._selection import chance_quality, selection_quality, standardized_sum
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError
from spherometer.losses import info_nce_loss


def message(call, error=InputError):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return str(caught.value)


def pair(noise, num=120, dim=6, seed=0):
    """Two views of isotropic rows; the noise sets the alignment and changes nothing else."""
    generator = torch.Generator().manual_seed(seed)
    x, other = (torch.randn(num, dim, generator=generator) for _ in range(2))
    return x, x + noise * other


NOISES = {"a/step=1": 1.5, "a/step=2": 0.9, "a/step=10": 0.2, "b/epoch_03": 0.5, "c": 0.05, "d": 3.0}


@pytest.fixture(scope="module")
def candidates():
    return {name: pair(noise) for name, noise in NOISES.items()}


@pytest.fixture(scope="module")
def selection(candidates):
    return select(candidates)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A directory of checkpoints, and an opener of its archives."""

    def opener(path, pairs):
        assert pairs  # those with the usual names are wanted
        with np.load(path) as archive:
            x, y = (rows.ArrayRows(archive[name], name) for name in "xy")
            ids = archive["ids"].tolist() if "ids" in archive else None
        return rows.Embeddings(x, y, ids=ids)

    monkeypatch.setattr(rows, "_openers", [opener])
    for name, noise in NOISES.items():
        x, y = pair(noise)
        path = tmp_path / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, x=x.numpy(), y=y.numpy())
    return tmp_path


# --- ranking --------------------------------------------------------------------------------------------


def test_the_order_is_that_of_the_criterion(selection):
    assert [each.name for each in selection] == sorted(NOISES, key=NOISES.get)
    assert [each.rank for each in selection] == [1, 2, 3, 4, 5, 6]
    assert selection.criterion == "sum"
    assert selection.best is selection["c"]
    with pytest.raises(KeyError):
        selection["e"]


def test_scores_are_the_measured_values(candidates, selection):
    for each in selection:
        e = sm.measure(*candidates[each.name])
        for key in ("alignment", "uniformity", "rankme"):
            assert each.metrics[key]["value"] == e[key].value
            assert each.metrics[key]["interval"] == list(e[key].interval)
        place = [other.name for other in selection].index(each.name)
        assert selection.scores["uniformity"][place] == e["uniformity"].value
        assert selection.scores["alpha_req"][place] == abs(each.metrics["alpha_req"]["value"] - 1)
        x, y = candidates[each.name]
        assert math.isclose(
            each.metrics["lidar"]["value"], float(sm.lidar(torch.stack([x, y], 1))), rel_tol=1e-6
        )
    names = [each.name for each in selection]
    alignment = [selection[name].metrics["alignment"]["value"] for name in names]
    assert np.allclose(selection.scores["sum"], standardized_sum(alignment))  # uniformity does not vary


def test_the_sum_is_that_of_the_studies():
    metrics = [
        {
            "alignment": {"value": a, "interval": [a - 0.1, a + 0.1]},
            "uniformity": {"value": u, "interval": None},
        }
        for a, u in ((0.1, -2.0), (0.5, -3.0), (1.5, -3.5))
    ]
    values, ends = _criteria.score("sum", metrics)
    assert np.allclose(values, standardized_sum([0.1, 0.5, 1.5], [-2.0, -3.0, -3.5]))
    assert ends == [None] * 3
    for one in metrics:
        one["uniformity"]["interval"] = [one["uniformity"]["value"] - 0.2, one["uniformity"]["value"] + 0.2]
    half = math.hypot(0.1 / np.std([0.1, 0.5, 1.5]), 0.2 / np.std([-2.0, -3.0, -3.5]))
    for value, (low, high) in zip(*_criteria.score("sum", metrics), strict=True):
        assert math.isclose(value - low, half)
        assert math.isclose(high - value, half)
    assert _criteria.score("sum", metrics[:1] * 3)[0] == [None] * 3


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_is_the_one_of_training(temperature):
    x, y = pair(0.4)
    found = select({"a": (x, y), "b": (y, x)}, temperature=temperature)["a"].metrics["info_nce"]
    assert math.isclose(found["value"], float(info_nce_loss(x, y, temperature=temperature)), rel_tol=1e-5)
    assert found["label"] == f"InfoNCE loss of 120 pairs (temperature {temperature:g})"


def test_the_interval_of_the_loss_covers_what_other_rows_give():
    """Over 300 sets of pairs: as often as it should, and no wider than needed."""
    losses, half = [], []
    for seed in range(300):
        x, y = pair(0.7, num=200, dim=3, seed=seed)
        found = _candidates._info_nce(x, y, 0.5, 0, {})
        losses.append(found["value"])
        half.append((found["interval"][1] - found["interval"][0]) / 2)
    ratio = np.mean(half) / (1.96 * np.std(losses))
    assert 0.85 < ratio < 1.2
    covered = np.mean(np.abs(np.array(losses) - np.mean(losses)) < half)
    assert 0.91 < covered < 0.99


def test_the_loss_of_many_pairs_is_taken_of_the_same_ones():
    x, y = pair(0.4, num=1500)
    found = _candidates._info_nce(x, y, 0.5, 3, {})
    assert "1024 pairs" in found["label"]
    chosen = torch.randperm(1500, generator=torch.Generator().manual_seed(3))[:1024].sort().values
    assert math.isclose(found["value"], float(info_nce_loss(x[chosen], y[chosen])), rel_tol=1e-5)


@given(
    st.lists(st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.5, -3.0])), min_size=2, max_size=9),
    st.booleans(),
)
def test_ranks_order_and_ties(scores, lower):
    ranks, order = _criteria.ranks(scores, lower), _criteria.order(scores, lower)
    assert sorted(order) == list(range(len(scores)))
    known = sorted((value for value in scores if value is not None), reverse=not lower)
    assert [scores[place] for place in order if scores[place] is not None] == known
    for value, rank in zip(scores, ranks, strict=True):
        assert rank == (None if value is None else 1 + known.index(value))
    tied = _criteria.ties(scores, [None] * len(scores), lower)
    assert tied == [rank == 1 for rank in ranks]


def test_overlapping_intervals_are_ties():
    ends = [(0.0, 2.0), (1.9, 5.0), (2.1, 3.0), None]
    assert _criteria.ties([1.0, 3.0, 2.5, 1.5], ends, True) == [True, True, False, True]


def test_the_distance_from_a_target_has_an_interval():
    def ends_of(low, value, high):
        metrics = [{"alpha_req": {"value": value, "interval": [low, high]}}] * 2
        values, ends = _criteria.score("alpha_req", metrics)
        return values[0], ends[0]

    assert ends_of(0.5, 0.75, 1.5) == (0.25, (0.0, 0.5))
    assert ends_of(1.25, 1.5, 2.0) == (0.5, (0.25, 1.0))


def test_the_front():
    def at(alignment, uniformity):
        return {"alignment": {"value": alignment}, "uniformity": {"value": uniformity}}

    points = [at(0.1, -1.0), at(0.2, -2.0), at(0.2, -1.5), at(0.3, -2.0), at(0.1, -1.0), {}]
    assert _criteria.front(points) == [True, True, False, False, True, False]


def test_kinds_of_candidates(candidates):
    x, y = pair(0.4)
    more = torch.stack([x, y, x + 0.1, y - 0.1], dim=1)
    found = select({
        "tensors": (x, y), "arrays": (x.numpy(), y.numpy()), "views": more, "evaluation": sm.measure(x, y),
        "rows": rows.Embeddings(rows.ArrayRows(x), rows.ArrayRows(y)), "later": lambda: (x, y),
    }, criterion="alignment")  # fmt: skip
    values = {
        name: found[name].metrics["alignment"]["value"] for name in ("tensors", "views", "rows", "later")
    }
    assert len(set(values.values())) == 1
    assert math.isclose(found["arrays"].metrics["alignment"]["value"], values["rows"], rel_tol=1e-6)
    assert found["views"].metrics["lidar"]["label"] == "LiDAR (4 views)"
    assert math.isclose(found["views"].metrics["lidar"]["value"], float(sm.lidar(more)), rel_tol=1e-6)
    assert "info_nce" not in found["evaluation"].metrics


def test_large_sets_are_read_in_pieces(monkeypatch):
    seen = []

    def whole(source, **options):
        seen.append(type(source))
        return sm.measure(source.read(0, len(source)), source.other.read(0, len(source)), **options)

    monkeypatch.setattr(_candidates, "measure", whole)
    monkeypatch.setattr(_candidates, "EXACT", 50)
    x, y = pair(0.4)
    stored = rows.Embeddings(rows.ArrayRows(x), rows.ArrayRows(y))
    found = select({"a": stored, "b": stored})
    assert seen == [rows.Embeddings] * 2
    assert math.isclose(
        found["a"].metrics["info_nce"]["value"], float(info_nce_loss(x, y, temperature=0.2)), rel_tol=1e-5
    )


def test_dimensions_may_differ(candidates):
    found = select({"six": candidates["c"], "nine": pair(0.05, dim=9)}, criterion="uniformity")
    assert list(found.scores["uniformity"]) == sorted(e.metrics["uniformity"]["value"] for e in found)
    assert [each.name for each in found] == ["nine", "six"]
    assert any(warning.startswith("Dimensions differ:") for warning in found.warnings)
    evaluations = {"a": sm.measure(pair(0.1)[0]), "b": sm.measure(pair(0.1, dim=9)[0])}
    assert any(warning.startswith("Dimensions differ:") for warning in select(evaluations).warnings)


# --- doubts ---------------------------------------------------------------------------------------------


def test_without_pairs_there_is_a_warning():
    found = select({str(seed): pair(0.1, seed=seed)[0] for seed in range(6)})
    assert found.criterion == "rankme"
    assert found.warnings[0] == (
        "No alignment for " + ", ".join(each.name for each in found.candidates[:4]) + " and 2 more: without "
        "positive pairs a collapsed or scattered encoder can come first; neither rank nor uniformity alone "
        "was shown to be better than chance in our studies."
    )
    assert not found.front


def test_the_default_follows_what_every_candidate_has(candidates):
    evaluations = {name: sm.measure(*each) for name, each in candidates.items()}
    assert select(evaluations).criterion == "sum"
    mixed = {**evaluations, "alone": pair(0.1)[0]}
    found = select(mixed)
    assert found.criterion == "rankme"
    found = select(mixed, criterion="sum")
    assert found["alone"].rank is None
    assert found["alone"].score is None
    assert found.candidates[-1].name == "alone"
    assert "Not ranked, because Standardised alignment + uniformity is missing: alone." in found.warnings


def test_few_tied_and_different_rows():
    found = select({"a": pair(0.5), "b": pair(0.51), "c": pair(2.0, num=90)}, criterion="alignment")
    assert found.warnings[0] == "3 candidates are few: by chance alone one of them comes first."
    assert found["b"].tied_with_best
    assert not found["c"].tied_with_best
    assert found.warnings[1].startswith("The intervals of b overlap that of a: this criterion does not tell")
    assert "Candidates have 90 to 120 rows: ranks and losses depend on that number." in found.warnings
    ids = [
        rows.Embeddings(*map(rows.ArrayRows, pair(0.3)), ids=[f"{prefix}{row}" for row in range(120)])
        for prefix in "ab"
    ]
    found = select(dict(zip("ab", ids, strict=True)))
    assert any(warning.startswith("Candidates have different ids") for warning in found.warnings)


def test_a_collapsed_candidate_is_named(candidates):
    found = select({**candidates, "point": (torch.ones(120, 6), torch.ones(120, 6))})
    assert (
        "All rows lie almost at one point for point: such encoders stretch the scale on which the others are "
        "compared; leave them out."
    ) in found.warnings


# --- judgement ------------------------------------------------------------------------------------------


def test_quality_of_every_criterion(candidates):
    performance = {"a/step=1": 0.5, "a/step=2": 0.6, "a/step=10": 0.9, "b/epoch_03": 0.7, "c": 0.8, "d": 0.3}
    found = select(candidates, performance=performance, groups={name: name for name in candidates})
    names = [each.name for each in found]
    for key, values in found.scores.items():
        if key not in found.quality:
            assert any(note.startswith(f"{CRITERIA[key].label}: not judged") for note in found.notes)
            continue
        wanted = selection_quality(
            list(values), [performance[name] for name in names], groups=names,
            lower_is_better=CRITERIA[key].lower,
        ).to_dict()  # fmt: skip
        assert found.quality[key] == wanted | {"picked": names[wanted["picked"]]}
    assert found.chance == chance_quality([performance[name] for name in names], groups=names).to_dict()
    assert found.relation is None
    assert any(note.startswith("No relation to alignment and uniformity:") for note in found.notes)
    assert "Chance" in str(found)
    assert found.quality["info_nce"]["regret"]["value"] == pytest.approx(0.1)


def test_a_criterion_that_chooses_badly_is_called_so():
    many = {f"e{place}": pair(0.1 + place / 5) for place in range(9)}
    found = select(many, performance={name: place for place, name in enumerate(many)})
    assert found.quality["info_nce"]["rank_correlation"]["value"] == pytest.approx(-1)
    said = " ".join(found.warnings)
    assert (
        "Standardised alignment + uniformity does not order these candidates as their performance does"
        in said
    )
    assert "Its pick loses 8, a blind one 4." in said
    assert found.relation is None  # the noise changes one of the two only
    assert any("uniform must vary" in note for note in found.notes)


def test_the_relation_is_there_when_both_vary():
    generator = np.random.default_rng(0)
    scaled = {}
    for place in range(9):
        x, y = pair(0.1 + place / 5)
        scale = torch.ones(6)
        scale[: place % 5] = 0.1
        scaled[f"e{place}"] = x * scale, y * scale
    found = select(scaled, performance={name: generator.normal() for name in scaled})
    assert found.relation["num"] == 9
    assert found.relation["p_value"] > 0.05
    assert any(each.startswith("Alignment and uniformity say little") for each in found.warnings)


def test_runs_are_one_group(candidates):
    performance = {name: -noise for name, noise in NOISES.items()}
    found = select(candidates, performance=performance)
    assert found.quality["info_nce"]["num"] == 6
    assert found.quality["info_nce"]["num_groups"] == 4  # run a, run b, c, d


def test_some_without_a_result(candidates):
    found = select(candidates, performance={"c": 1.0, "d": 0.5})
    assert "4 candidates without a performance are ranked, not judged." in found.notes
    assert any(note.startswith("No criterion was judged: chance_quality:") for note in found.notes)
    assert found.quality is None
    assert found["c"].performance == 1.0


# --- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "run", "step"),
    [
        ("step=100", None, 100.0), ("epoch_03", None, 3.0), ("run/ckpt-100", "run", 100.0),
        ("run/checkpoint-5000", "run", 5000.0), ("lr0.1_step200", "lr0.1", 200.0), ("m/20", "m", 20.0),
        ("epoch=3-step=1200", None, 1200.0), ("ep3_seed1", "seed1", 3.0), ("global_step100", None, 100.0),
        ("resnet50", None, None), ("bert-base-12", None, None), ("deep3", None, None), ("a/1/2", None, None),
        ("misstep1", None, None), ("runs/Epoch12/x", "runs/x", 12.0), ("iter_7.5k", None, None),
    ],
)  # fmt: skip
def test_runs_and_steps(name, run, step):
    assert _names.run_and_step(name) == (run, step)


def test_trajectories(selection):
    assert {run: [each.step for each in saved] for run, saved in selection.trajectories.items()} == {
        "a": [1.0, 2.0, 10.0]
    }


# --- files ----------------------------------------------------------------------------------------------


def test_a_directory(files, selection):
    (files / "README.md").write_text("not a candidate")
    (files / ".hidden.npz").write_bytes(b"")
    (files / "results.csv").write_text("name,performance\nc,1\nd,0.2\na/step=1,.5\n")
    found = select(files, performance=files / "results.csv")
    assert [each.name for each in found] == [each.name for each in selection]
    assert found["c"].performance == 1.0
    assert found["d"].metrics["alignment"]["value"] == pytest.approx(
        selection["d"].metrics["alignment"]["value"], rel=1e-6
    )
    assert set(found.quality) <= set(CRITERIA)


def test_a_directory_of_evaluations(tmp_path, candidates):
    for name, each in candidates.items():
        sm.measure(*each).to_json(tmp_path / f"{name.replace('/', '-')}.json")
    found = select(str(tmp_path))
    assert found.best.name == "c"
    assert found.criterion == "sum"
    assert found["a-step=10"].step == 10


def test_features_go_before_evaluations(files):
    sm.measure(pair(0.1)[0]).to_json(files / "c.json")
    assert "1 .json files left out: the directory holds features." in select(files).notes


def test_a_data_set_saved_as_a_directory_is_one_candidate(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{}")
        (tmp_path / name / "data.arrow").write_bytes(b"")
    found, _ = _names.candidates_of(tmp_path)
    assert found == {name: tmp_path / name for name in ("one", "two")}


def test_tables_of_results(tmp_path):
    table = tmp_path / "r.tsv"
    table.write_text("model\tseed\tperformance\nc\t1\t0.5\nd\t2\t\n\n", encoding="utf-8-sig")
    assert _names.performances(table, ["c", "d"]) == {"c": 0.5}
    table.write_text("model\taccuracy\nc\t0.5\n")
    assert _names.performances(table, ["c", "d"]) == {"c": 0.5}
    grammar = "select: performance must "
    for text, what in {
        "name\n": "have a header and two columns",
        "name\tx\nc\n": "have 2 cells in every line",
        "name\tx\nc\t1\nc\t2\n": "name every candidate once",
    }.items():
        table.write_text(text)
        assert message(lambda: _names.performances(table, ["c"])).startswith(grammar + what)
    table.write_bytes(b"\xff\xfe\x00")
    assert message(lambda: _names.performances(table, ["c"])).startswith(grammar + "be a text in UTF-8")
    assert message(lambda: _names.performances(tmp_path / "no.csv", ["c"])) == (
        "select: performance must be a regular file that can be read where it is a file, because its first "
        "column names the candidates, the other is their result. Got no such file, or no regular one for "
        f"{str(tmp_path / 'no.csv')!r}. Write for instance name,performance and one line for each candidate."
    )


# --- refusals -------------------------------------------------------------------------------------------


def test_what_is_refused(candidates, tmp_path):
    assert message(lambda: select({"a": pair(0.1)})) == (
        "select: candidates must be at least two, because one alone needs no choice. Got 1. "
        "Measure a single one with spherometer.measure."
    )
    assert message(lambda: select([1, 2])) == (
        "select: candidates must be a directory, or a mapping name -> features, because every candidate "
        "needs a name. Got list. Pass for instance {'a': x, 'b': z}."
    )
    assert message(lambda: select(candidates, criterion="accuracy")).startswith(
        "select: criterion must be one"
    )
    assert message(lambda: select(candidates, performance={"e": 1})) == (
        "select: performance must name the candidates, because each result belongs to one of them. Got 'e'. "
        f"Did you mean {'d'!r}."
    ) or "Did you mean" in message(lambda: select(candidates, performance={"e": 1}))
    for bad in (math.nan, "x", None, True):
        text = message(lambda bad=bad: select(candidates, performance={"c": bad}))
        assert text.startswith("select: performance must hold finite numbers, higher is better,")
    assert message(lambda: select(candidates, performance=[1, 2])).startswith(
        "select: performance must be a mapping"
    )
    assert message(lambda: select(candidates, groups={"c": "x"})).startswith(
        "select: groups must be a mapping"
    )
    assert message(lambda: select(candidates, temperature=0)).startswith("select: temperature must")
    assert message(lambda: select({1: pair(0.1), 2: pair(0.2)})).startswith(
        "select: candidates must be called"
    )
    assert message(lambda: select(tmp_path)).startswith("select: candidates must be a directory that holds")
    assert message(lambda: select(tmp_path / "x")).startswith("select: candidates must be a directory, or")
    alone = {name: x for name, (x, _) in candidates.items()}
    assert message(lambda: select(alone, criterion="sum"), UndefinedError) == (
        "select: criterion must be one that at least two candidates have, because there is nothing to rank "
        "otherwise. Got 'sum'. Give positive pairs, or another criterion."
    )
    (tmp_path / "a.npy").write_bytes(b"")
    (tmp_path / "a.npz").write_bytes(b"")
    assert "Got 'a.npy' and 'a.npz'." in message(lambda: select(tmp_path))


def test_a_fault_names_its_candidate(candidates):
    x, y = candidates["c"]
    bad = x.clone()
    bad[3, 2] = math.nan
    text = message(lambda: select({**candidates, "broken": (bad, y)}))
    assert "the first is row 3" in text
    assert text.endswith("Candidate: 'broken'.")
    assert message(lambda: select({"a": (x, y), "zero": (x * 0, y)}), NotOnSphereError).endswith("'zero'.")
    assert message(lambda: select({"a": (x, y), "short": (x, y[:9])}), ShapeError).endswith("'short'.")
    found = select({**candidates, "broken": (bad, y)}, nan="drop")
    assert any(note.startswith("broken: 1 pairs with NaN") for note in found.notes)


# --- the record -----------------------------------------------------------------------------------------


def test_json_there_and_back(selection, tmp_path):
    text = selection.to_json(tmp_path / "s.json")
    assert (tmp_path / "s.json").read_text() == text + "\n"
    again = Selection.from_json(text)
    assert again.to_dict() == selection.to_dict()
    assert again.to_json() == text
    assert str(again) == str(selection)
    document = json.loads(text)
    assert document["schema"] == "spherometer.selection/1"
    assert set(document["candidates"][0]) == {
        "name", "run", "step", "rank", "front", "score", "tied_with_best", "performance", "metrics",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: d.update(schema="spherometer.selection/9"), "be an object whose schema is"),
        (lambda d: d.update(more=1), "hold the result with the keys"),
        (lambda d: d.pop("notes"), "hold the result with the keys"),
        (lambda d: d.update(criterion=3), "hold a text 'criterion'"),
        (lambda d: d.update(criterion="new"), "hold the scores of its criterion"),
        (lambda d: d.update(warnings=[1]), "hold texts in 'warnings'"),
        (lambda d: d.update(candidates=[]), "hold candidates of different names"),
        (lambda d: d.update(candidates=d["candidates"] * 2), "hold candidates of different names"),
        (lambda d: d.update(quality=3), "hold an object or null 'quality'"),
        (lambda d: d["scores"].update(sum=[1.0]), "hold a number or null for each candidate as score 'sum'"),
        (lambda d: d["candidates"][0].update(rank=0), "hold a usable 'rank' in every candidate"),
        (lambda d: d["candidates"][0].update(score="1"), "hold a usable 'score' in every candidate"),
        (lambda d: d["candidates"][0].pop("front"), "hold every candidate with the keys"),
        (lambda d: d["candidates"][0]["metrics"].update(x=1), "hold metric 'x' with the keys"),
        (
            lambda d: d["candidates"][0]["metrics"]["rankme"].update(interval=[1]),
            "hold a usable metric 'rankme'",
        ),
    ],
)
def test_other_documents_are_refused(selection, change, what):
    document = json.loads(selection.to_json())
    change(document)
    text = message(lambda: Selection.from_dict(document))
    assert text.startswith(f"Selection: document must {what}")
    assert "because only results written by this package can be read." in text


@pytest.mark.parametrize("text", ["", "[1", "NaN", '{"a": 1e999}', "[" * 100_000])
def test_what_is_no_strict_json(text):
    assert message(lambda: Selection.from_json(text)).startswith("Selection: document must be")


def test_the_table(selection):
    lines = str(selection).splitlines()
    assert lines[0] == "Ranked by: Standardised alignment + uniformity, lower is better"
    assert lines[1].split() == [
        "rank",
        "candidate",
        "score",
        "alignment",
        "uniformity",
        "normalized",
        "RankMe",
    ]
    assert lines[3].split()[:2] == ["1", "c"]
    assert "front" in lines[3]


def test_progress_is_told(candidates):
    told = []
    select(candidates, progress=lambda *each: told.append(each))
    assert told == [(place, 6, name) for place, name in enumerate(candidates, 1)]


def test_nothing_depends_on_the_global_generator(candidates, selection):
    before = torch.get_rng_state()
    torch.manual_seed(5)
    assert select(candidates).to_json() == selection.to_json()
    torch.set_rng_state(before)


def test_public_files_are_here():
    assert (Path(_names.__file__).parent / "README.md").is_file()
