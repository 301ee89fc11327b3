"""The brain study: its grid, its data on disk, a whole small run, its page, its bad inputs."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from spherometer.data import BrainRecipe, make_brains
from spherometer.errors import InputError
from spherometer.report import render
from spherometer.study import _brain, _brain_parts, _pool, run_brain
from spherometer.study._brain_grid import (
    CONDITIONED,
    UNCONDITIONED,
    BrainProtocol,
    protocol,
    task_from_dict,
    tasks,
)
from spherometer.study._brain_parts import corpus, keep_brains, open_brains
from spherometer.study._brain_story import HEADLINE, brain_story
from spherometer.study._brain_work import BrainParts, split
from spherometer.study._conditional_work import run_arm


def tiny(quick=True, corpus=""):
    shared = protocol(True, corpus)
    recipe = replace(shared.recipe, epochs=1, batch_size=12)
    return replace(
        shared, recipe=recipe, few_labels=10, few_label_draws=2, dim=4, components=(2, 5), width=2,
        num_train=24, num_validation=10, num_test=14,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shared():
    return tiny(corpus=corpus(tiny().num_subjects))


@pytest.fixture(scope="module")
def parts(tmp_path_factory, shared):
    path = keep_brains(tmp_path_factory.mktemp("brains"), shared)
    return BrainParts(open_brains(path, shared), shared, "cpu")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "brain"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_brain, "protocol", tiny)
        found = run_brain(out, quick=True, seeds=2, jobs=1)
        patch.setattr(_pool, "_start", lambda order: pytest.fail("a worker was started"))
        patch.setattr(_brain_parts, "make_brains", lambda *given, **more: pytest.fail("made again"))
        again = run_brain(out, quick=True, seeds=2, jobs=1)
    assert again == found
    return out, found


class TestGrid:
    def test_arms_and_bandwidths(self):
        shared = protocol(quick=False)
        work = tasks(1, shared)
        arms = [task.configuration.arm for task in work]
        assert set(arms) == {*CONDITIONED, *UNCONDITIONED}
        for arm in CONDITIONED:
            widths = [task.configuration.bandwidth for task in work if task.configuration.arm == arm]
            assert widths == list(shared.bandwidths)
        assert all(
            task.configuration.bandwidth is None for task in work if task.configuration.arm in UNCONDITIONED
        )
        assert (shared.num_train, shared.few_labels, shared.recipe.epochs) == (200, 40, 25)

    def test_keys_separate_all_that_changes_a_result(self):
        work = [task for quick in (True, False) for task in tasks(2, protocol(quick, "brains"))]
        work += tasks(1, protocol(False, "other brains"))
        assert len({task.key for task in work}) == len(work)

    def test_tasks_survive_json(self):
        for task in tasks(1, protocol(False, "brains")):
            again = task_from_dict(json.loads(json.dumps(asdict(task))))
            assert again == task
            assert isinstance(again.protocol, BrainProtocol)

    def test_quick_is_smaller_in_everything(self):
        quick, full = protocol(True), protocol(False)
        for name in ("num_train", "num_validation", "num_test", "few_label_draws"):
            assert getattr(quick, name) < getattr(full, name)
        assert quick.recipe.epochs < full.recipe.epochs


class TestParts:
    def test_the_box_holds_all_brains(self, parts, shared):
        brains = make_brains(shared.num_subjects)
        kept, whole = parts.brains.volumes, brains.standardized
        assert kept.shape[2] < whole.shape[2]
        assert float(kept.double().abs().sum()) == pytest.approx(float(whole.double().abs().sum()), rel=1e-12)
        assert torch.equal(parts.brains.age, brains.age)
        assert parts.brains.male.tolist() == [sex == "M" for sex in brains.sex]

    def test_splits_are_disjoint_and_differ_by_seed(self, shared):
        first, second = split(shared, 0), split(shared, 1)
        assert torch.equal(torch.cat(list(first.values())).sort().values, torch.arange(48))
        assert [len(rows) for rows in first.values()] == [24, 10, 14]
        assert not torch.equal(first["test"], second["test"])
        assert torch.equal(split(shared, 1)["test"], second["test"])

    def test_kept_once_and_made_again_when_damaged_or_of_another_recipe(self, tmp_path, shared, monkeypatch):
        path = keep_brains(tmp_path, shared)
        content = path.read_bytes()
        monkeypatch.setattr(_brain_parts, "make_brains", lambda *given, **more: pytest.fail("made again"))
        assert keep_brains(tmp_path, shared).read_bytes() == content
        monkeypatch.undo()
        spoiled = bytearray(content)
        spoiled[len(content) // 2] ^= 1
        whole = open_brains(path, shared).volumes
        for damage in (bytes(spoiled), content[:-100], b"", b"no archive"):
            path.write_bytes(damage)
            assert _brain_parts._opened(path, shared.corpus) is None
        assert torch.equal(open_brains(path, shared).volumes, whole)  # made again
        other = replace(shared, corpus="another")
        keep_brains(tmp_path, other)
        assert _brain_parts._opened(path, shared.corpus) is None

    def test_the_corpus_is_that_of_the_brains(self, shared):
        assert make_brains(shared.num_subjects).fingerprint() == shared.corpus
        assert make_brains(2, recipe=BrainRecipe(noise=0.0)).fingerprint() != corpus(2)

    def test_views_are_a_function_of_seed_epoch_and_row(self, parts, shared):
        sample = parts.sample(shared, 0)
        views = sample.views(sample.inputs, 3)
        x, y = views(1, torch.arange(8))
        again = views(1, torch.tensor([5]))
        assert torch.equal(again[0], x[5:6])
        assert torch.equal(again[1], y[5:6])
        assert not torch.equal(x, y)
        assert x.shape == sample.inputs[:8].shape
        assert views.fingerprint() != sample.views(sample.inputs, 4).fingerprint()


class TestArms:
    def test_meta_data_reach_only_the_arms_that_have_them(self, parts, shared, tmp_path):
        """Other ages for training subjects change what is trained with them, and nothing else."""
        told = replace(parts, brains=replace(parts.brains, age=parts.brains.age.flip(0)))
        (tmp_path / "encoders").mkdir()
        for task in tasks(1, shared):
            if task.configuration.arm in ("y_aware", "regression", "nt_xent"):
                one, two = (run_arm(task, each, tmp_path) for each in (parts, told))
                same = one["losses"] == two["losses"]
                assert same == (task.configuration.arm == "nt_xent"), task.name

    def test_a_run_is_a_function_of_its_task(self, parts, shared, tmp_path):
        (tmp_path / "encoders").mkdir()
        task = tasks(1, shared)[0]
        assert run_arm(task, parts, tmp_path) == run_arm(task, parts, tmp_path)


class TestStudy:
    def test_every_arm_has_every_score_over_both_seeds(self, study):
        out, found = study
        assert found == json.loads((out / "results.json").read_text())
        assert found["study"] == "brain"
        assert found["seeds"] == [0, 1]
        assert [arm["arm"] for arm in found["arms"]] == [*CONDITIONED, *UNCONDITIONED]
        names = [score["name"] for score in found["scores"]]
        assert names[0] == HEADLINE == found["chosen_by"]
        for arm in found["arms"]:
            assert arm["num_failed"] == 0
            for name in names:
                assert len(arm["scores"][name]["values"]) == 2, (arm["arm"], name)
                low, high = arm["scores"][name]["interval"]
                assert low <= arm["scores"][name]["value"] <= high
        for arm in found["arms"][:4]:
            assert set(arm["metrics"]) == {
                "alignment", "uniformity", "conditional_alignment", "conditional_uniformity",
            }  # fmt: skip

    def test_the_bandwidth_is_the_validation_parts_choice_and_the_curve_is_whole(self, study):
        _, found = study
        for arm, curve in zip(found["arms"][:2], found["curves"], strict=True):
            assert [point["bandwidth"] for point in curve["points"]] == [5.0, 15.0]
            assert sum(point["num_chosen"] for point in curve["points"]) >= 2
            values = np.array([point["validation"][HEADLINE]["values"] for point in curve["points"]])
            chosen = [curve["points"][k]["bandwidth"] for k in values.argmax(axis=0)]
            assert arm["bandwidths"] == chosen

    def test_it_says_that_these_are_no_patients(self, study):
        _, found = study
        assert "not patient data" in found["lead"][0]
        assert "not patient data" in found["data"]["source"]
        assert "our choice" in found["caveats"][0]
        assert found["data"]["num_train"] == 24

    def test_findings_are_claims_with_verdicts(self, study):
        _, found = study
        assert len(found["findings"]) == len(brain_story(tiny(), {}).claims)
        assert {each["verdict"] for each in found["findings"]} <= {"shown", "not shown", "unclear"}

    def test_the_page_says_it_too(self, study):
        _, found = study
        page = render(found)
        assert "not patient data" in page
        assert "y-Aware" in page
        assert "PCA + ridge" in page

    def test_encoders_are_kept(self, study):
        out, found = study
        for trial in found["trials"]:
            expected = trial["arm"] not in ("pca", "raw")
            assert (trial["encoder"] is not None) == expected
            if expected:
                assert (out / trial["encoder"]).exists()


@pytest.mark.parametrize("arguments", [{"seeds": 0}, {"jobs": 0}, {"device": "nowhere"}])
def test_bad_arguments_are_refused_before_anything_is_written(arguments, tmp_path):
    out = tmp_path / "brain"
    with pytest.raises(InputError, match=f"study brain: {next(iter(arguments))} must"):
        run_brain(out, quick=True, **arguments)
    assert not out.exists()
