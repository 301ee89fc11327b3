"""The digits study: its document, its resumption, its bad inputs."""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spherometer.data import load_images
from spherometer.errors import InputError, MissingExtraError
from spherometer.study import _digits, _pool, run_digits
from spherometer.study._document import ACCURACIES, document
from spherometer.study._encoders import HEADLINE, Parts, loss_of, run_encoder
from spherometer.study._findings import findings, paired_difference
from spherometer.study._grid import Configuration, Task, grid, protocol, task_from_dict, tasks
from spherometer.training import load_encoder

FAMILIES = {"align_uniform", "info_nce", "combination", "untrained", "raw_pixels"}
METRICS = {
    "alignment",
    "uniformity",
    "normalized_uniformity",
    "effective_rank",
    "rankme",
    "alpha_req",
    "lidar",
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> tuple[Path, dict, list]:
    out = tmp_path_factory.mktemp("study") / "made" / "here"
    calls = []
    found = run_digits(out, quick=True, progress=lambda *call: calls.append(call))
    return out, found, calls


class TestGrid:
    def test_the_default_grid_walks_the_axes(self):
        trained = grid(quick=False)
        assert len(trained) >= 30
        assert len({each.name for each in trained}) == len(trained)
        weights = {
            (each.align_weight > 0, each.uniform_weight > 0, each.contrastive_weight > 0) for each in trained
        }
        assert {
            (True, True, False),
            (True, False, False),
            (False, True, False),
            (False, False, True),
        } <= weights
        assert {each.alpha for each in trained} == {1.0, 2.0}
        assert {each.t for each in trained} >= {1.0, 2.0, 3.0, 5.0, 8.0}
        temperatures = [each.temperature for each in trained if each.family == "info_nce"]
        assert (min(temperatures), max(temperatures)) == (0.05, 2.5)
        assert {each.dim for each in trained} >= {2, 8, 32, 128}
        assert {each.family for each in trained} == {"align_uniform", "info_nce", "combination"}

    def test_keys_separate_all_that_changes_a_result(self):
        keys = [task.key for quick in (True, False) for task in tasks(quick, seeds=3)]
        assert len(keys) == len(set(keys))
        assert {task.key for task in tasks(True, 1)} < {task.key for task in tasks(True, 2)}

    def test_tasks_survive_json(self):
        from dataclasses import asdict

        for task in tasks(True, 1):
            assert task_from_dict(json.loads(json.dumps(asdict(task)))) == task

    def test_every_configuration_has_a_loss_with_a_gradient(self):
        generator = torch.Generator().manual_seed(0)
        for configuration in grid(quick=False):
            x, y = torch.randn(2, 8, configuration.dim, generator=generator).requires_grad_()
            gradient = torch.autograd.grad(loss_of(configuration)(x, y, torch.arange(8)), x)[0]
            assert bool(torch.isfinite(gradient).all())
            assert float(gradient.abs().max()) > 0


class TestDocument:
    def test_file_is_the_document(self, study):
        out, found, _ = study
        text = (out / "results.json").read_text()
        assert json.loads(text) == found
        assert text == json.dumps(found, sort_keys=True, indent=1, allow_nan=False) + "\n"

    def test_top_level(self, study):
        _, found, _ = study
        assert set(found) == {
            "schema", "spherometer", "study", "quick", "seeds", "environment", "data", "protocol", "trials",
            "headline", "relation", "selection", "best", "sweep", "trajectories", "circle", "baselines",
            "findings",
        }  # fmt: skip
        assert (found["schema"], found["study"], found["quick"]) == ("spherometer.study/1", "digits", True)
        assert found["seeds"] == [0]
        assert found["headline"] == HEADLINE
        assert found["data"] == {
            "name": "digits", "source": found["data"]["source"], "num_train": 899, "num_validation": 359,
            "num_test": 539, "num_classes": 10, "image_shape": [1, 8, 8], "chance": found["data"]["chance"],
        }  # fmt: skip
        assert found["protocol"]["few_labels"] == 50

    def test_trials(self, study):
        out, found, _ = study
        trials = found["trials"]
        assert len(trials) == len(grid(quick=True)) + 2
        assert {trial["family"] for trial in trials} == FAMILIES
        for trial in trials:
            assert trial["status"] == "finished"
            assert trial["message"] is None
            assert set(trial["metrics"]) == (set() if trial["family"] == "raw_pixels" else METRICS)
            for measured in trial["metrics"].values():
                assert set(measured) == {
                    "value",
                    "interval",
                    "baseline",
                    "num",
                    "settings",
                    "better",
                    "label",
                }
                assert measured["num"] == 359
            assert set(trial["accuracy"]) == set(ACCURACIES)
            for accuracy in trial["accuracy"].values():
                assert 0 <= accuracy["validation"] <= 1
                low, high = accuracy["test"]["interval"]
                assert 0 <= low < accuracy["test"]["value"] <= high <= 1
                assert accuracy["test"]["num"] == 539
            if trial["family"] == "raw_pixels":
                assert trial["encoder"] is None
                continue
            assert 0 <= trial["metrics"]["alignment"]["value"] <= 4
            assert -8 <= trial["metrics"]["uniformity"]["value"] <= 0
            encoder, notes = load_encoder(out / trial["encoder"])
            assert notes["name"] == trial["name"]
            assert encoder.config["dim"] == trial["config"]["dim"]

    def test_relations(self, study):
        _, found, _ = study
        assert set(found["relation"]) == set(ACCURACIES)
        for relations in found["relation"].values():
            assert set(relations) == {
                "all", "non_collapsed", "without_single_terms", "without_align_uniform", "without_info_nce",
                "without_combination",
            }  # fmt: skip
            assert relations["all"]["num"] == len(grid(quick=True))
            assert relations["without_single_terms"]["num"] == len(grid(quick=True)) - 2
            assert 0 <= relations["all"]["multiple_r"] <= 1
            assert relations["without_align_uniform"]["refused"].startswith("performance_relation: ")

    def test_selection(self, study):
        _, found, _ = study
        keys = {trial["key"] for trial in found["trials"]}
        assert set(found["selection"]) == {"all", "non_collapsed", "without_single_terms"}
        for which in found["selection"]:
            choices = found["selection"][which]
            assert set(choices) == {
                "sum",
                "alignment",
                "uniformity",
                "info_nce",
                "rankme",
                "alpha_req",
                "lidar",
                "chance",
            }
            for name, choice in choices.items():
                assert -1 <= choice["rank_correlation"]["value"] <= 1
                assert 0 <= choice["regret"]["value"] <= 1
                assert choice["picked"] in keys if name != "chance" else choice["picked"] is None

    def test_best_is_chosen_on_validation_and_reported_on_test(self, study):
        _, found, _ = study
        by_key = {trial["key"]: trial for trial in found["trials"]}
        roles = [row["role"] for row in found["best"]]
        assert roles == [
            "Best contrastive", "Best direct align + uniform", "Best combination", "Untrained encoder",
            "Raw pixels",
        ]  # fmt: skip
        for row in found["best"]:
            trial = by_key[row["key"]]
            rivals = [each for each in found["trials"] if each["family"] == trial["family"]]
            assert row["validation"] == max(each["accuracy"][HEADLINE]["validation"] for each in rivals)
            assert row["test"] == trial["accuracy"][HEADLINE]["test"]

    def test_sweep(self, study):
        _, found, _ = study
        assert [point["ratio"] for point in found["sweep"]] == [0, 0.25, 1, 4, None]
        for point in found["sweep"]:
            assert 0 < point["exp_uniformity"] <= 1
            assert 0 <= point["alignment"] <= 4

    def test_trajectories(self, study):
        _, found, _ = study
        start = found["trajectories"]["start"]
        assert start["name"] == "InfoNCE (temperature 2.5)"
        assert set(found["trajectories"]["paths"]) == {"align only", "uniform only", "both"}
        for path in found["trajectories"]["paths"].values():
            assert path[0] == {
                "step": 0,
                **{name: start[name] for name in ("alignment", "uniformity", "accuracy")},
            }
            steps = [point["step"] for point in path]
            assert steps == sorted(set(steps))
            assert len(steps) == protocol(quick=True).finetune_points + 1

    def test_the_start_of_the_trajectories_is_the_encoder_of_the_grid(self, study):
        _, found, _ = study
        start = found["trajectories"]["start"]
        trial = next(each for each in found["trials"] if each["name"] == start["name"])
        assert start["uniformity"] == pytest.approx(trial["metrics"]["uniformity"]["value"], abs=1e-5)
        assert start["alignment"] == pytest.approx(trial["metrics"]["alignment"]["value"], rel=1e-5)
        assert start["accuracy"] == pytest.approx(trial["accuracy"][HEADLINE]["validation"])

    def test_circle(self, study):
        _, found, _ = study
        assert [one["name"] for one in found["circle"]] == ["Random", "Supervised", "Contrastive"]
        for one in found["circle"]:
            assert len(one["points"]) == len(one["labels"]) == len(one["distances"]) == 400
            assert np.allclose(np.linalg.norm(one["points"], axis=1), 1, atol=1e-4)
            assert min(one["distances"]) >= 0
            assert max(one["distances"]) <= 2
            assert 0 <= one["accuracy"] <= 1

    def test_findings_have_a_verdict_and_numbers(self, study):
        _, found, _ = study
        assert len(found["findings"]) >= 8
        for finding in found["findings"]:
            assert set(finding) == {"claim", "verdict", "evidence"}
            assert finding["verdict"] in ("shown", "not shown", "unclear")
            assert any(character.isdigit() for character in finding["evidence"])

    def test_progress(self, study):
        _, _, calls = study
        total = len(tasks(True, 1))
        assert calls[0] == (0, total, "")
        assert [done for done, _, _ in calls] == list(range(total + 1))
        assert {name for _, _, name in calls[1:]} == {task.name for task in tasks(True, 1)}


class TestAgain:
    def test_a_second_run_trains_nothing_and_writes_the_same(self, study, monkeypatch):
        out, found, _ = study
        before = (out / "results.json").read_bytes()
        monkeypatch.setattr(_pool, "_start", lambda order: pytest.fail("a worker was started"))
        (out / "results.json").unlink()
        assert run_digits(out, quick=True) == found
        assert (out / "results.json").read_bytes() == before

    def test_one_configuration_here_gives_what_the_worker_got(self, study, tmp_path):
        _, found, _ = study
        (tmp_path / "encoders").mkdir()
        parts = Parts(load_images("digits"), "cpu")
        task = next(
            task for task in tasks(True, 1) if task.configuration == Configuration("align_uniform", 1.0, 1.0)
        )
        first, second = (run_encoder(task, parts, tmp_path) for _ in range(2))
        assert first == second
        trial = next(each for each in found["trials"] if each["key"] == task.key)
        assert trial["metrics"] == first["metrics"]
        assert trial["accuracy"][HEADLINE]["test"] == first["accuracy"][HEADLINE]["test"]

    def test_a_run_that_diverged_is_a_row(self, study):
        out, found, _ = study
        from spherometer.study._queue import Queue
        from spherometer.study._storage import open_storage

        work = tasks(True, 1)
        results = Queue(open_storage(str(out / "study.journal")), work, "test", patience=20).finished()
        lost = next(task for task in work if task.configuration == Configuration("align_uniform", 1.0, 0.0))
        message = "the loss became nan in step 4 (epoch 2)"
        broken = {"metrics": {}, "accuracy": {}, "info_nce": None, "losses": [], "message": message}
        changed = document(
            work, {**results, lost.key: broken}, load_images("digits"), quick=True, encoders=set()
        )
        trial = next(each for each in changed["trials"] if each["key"] == lost.key)
        assert (trial["status"], trial["message"], trial["encoder"]) == ("failed", message, None)
        assert changed["relation"][HEADLINE]["all"]["num"] == len(grid(quick=True)) - 1
        json.dumps(changed, allow_nan=False)
        assert found["relation"][HEADLINE]["all"]["num"] == len(grid(quick=True))


class TestFindings:
    def test_paired_difference(self):
        rng = np.random.default_rng(0)
        first, second = rng.integers(0, 11, 400).astype(float), rng.integers(0, 11, 400).astype(float)
        mean, low, high = paired_difference(first, second, 10)
        assert mean == pytest.approx((first - second).mean() / 10)
        assert high - mean == pytest.approx(mean - low)
        assert high - mean == pytest.approx(
            1.96 * (first - second).std(ddof=1) / 10 / math.sqrt(400), rel=1e-4
        )

    @pytest.mark.parametrize(
        ("gap", "verdict", "words"),
        [(1, "shown", "The direct one is better."), (-2, "not shown", "The direct one is worse.")],
    )
    def test_direct_against_contrastive_follows_the_numbers(self, study, gap, verdict, words):
        _, found, _ = study
        by_role = {row["role"]: row["key"] for row in found["best"]}
        right = {trial["key"]: np.full(539, 5.0) for trial in found["trials"]}
        right[by_role["Best direct align + uniform"]] = np.full(539, 5.0 + gap)
        told = {finding["claim"]: finding for finding in findings(found, right, 10)}
        claim = next(text for text in told if "at least as good as contrastive" in text)
        assert told[claim]["verdict"] == verdict
        assert words in told[claim]["evidence"]


def refused(call, must: str, got: str, fix: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert message.startswith(f"study digits: {must}, because "), message
    assert f" Got {got}" in message, message
    assert message.endswith(f" {fix}."), message
    assert "\n" not in message


class TestBadInput:
    def test_out_is_a_file(self, tmp_path):
        file = tmp_path / "file"
        file.write_text("mine")
        with pytest.raises(InputError) as error:
            run_digits(file)
        assert str(error.value) == (
            "study digits: out must be a directory that can be written to, because results and encoders are "
            f"kept there. Got {file} ({file} is a file). Pass another directory."
        )
        assert file.read_text() == "mine"

    def test_out_below_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        refused(
            lambda: run_digits(tmp_path / "file" / "below"),
            "out must be a directory that can be written to",
            f"{tmp_path / 'file' / 'below'} (",
            "Pass another directory",
        )

    def test_unwritable_directory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            os, "access", lambda *_: False
        )  # the tests may run as root, who may write anywhere
        refused(
            lambda: run_digits(tmp_path / "new"),
            "out must be a directory that can be written to",
            f"{tmp_path / 'new'} ({tmp_path} cannot be written to)",
            "Pass another directory",
        )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"garbage", 1),
            (b"\x00\xff" * 100 + b"\n", 1),
            (b'{"op_code":0,"worker_id":"a","study_name":"s","directions":[2]}\n[1, 2]\n', 2),
            (b'{"op_code":0,"worker_id":"a","study_name":"s","directions":[2]}\n{"op_code":4,"wor\n', 2),
        ],
    )
    def test_damaged_journal(self, tmp_path, content, line):
        journal = tmp_path / "study.journal"
        journal.write_bytes(content)
        with pytest.raises(InputError) as error:
            run_digits(tmp_path)
        assert str(error.value) == (
            "study digits: storage must be a study's journal file, or the address of a database that can be "
            f"reached, because finished configurations are kept there. Got {journal} (line {line} is not a "
            "record of a study). Pass another storage, or remove the damaged file to start again."
        )
        assert journal.read_bytes() == content
        assert list(tmp_path.iterdir()) == [journal]

    @pytest.mark.parametrize(
        "address",
        [
            "nonsense://user:secret@host/db",
            "sqlite:////nowhere/at/all.db",
            "sqlite:///{tmp}/file.db",
            "a://b://c",
            "",
        ],
    )
    def test_storage_that_cannot_be_opened(self, tmp_path, address):
        (tmp_path / "file.db").write_bytes(b"not a database, just some bytes" * 50)
        out = tmp_path / "out"
        with pytest.raises(InputError) as error:
            run_digits(out, storage=address.format(tmp=tmp_path))
        message = str(error.value)
        assert message.startswith("study digits: storage must be a study's journal file, or the address of ")
        assert message.endswith("Pass another storage, or remove the damaged file to start again.")
        assert "\n" not in message
        assert "secret" not in message
        assert not out.exists()

    def test_seeds_jobs_device(self, tmp_path):
        whole = "be a whole number of at least 1"
        refused(
            lambda: run_digits(tmp_path, seeds=0), f"seeds must {whole}", "0.", "Pass for instance seeds=1"
        )
        refused(
            lambda: run_digits(tmp_path, jobs=-1), f"jobs must {whole}", "-1.", "Pass for instance jobs=1"
        )
        refused(
            lambda: run_digits(tmp_path, device="abacus"),
            "device must be a device that this machine has",
            "'abacus' (",
            "Pass for instance device='cpu'",
        )
        assert list(tmp_path.iterdir()) == []

    def test_without_optuna(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "optuna", None)
        with pytest.raises(MissingExtraError) as error:
            run_digits(tmp_path)
        assert "pip install 'spherometer[train]'" in str(error.value)
        assert list(tmp_path.iterdir()) == []


def test_the_study_is_reached_by_its_name_alone():
    assert _digits.run_digits is run_digits
    assert isinstance(tasks(True, 1)[0], Task)
