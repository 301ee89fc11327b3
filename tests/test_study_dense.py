"""The study of dense representations: its grid, what a worker does, its document, its claims, bad inputs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

import spherometer as sm
from dense_document import ARMS, made_up_document, made_up_results, measured
from spherometer.cli._main import main
from spherometer.errors import InputError
from spherometer.report import render
from spherometer.study import _pool, run_dense
from spherometer.study._dense_document import KINDS, dense_document
from spherometer.study._dense_grid import (
    ABLATION,
    BASELINES,
    INSTANCE_ONLY,
    OTHERS,
    DenseProtocol,
    DenseTask,
    protocol,
    task_from_dict,
    tasks,
)
from spherometer.study._dense_work import METRICS, Parts, run_encoder, run_task
from spherometer.study._recipe import StudyRecipe
from spherometer.training import load_encoder


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def document():
    return made_up_document()


@pytest.fixture(scope="module")
def parts():
    recipe = StudyRecipe(epochs=1, batch_size=32, learning_rate=3e-3)
    return Parts(DenseProtocol(recipe, 64, 48, 24, 32, num_cells=512, batch_cells=256, num_heat=1), "cpu")


class TestGrid:
    def test_twenty_four_encoders_of_fourteen_configurations(self):
        trained = [task for task in tasks(["multi"], False, 3) if task.configuration.trained]
        assert len(trained) == 24
        assert len({task.configuration for task in trained}) == 14
        cells = {task.configuration for task in trained if task.configuration.trains_cells}
        wholes = {task.configuration for task in trained if task.configuration.trains_instances}
        assert (len(cells), len(wholes)) == (12, 13)

    def test_arms_of_the_ablation_differ_in_their_partners_alone(self):
        rules = [each for name, each in ABLATION.items() if name != INSTANCE_ONLY]
        assert {replace(each, matching=None) for each in rules} == {replace(rules[0], matching=None)}
        assert ABLATION[INSTANCE_ONLY].temperature == rules[0].temperature

    def test_names_and_ids_are_unique(self):
        every = [*ABLATION.values(), *OTHERS, *BASELINES]
        assert len({each.id for each in every}) == len({each.name for each in every}) == len(every)

    def test_keys_separate_all_that_changes_a_result(self):
        work = [task for quick in (True, False) for task in tasks(["multi", "single"], quick, 2)]
        assert len({task.key for task in work}) == len(work)
        other = replace(work[0], protocol=replace(work[0].protocol, strength=2.0))
        assert other.key != work[0].key

    def test_tasks_survive_json(self):
        for task in tasks(["single"], False, 2):
            again = task_from_dict(json.loads(json.dumps(asdict(task))))
            assert again == task
            assert again.key == task.key

    def test_maps_have_seven_cells_along_a_side(self):
        assert protocol(False).grid == (7, 7)
        assert protocol(False).recipe.epochs == 12


class TestWorker:
    def test_things_of_the_three_parts_are_different_ones(self, parts):
        scenes = parts.scenes("multi")
        prints = {part.of.fingerprint() for part in (scenes.train, scenes.held_out, scenes.test)}
        assert len(prints) == 3
        assert (len(scenes.train), len(scenes.held_out), len(scenes.test)) == (64, 24, 32)
        assert len(scenes.fitted.masks) == 48

    def test_numbers_are_those_of_the_metrics_and_only_of_heads_that_were_trained(self, parts, tmp_path):
        (tmp_path / "encoders").mkdir()
        for chosen in (ABLATION["geometric"], ABLATION[INSTANCE_ONLY], OTHERS[4], BASELINES[0]):
            task = DenseTask(chosen, "multi", 0, parts.protocol)
            result = run_encoder(task, parts, tmp_path)
            assert result["message"] is None
            assert tuple(result["metrics"]) == METRICS
            there = {name for name, each in result["metrics"].items() if each is not None}
            expected = set(METRICS[:3] if chosen.trains_cells else ())
            expected |= set(METRICS[3:] if chosen.trains_instances else ())
            assert there == expected
            assert set(result["tasks"]) == {"segmentation", "classification"}
            assert (len(result["losses"]), len(result["heat"])) == (
                int(chosen.trained),
                int(chosen == ABLATION["geometric"]),
            )
            json.dumps(result, allow_nan=False)
            if chosen != ABLATION["geometric"]:
                continue
            (picture,) = result["heat"]
            assert np.array(picture["image"]).shape == (56, 56, 1)
            assert np.array(picture["alignment"], dtype=float).shape == (7, 7)
            encoder, _ = load_encoder(tmp_path / "encoders" / f"{task.key}.safetensors")
            views, rows = parts.scenes("multi").views("held_out", 0), torch.arange(24)
            encoder.eval()
            with torch.no_grad():
                x, y = (encoder.cells(view) for view in views(2**31, rows))
            value = sm.dense_alignment(x, y, matching="geometric", geometry=views.geometry(2**31, rows))
            assert result["metrics"]["dense_alignment"]["value"] == pytest.approx(float(value), abs=1e-5)

    def test_raw_pixels_of_one_object_are_scored_by_accuracy(self, parts, tmp_path):
        task = DenseTask(BASELINES[1], "single", 0, parts.protocol)
        result, value = run_task(task, parts, tmp_path)
        assert set(result["metrics"].values()) == {None}
        assert value == result["tasks"]["segmentation"]["value"]
        assert result["tasks"]["classification"]["num"] == 32
        low, high = result["tasks"]["classification"]["interval"]
        assert 0 <= low <= result["tasks"]["classification"]["value"] <= high <= 1


class TestRandomPartners:
    def test_what_they_ask_for_is_a_code_of_the_image_in_every_cell_not_one_point(self):
        """Free vectors reach it, from near one point too: the loss does not force encoders there."""
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(1, 16, 1, 1, generator=generator)
        maps = [base + 0.1 * torch.randn(16, 16, 3, 3, generator=generator) for _ in range(2)]
        x, y = (each.requires_grad_() for each in maps)
        loss = sm.losses.DenseInfoNCELoss(0.07, dense_weight=1.0, matching="random")
        start = float(loss(x, y).detach())
        optimizer = torch.optim.Adam([x, y], lr=0.02)
        for _ in range(200):
            optimizer.zero_grad()
            value = loss(x, y)
            value.backward()
            optimizer.step()
        x = x.detach()
        assert start > 1.5  # log 16 = 2.77 at one point
        assert float(value.detach()) < 0.1
        assert float(sm.dense_uniformity(x, pairs="within_image")) > -0.2
        assert float(sm.dense_uniformity(x)) < -2.0


class TestDocument:
    def test_every_cell_of_the_table_is_there_by_configuration(self, document):
        cells = {(row["data"], row["task"], row["metrics"]) for row in document["relations"]}
        assert cells == {
            ("multi", task, kind) for task in ("segmentation", "classification") for kind in KINDS
        }
        groups = {row["metrics"]: row["relation"]["num_groups"] for row in document["relations"]}
        assert groups == {"dense": 12, "instance": 13}
        assert {row["metrics"]: row["num"] for row in document["relations"]} == {"dense": 20, "instance": 23}

    def test_relations_are_those_of_the_function(self, document):
        trials = [each for each in document["trials"] if each["metrics"]["dense_alignment"]]
        expected = sm.performance_relation(
            [each["metrics"]["dense_alignment"]["value"] for each in trials],
            [each["metrics"]["dense_uniformity"]["value"] for each in trials],
            [each["tasks"]["segmentation"]["value"] for each in trials],
            groups=[each["configuration"] for each in trials],
        )
        assert document["relations"][0]["relation"] == json.loads(json.dumps(expected.to_dict()))

    def test_the_ablation_is_the_mean_over_seeds(self, document):
        rows = [row for row in document["matching"] if row["task"] == "segmentation"]
        assert [row["matching"] for row in rows] == sorted(ARMS, key=ARMS.__getitem__, reverse=True)
        for row in rows:
            assert row["value"] == pytest.approx(ARMS[row["matching"]] + 0.004)
            assert row["sd"] == pytest.approx(0.004)
            assert row["seeds"] == pytest.approx([ARMS[row["matching"]] + 0.004 * seed for seed in range(3)])

    def test_verdicts_follow_the_numbers(self, document):
        found = {finding["claim"]: finding["verdict"] for finding in document["findings"]}
        claim = "Several digits: partners that show the same place make better maps than random partners."
        assert found[claim] == "shown"
        assert len(found) == len(document["findings"]) == 10

    def test_cells_at_one_point_are_told_apart(self):
        work = tasks(["multi", "single"], True, 3)
        results = made_up_results(work)
        alone = next(t for t in work if t.configuration == OTHERS[2] and t.data == "multi")
        results[alone.key]["metrics"]["dense_uniformity"] = measured(-0.38)  # the law of 64 numbers: -3.875
        found = dense_document(work, results, quick=True)
        assert found["spread"]["dropped"] == [
            {"data": "multi", "configuration": alone.configuration.id, "seed": 0}
        ]
        assert [(row["task"], row["num"]) for row in found["spread"]["relations"]] == [
            ("segmentation", 19), ("classification", 19),
        ]  # fmt: skip
        assert found["relations"][0]["num"] == 20
        kept = [t for t in found["trials"] if t["key"] != alone.key and t["data"] == "multi"]
        kept = [t["metrics"] for t in kept if t["metrics"]["dense_uniformity"]]
        columns = [[m[name]["value"] for m in kept] for name in ("dense_alignment", "dense_uniformity")]
        assert found["spread"]["correlations"] == {"multi": pytest.approx(np.corrcoef(columns)[0, 1])}
        told = [f for f in found["findings"] if "cells lie at one point" in f["evidence"]]
        assert len(told) == 5
        assert all(f["claim"].startswith("Several digits") for f in told)
        page = render(json.loads(json.dumps(found)))
        assert "Table 1b" in page
        assert "InfoNCE (temperature 0.07), cells 0.5, random" in page
        assert dense_document(work, made_up_results(work), quick=True)["spread"] == {}

    def test_a_relation_must_hold_with_and_without_them(self):
        work = tasks(["multi"], True, 3)
        results = made_up_results(work)
        for task in work:  # of scattered encoders nothing is foretold; one at a point makes it all
            if results[task.key]["metrics"]["dense_uniformity"] is not None:
                far = task.configuration == OTHERS[2]
                results[task.key]["metrics"]["dense_uniformity"] = measured(-0.01 if far else -3.5)
                results[task.key]["metrics"]["dense_alignment"] = measured(0.0 if far else 1.0)
        found = dense_document(work, results, quick=True)
        assert found["correlations"]["multi"]["dense"] == pytest.approx(-1.0)
        assert found["spread"]["correlations"]["multi"] is None
        assert all(row["relation"] is None for row in found["spread"]["relations"])
        render(json.loads(json.dumps(found)))

    def test_iou_of_every_class_is_the_mean_over_seeds(self, document):
        rows = {row["name"]: row for row in document["per_class"]}
        assert set(rows) == {*ARMS, "untrained", "raw"}
        assert rows["geometric"]["classes"] == ["background"]
        assert rows["geometric"]["values"] == pytest.approx([0.8])

    def test_one_seed_and_failures_are_said(self):
        work = tasks(["multi", "single"], True, 1)
        results = made_up_results(work)
        for task in work:
            if task.configuration.matching is not None and task.data == "single":
                results[task.key] |= {"tasks": {}, "message": "the loss became nan in step 1 (epoch 1)"}
                results[task.key]["metrics"] = dict.fromkeys(METRICS)
        found = dense_document(work, results, quick=True)
        assert {finding["verdict"] for finding in found["findings"][:5]} == {"unclear"}
        refused = [row for row in found["relations"] if row["relation"] is None]
        assert {(row["data"], row["metrics"]) for row in refused} == {
            ("single", "dense"),
            ("single", "instance"),
        }
        assert all("8" in row["message"] for row in refused)
        assert found["correlations"]["single"]["dense"] is None
        assert "Several digits" in render(found)

    def test_the_page_holds_its_findings(self, document):
        page = render(document)
        for finding in document["findings"]:
            assert finding["claim"].split(":")[0] in page


class TestInputs:
    @pytest.mark.parametrize("data", ["cifar", "multi,,single", []])
    def test_other_scenes_are_refused(self, tmp_path, data):
        with pytest.raises(InputError, match="study dense: data must be 'multi', 'single' or both"):
            run_dense(tmp_path / "out", data)
        assert not (tmp_path / "out").exists()

    def test_the_command_names_the_scenes(self, capsys, tmp_path):
        assert main(["study", "dense", "--data", "cifar", "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.splitlines()[0] == (
            "spherometer: study: --data must be 'multi', 'single' or 'multi,single', because these scenes "
            "are what the settings are made for. Got 'cifar'. "
            "Run: spherometer study dense --data multi,single."
        )

    def test_the_command_writes_the_page(self, tmp_path, monkeypatch):
        def finish(queue, order, jobs, progress):
            results = made_up_results(list(order.tasks))
            while (claimed := queue.claim()) is not None:
                task, trial = claimed
                queue.complete(trial, results[task.key], 0.0)

        monkeypatch.setattr(_pool, "run_all", finish)
        monkeypatch.setattr("spherometer.study._run.run_all", finish)
        assert main(["study", "dense", "--quick", "--out", str(tmp_path)]) == 0
        assert (tmp_path / "report.html").exists()
        kept = json.loads((tmp_path / "results.json").read_text())
        assert kept["schema"] == "spherometer.study/dense/1"
        assert kept["seeds"] == [0]
