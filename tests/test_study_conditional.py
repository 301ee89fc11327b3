"""Studies of meta-data: their data, their arms, tables over seeds, claims by rule, pages, commands."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from spherometer import kernels, losses
from spherometer.cli._main import main
from spherometer.data import load_images
from spherometer.errors import InputError
from spherometer.report import render, write_study
from spherometer.study import _pool, run_diabetes, run_digits_metadata
from spherometer.study._conditional_digits import angle_sample, digits_sample, proxy_sample, turned
from spherometer.study._conditional_document import conditional_document
from spherometer.study._conditional_findings import check_claim, check_unreached, compare_arms, over_seeds
from spherometer.study._conditional_grid import (
    ANGLE,
    CONDITIONED,
    DIABETES,
    NAMES,
    PROXY,
    ConditionalConfiguration,
    ConditionalTask,
    grid,
    protocol,
    task_from_dict,
    tasks,
)
from spherometer.study._conditional_parts import PARTS, Sample, Target, few_seed
from spherometer.study._conditional_story import Claim, Score, Story, Unreached
from spherometer.study._conditional_words import angle_story, diabetes_story, proxy_story
from spherometer.study._conditional_work import MetadataRegression, Parts, loss_of, probed, run_arm
from spherometer.study._diabetes_data import RowEncoder, RowViews, diabetes_sample
from spherometer.study._recipe import StudyRecipe

STUDIES = (PROXY, ANGLE, DIABETES)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(study):
    shared = protocol(study, quick=True)
    recipe = StudyRecipe(epochs=1, batch_size=shared.recipe.batch_size, learning_rate=1e-3)
    return replace(shared, recipe=recipe, few_label_draws=1, bandwidths=shared.bandwidths[:1], dim=4)


class TestGrid:
    @pytest.mark.parametrize("study", STUDIES)
    def test_every_arm_and_every_bandwidth(self, study):
        shared = protocol(study, quick=False)
        found = [(each.arm, each.bandwidth) for each in grid(shared)]
        assert len(set(found)) == len(found)
        for arm in CONDITIONED:
            assert [width for name, width in found if name == arm] == list(shared.bandwidths)
        assert {"align_uniform", "nt_xent", "regression", "untrained", "pca", "raw"} <= {a for a, _ in found}

    def test_keys_separate_all_that_changes_a_result(self):
        work = [task for study in STUDIES for quick in (True, False) for task in tasks(study, quick, 2)]
        assert len({task.key for task in work}) == len(work)

    def test_another_candidate_leaves_the_others_as_they_are(self):
        task = tasks(PROXY, False, 1)[0]
        more = replace(task.protocol, bandwidths=(*task.protocol.bandwidths, 9.0))
        assert replace(task, protocol=more).key == task.key
        wider = replace(task.configuration, bandwidth=9.0)
        assert replace(task, configuration=wider).key != task.key

    @pytest.mark.parametrize("study", STUDIES)
    def test_tasks_survive_json(self, study):
        for task in tasks(study, True, 2):
            assert task_from_dict(json.loads(json.dumps(asdict(task)))) == task

    def test_names(self):
        assert ConditionalConfiguration("y_aware", 0.5).name == "y-Aware InfoNCE (bandwidth 0.5)"
        assert ConditionalConfiguration("raw").name == "Raw features"
        task = ConditionalTask(ConditionalConfiguration("nt_xent"), 3, protocol(PROXY, True))
        assert task.name == "NT-Xent, seed 3"


class TestDigits:
    def test_the_proxy_is_the_class_plus_noise_of_the_stated_size(self):
        images = load_images("digits")
        sample = proxy_sample(images, protocol(PROXY, False), 0, "cpu")
        noise = sample.metadata["proxy"] - images.labels
        assert abs(float(noise.mean())) < 0.05  # 1797 draws of standard deviation 0.5: 4 standard errors
        assert float(noise.std()) == pytest.approx(0.5, rel=0.07)
        assert torch.equal(sample.inputs, images.images)

    def test_meta_data_are_a_function_of_the_seed(self):
        shared = protocol(PROXY, False)
        first, again, other = (digits_sample(shared, seed, "cpu").metadata["proxy"] for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) > 0.9  # both know the class
        labels = load_images("digits").labels
        assert abs(float(torch.corrcoef(torch.stack([first - labels, other - labels]))[0, 1])) < 0.1

    def test_angles_are_uniform_within_the_stated_range(self):
        angle = angle_sample(load_images("digits"), protocol(ANGLE, False), 0, "cpu").metadata["angle"]
        assert float(angle.min()) > -60
        assert float(angle.max()) < 60
        share = float((angle < 0).double().mean())
        assert share == pytest.approx(0.5, abs=0.05)

    def test_turning(self):
        images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(turned(images, torch.zeros(5)), images, atol=1e-6)
        quarter = turned(images, torch.full((5,), 90.0))
        known = [torch.rot90(images, k, dims=(2, 3)) for k in (1, 3)]
        assert any(torch.allclose(quarter, each, atol=1e-5) for each in known)
        each = turned(images, torch.tensor([0.0, 90.0, 10.0, -20.0, 45.0], dtype=torch.float64))
        assert torch.allclose(each[1], quarter[1], atol=1e-5)
        back = turned(turned(images[:1], torch.tensor([30.0])), torch.tensor([-30.0]))
        inner = (slice(None), slice(None), slice(2, 6), slice(2, 6))
        assert float((back[inner] - images[:1][inner]).abs().mean()) < 0.25

    def test_views_of_turned_digits_do_not_turn(self):
        assert (
            angle_sample(load_images("digits"), tiny(ANGLE), 0, "cpu")
            .views(torch.rand(2, 1, 8, 8), 0)
            .rotation
            == 0
        )
        assert (
            proxy_sample(load_images("digits"), tiny(PROXY), 0, "cpu")
            .views(torch.rand(2, 1, 8, 8), 0)
            .rotation
            == 15
        )

    @pytest.mark.parametrize("study", [PROXY, ANGLE])
    def test_parts_share_no_image(self, study):
        rows = digits_sample(tiny(study), 0, "cpu").rows
        every = torch.cat([rows[part] for part in PARTS])
        assert len(set(every.tolist())) == len(every) == 1797


class TestDiabetes:
    def test_parts_are_disjoint_whole_and_differ_by_seed(self):
        first, other = (diabetes_sample(protocol(DIABETES, False), seed, "cpu") for seed in (0, 1))
        for sample in (first, other):
            every = torch.cat([sample.rows[part] for part in PARTS])
            assert sorted(every.tolist()) == list(range(442))
            assert [len(sample.rows[part]) for part in PARTS] == [221, 88, 133]
        assert not torch.equal(first.rows["test"], other.rows["test"])

    def test_the_network_does_not_see_the_meta_data(self):
        from sklearn.datasets import load_diabetes

        sample = diabetes_sample(protocol(DIABETES, False), 0, "cpu")
        assert sample.inputs.shape == (442, 7)
        train = sample.inputs[sample.rows["train"]]
        assert torch.allclose(train.mean(dim=0), torch.zeros(7), atol=1e-5)
        assert torch.allclose(train.std(dim=0), torch.ones(7), atol=1e-5)
        table = load_diabetes(scaled=False).data
        correlation = np.corrcoef(sample.inputs.numpy().T, table.T)[:7, 7:]
        same = [place for place in range(10) if np.abs(correlation[:, place]).max() > 0.9999]
        assert same == [1, 4, 5, 6, 7, 8, 9]  # sex and s1 ... s6; not age, bmi, bp

    def test_bandwidths_are_multiples_of_the_median_rules(self):
        sample = diabetes_sample(protocol(DIABETES, False), 0, "cpu")
        own = kernels.kernel_for(sample.table("train"))
        assert sample.kernel(0.5).to_dict() == own.scaled(0.5).to_dict()

    def test_views_replace_the_stated_share_by_values_of_the_same_column(self):
        rows = torch.arange(1000.0)[:, None] + torch.tensor([0.0, 10_000.0, 20_000.0])
        index = torch.arange(1000)
        x, y = RowViews(rows, 0, 0.3)(0, index)
        assert float((x != rows).double().mean()) == pytest.approx(0.3, abs=0.05)
        assert not torch.equal(x, y)
        assert torch.equal((x / 10_000).floor(), (rows / 10_000).floor())
        assert torch.equal(RowViews(rows, 0, 0.0)(0, index)[0], rows)
        assert torch.equal(RowViews(rows, 0, 0.3)(0, index[5:9])[1], y[5:9])
        assert not torch.equal(RowViews(rows, 0, 0.3)(1, index)[0], x)
        prints = {RowViews(rows, *given).fingerprint() for given in ((0, 0.3), (1, 0.3), (0, 0.2))}
        assert len(prints) == 3
        with pytest.raises(InputError, match="rows given to RowViews"):
            RowViews(rows, 0, 0.3)(0, torch.tensor([1000]))

    def test_the_encoder_is_a_function_of_its_seed_and_gives_unit_rows(self):
        first, again, other = (RowEncoder(4, columns=7, seed=seed).eval() for seed in (0, 0, 1))
        rows = torch.rand(6, 7)
        assert torch.equal(first(rows), again(rows))
        assert not torch.equal(first(rows), other(rows))
        assert torch.allclose(first(rows).norm(dim=1), torch.ones(6))


def sample_of(num=60, width=6):
    """Rows whose classes and numbers can be read by a line."""
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(num, width, generator=draws, dtype=torch.float64)
    number = inputs @ torch.arange(1.0, width + 1, dtype=torch.float64)
    targets = (
        Target("class", "classes", (inputs[:, 0] > 0).long().numpy(), few=True),
        Target("number", "numbers", number.numpy()),
        Target("pair", "numbers", torch.stack([number, inputs[:, 1]], dim=1).numpy()),
    )
    third = num // 3
    rows = {part: torch.arange(k * third, (k + 1) * third) for k, part in enumerate(PARTS)}
    return Sample(
        inputs.float(), {"age": number}, rows, targets, kernels.Gaussian,
        lambda given, seed: RowViews(given, seed, 0.2), lambda seed: RowEncoder(4, columns=width, seed=seed),
    )  # fmt: skip


class TestWork:
    def test_probes_read_what_is_there(self):
        sample = sample_of(300)
        rows = {part: sample.rows[part].numpy() for part in PARTS}
        shared = replace(tiny(PROXY), few_labels=20, few_label_draws=3)
        task = ConditionalTask(ConditionalConfiguration("raw"), 0, shared)
        found = probed(sample.inputs.double().numpy(), sample.targets, rows, task, unit=False)
        assert set(found) == {"class_all", "class_few", "number_all", "pair_all"}
        assert found["number_all"]["test"]["value"] == pytest.approx(1, abs=1e-3)
        assert found["pair_all"]["test"]["value"] == pytest.approx(1, abs=1e-3)
        assert found["pair_all"]["test"]["interval"] is None
        low, high = found["number_all"]["test"]["interval"]
        assert low <= found["number_all"]["test"]["value"] <= high
        assert found["class_all"]["test"]["value"] > 0.93
        assert found["class_few"]["test"]["value"] > 0.6
        assert found["class_all"]["test"]["num"] == 100

    def test_test_rows_play_no_part_in_what_validation_sees(self):
        sample = sample_of()
        rows = {part: sample.rows[part].numpy() for part in PARTS}
        task = ConditionalTask(ConditionalConfiguration("raw"), 0, tiny(PROXY))
        features = sample.inputs.double().numpy()
        few = replace(task, protocol=replace(task.protocol, few_labels=10))
        before = probed(features, sample.targets, rows, few, unit=False)
        poisoned = features.copy()
        poisoned[rows["test"]] = 1e6
        after = probed(poisoned, sample.targets, rows, few, unit=False)
        for name, score in before.items():
            assert after[name]["validation"] == score["validation"]

    def test_labelled_rows_are_the_same_for_all_arms(self):
        assert few_seed(0, 1) == few_seed(0, 1)
        assert len({few_seed(seed, draw) for seed in range(5) for draw in range(10)}) == 50

    def test_regression_is_the_mean_squared_error_of_a_linear_map(self):
        columns = torch.randn(10, 2, generator=torch.Generator().manual_seed(1))
        loss = MetadataRegression(3, columns, 0)
        index = torch.tensor([4, 7])
        x, y = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(2))
        weight, bias = loss.map.weight.detach().double(), loss.map.bias.detach().double()
        errors = [z.double() @ weight.T + bias - columns[index].double() for z in (x, y)]
        wanted = torch.stack(errors).square().mean()
        assert float(loss(x, y, index).detach()) == pytest.approx(float(wanted), rel=1e-5)
        assert torch.equal(loss.map.weight, MetadataRegression(3, columns, 0).map.weight)

    @pytest.mark.parametrize(
        "arm", ["y_aware", "conditional", "instance_conditional", "nt_xent", "align_uniform"]
    )
    def test_losses_get_the_meta_data_of_the_rows_of_the_batch(self, arm):
        sample = sample_of()
        width = 5.0 if arm in CONDITIONED else None
        task = ConditionalTask(ConditionalConfiguration(arm, width), 0, tiny(PROXY))
        loss, own = loss_of(task, sample)
        assert own == []
        index = torch.tensor([3, 11, 0, 17])
        x, y = torch.nn.functional.normalize(
            torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(3)), dim=-1
        )
        ages = sample.metadata["age"][sample.rows["train"]][index]
        kernel = kernels.Gaussian(5.0)
        wanted = {
            "y_aware": lambda: losses.YAwareInfoNCELoss(kernel, 0.1)(x, y, ages),
            "conditional": lambda: losses.ConditionalAlignUniformLoss(kernel)(x, y, ages),
            "instance_conditional": lambda: losses.ConditionalAlignUniformLoss(
                kernel, align_weight=0.0, instance_align_weight=1.0
            )(x, y, ages),
            "nt_xent": lambda: losses.NTXentLoss(0.1)(x, y),
            "align_uniform": lambda: losses.AlignUniformLoss()(x, y),
        }[arm]()
        assert float(loss(x, y, index)) == pytest.approx(float(wanted), rel=1e-6)

    def test_components_are_chosen_by_validation(self):
        task = ConditionalTask(ConditionalConfiguration("pca"), 0, tiny(DIABETES))
        scores = run_arm(task, Parts("cpu"), None)["scores"]
        assert {each["components"] for each in scores.values()} <= {2, 4, 6}
        raw = run_arm(replace(task, configuration=ConditionalConfiguration("raw")), Parts("cpu"), None)
        both = run_arm(
            replace(task, configuration=ConditionalConfiguration("raw_and_metadata")), Parts("cpu"), None
        )
        name = "progression_all_output"
        assert both["scores"][name]["test"]["value"] > raw["scores"][name]["test"]["value"] > 0.2
        assert both["scores"]["metadata_all_output"]["test"]["value"] > 0.999

    @pytest.mark.parametrize("arm", ["y_aware", "regression", "untrained"])
    def test_an_arm_is_a_function_of_its_task(self, arm, tmp_path):
        width = 1.0 if arm == "y_aware" else None
        task = ConditionalTask(ConditionalConfiguration(arm, width), 1, tiny(DIABETES))
        first, again = (run_arm(task, Parts("cpu"), tmp_path) for _ in range(2))
        assert first == again
        assert first["message"] is None
        assert set(first["metrics"]) == {
            "alignment", "uniformity", "conditional_alignment", "conditional_uniformity",
        }  # fmt: skip
        assert len(first["losses"]) == (0 if arm == "untrained" else 1)
        assert list(tmp_path.iterdir()) == []  # no encoder of a table is kept

    def test_a_failed_run_says_why(self, tmp_path, monkeypatch):
        task = ConditionalTask(ConditionalConfiguration("nt_xent"), 0, tiny(DIABETES))
        monkeypatch.setattr(losses.NTXentLoss, "forward", lambda self, x, y: x.sum() * math.nan)
        result = run_arm(task, Parts("cpu"), tmp_path)
        assert result["message"] == "the loss became nan in step 1 (epoch 1)"
        assert result["scores"] == {}


class TestOverSeeds:
    def test_students_t(self):
        found = over_seeds([1.0, 2.0, 3.0])
        assert found["value"] == 2
        quantile = 0.95 * math.sqrt(2 / (1 - 0.95**2))  # closed form for 2 degrees of freedom
        half = quantile / math.sqrt(3)  # the values' standard deviation is 1
        assert found["interval"] == pytest.approx([2 - half, 2 + half], rel=1e-9)
        assert over_seeds([5.0]) == {"value": 5.0, "interval": None, "num": 1, "values": [5.0]}

    def test_differences_are_paired_by_seed(self):
        first = {"seeds": [0, 1, 3], "scores": {"s": over_seeds([1.0, 2.0, 9.0])}}
        second = {"seeds": [3, 0, 2], "scores": {"s": over_seeds([5.0, 0.5, 7.0])}}
        assert compare_arms(first, second, "s")["values"] == [0.5, 4.0]
        assert compare_arms(first, second, "other") is None

    def test_coverage(self):
        draws = np.random.Generator(np.random.PCG64(0)).normal(3.0, 2.0, size=(2000, 5))
        ends = np.array([over_seeds(row)["interval"] for row in draws])
        share = ((ends[:, 0] < 3) & (ends[:, 1] > 3)).mean()
        assert share == pytest.approx(0.95, abs=0.02)


def story_of(**changes):
    names = {"y_aware": "y-Aware InfoNCE", "nt_xent": "NT-Xent", "raw": "Raw features"}
    fields = {
        "study": "digits --metadata angle", "title": "What is forgotten?", "lead": ("One.", "Two."),
        "bandwidth": "Bandwidth (degrees)", "names": names, "conditioned": ("y_aware",),
        "scores": (Score("class", "Class", "accuracy"), Score("angle", "Angle, R²", "r2")),
        "chosen_by": "angle", "claims": (), "data": {"name": "made up", "source": "nowhere"},
        "protocol": {"epochs": 3}, "measures": {"alignment": "Alignment"}, "caveats": ("None.",),
        "trade": ("class", "angle"),
    }  # fmt: skip
    return Story(**(fields | changes))


def work_of(arms, seeds=3):
    """Tasks and results: ``arms`` maps (arm, bandwidth) to (validation, test) of both scores for a seed."""
    work, results = [], {}
    for (arm, width), scored in arms.items():
        for seed in range(seeds):
            task = ConditionalTask(ConditionalConfiguration(arm, width), seed, tiny(ANGLE))
            work.append(task)
            results[task.key] = {
                "metrics": {} if arm == "raw" else {"alignment": 0.1 * seed},
                "scores": {
                    name: {"validation": v, "test": {"value": t, "interval": None, "num": 9}}
                    for name, (v, t) in zip(("class", "angle"), scored(seed), strict=True)
                },
                "losses": [],
                "message": None,
            }
    return work, results


ARMS = {
    ("y_aware", 5.0): lambda seed: ((0.9, 0.9 + seed / 100), (0.5, 0.99)),
    ("y_aware", 20.0): lambda seed: ((0.7, 0.7 + seed / 90), (0.9, 0.91)),
    ("nt_xent", None): lambda seed: ((0.8, 0.88 - seed / 100), (0.3, 0.35 + seed / 100)),
    ("raw", None): lambda seed: ((0.6, 0.62), (0.4, 0.4 + seed / 200)),
}


class TestDocument:
    def test_validation_chooses_and_test_has_no_say(self):
        work, results = work_of(ARMS)
        found = conditional_document(story_of(), work, results, quick=False, encoders=set())
        own = next(arm for arm in found["arms"] if arm["arm"] == "y_aware")
        assert own["bandwidths"] == [20.0] * 3  # though 5 is better in both scores on the test part
        assert own["scores"]["angle"]["values"] == [0.91] * 3
        assert [point["num_chosen"] for point in found["curves"][0]["points"]] == [0, 3]
        assert [point["bandwidth"] for point in found["curves"][0]["points"]] == [5.0, 20.0]
        assert own["num_candidates"] == 2

    def test_the_choice_is_made_anew_in_every_seed(self):
        arms = dict(ARMS)
        arms["y_aware", 5.0] = lambda seed: ((0.9, 0.9), (0.95 if seed == 1 else 0.5, 0.6))
        work, results = work_of(arms)
        found = conditional_document(story_of(), work, results, quick=False, encoders=set())
        assert found["arms"][0]["bandwidths"] == [20.0, 5.0, 20.0]
        assert found["arms"][0]["scores"]["angle"]["values"] == [0.91, 0.6, 0.91]

    def test_a_failed_run_is_left_out_and_counted(self):
        work, results = work_of(ARMS)
        bad = next(task for task in work if task.configuration.bandwidth == 20.0 and task.seed == 1)
        results[bad.key] = {"metrics": {}, "scores": {}, "losses": [1.0], "message": "the loss became nan"}
        found = conditional_document(story_of(), work, results, quick=False, encoders=set())
        assert found["arms"][0]["bandwidths"] == [20.0, 5.0, 20.0]
        assert found["arms"][0]["num_failed"] == 1
        assert found["curves"][0]["points"][1]["seeds"] == [0, 2]
        assert "1 failed" in render(found)

    def test_encoders_are_named_where_their_file_is(self):
        work, results = work_of(ARMS)
        found = conditional_document(
            story_of(), work, results, quick=False, encoders={f"{work[0].key}.safetensors"}
        )
        assert found["trials"][0]["encoder"] == f"encoders/{work[0].key}.safetensors"
        assert found["trials"][1]["encoder"] is None

    @pytest.mark.parametrize(
        ("margin", "lower", "first", "second", "verdict"),
        [
            (0.0, False, "y_aware", "nt_xent", "shown"),  # differences .56, .55, .54
            (0.0, False, "nt_xent", "y_aware", "not shown"),
            (0.0, True, "nt_xent", "y_aware", "shown"),
            (0.0, True, "y_aware", "nt_xent", "not shown"),
            (0.7, False, "nt_xent", "y_aware", "shown"),
            (0.7, True, "nt_xent", "y_aware", "not shown"),
            (0.0, False, "nt_xent", "raw", "not shown"),
        ],
    )
    def test_verdicts(self, margin, lower, first, second, verdict):
        work, results = work_of(ARMS)
        found = conditional_document(story_of(), work, results, quick=False, encoders=set())
        claim = Claim("It is so.", (first,), (second,), "angle", margin, lower)
        assert check_claim(claim, found)["verdict"] == verdict

    def test_unclear_when_the_interval_holds_both_or_there_is_one_seed(self):
        arms = dict(ARMS)
        arms["raw", None] = lambda seed: ((0.6, 0.6), (0.4, (0.2, 0.35, 0.6)[seed]))
        work, results = work_of(arms)
        found = conditional_document(story_of(), work, results, quick=False, encoders=set())
        claim = Claim("It is so.", ("nt_xent",), ("raw",), "angle")
        assert check_claim(claim, found)["verdict"] == "unclear"
        alone = conditional_document(story_of(), *work_of(ARMS, seeds=1), quick=True, encoders=set())
        assert check_claim(claim, alone)["verdict"] == "unclear"
        assert check_claim(replace(claim, first=("pca",)), alone) == {
            "claim": "It is so.", "verdict": "unclear", "evidence": "One of the arms has no finished run.",
        }  # fmt: skip

    def test_evidence_has_values_difference_interval_and_seeds(self):
        found = conditional_document(story_of(), *work_of(ARMS), quick=False, encoders=set())
        evidence = check_claim(Claim("So.", ("y_aware",), ("nt_xent",), "class"), found)["evidence"]
        assert evidence.startswith("y-Aware InfoNCE: 71.1%; NT-Xent: 87.0%; difference -15.9 points [")
        assert evidence.endswith("over 3 seeds (Class, test part).")

    def test_of_several_arms_validation_takes_one(self):
        found = conditional_document(story_of(), *work_of(ARMS), quick=False, encoders=set())
        claim = Claim("So.", ("nt_xent", "raw"), ("y_aware",), "angle")
        assert check_claim(claim, found)["evidence"].startswith("Raw features: ")  # .4 against .3

    def test_unreached(self):
        arms = dict(ARMS)
        arms["conditional", 5.0] = lambda seed: ((0.9, 0.92 + seed / 100), (0.9, 0.995 + seed / 1000))
        arms["y_aware", 5.0] = lambda seed: ((0.9, 0.9 + seed / 200), (0.5, 0.6 + seed / 90))
        names = {"y_aware": "y-Aware InfoNCE", "conditional": "Conditional"}
        story = story_of(names=names, conditioned=("y_aware", "conditional"))
        claim = Unreached("Out of reach.", "conditional", "y_aware", ("class", "angle"))

        def verdict(given):
            work, results = work_of(given)
            work = [task for task in work if task.configuration.arm in names]
            found = conditional_document(story, work, results, quick=False, encoders=set())
            return check_unreached(claim, found)

        assert verdict(arms)["verdict"] == "shown"
        assert "90.5% and 0.611 at 5" in verdict(arms)["evidence"]
        better = {**arms, ("y_aware", 20.0): lambda seed: ((0.7, 0.99), (0.9, 0.999 + seed / 1000))}
        assert verdict(better)["verdict"] == "not shown"
        alike = {**arms, ("y_aware", 20.0): lambda seed: ((0.7, (0.8, 1.0, 0.96)[seed]), (0.9, 0.999))}
        assert verdict(alike)["verdict"] == "unclear"


class TestPage:
    @pytest.fixture
    def document(self):
        claims = (Claim("y-Aware knows the angle better.", ("y_aware",), ("nt_xent",), "angle"),)
        return conditional_document(story_of(claims=claims), *work_of(ARMS), quick=False, encoders=set())

    def test_says_what_there_is(self, document):
        page = render(json.loads(json.dumps(document, allow_nan=False, sort_keys=True)))
        for part in (
            "What is forgotten?", "One.", "y-Aware knows the angle better.", "shown", "Bandwidth (degrees)",
            "Angle, R²", "Both sides of the trade", "made up", "spherometer study digits --metadata angle",
            "--out runs/digits-angle", "NT-Xent", "Student", "Chosen in",
        ):  # fmt: skip
            assert part in page, part
        assert page == render(document)
        assert "<script" not in page

    def test_files(self, document, tmp_path):
        page = write_study(document, tmp_path / "out")
        assert page == tmp_path / "out" / "report.html"
        names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
        figures = {f"figures/{name}.{kind}" for name in ("bandwidths", "trade") for kind in ("svg", "png")}
        assert names == {"report.html", "trials.csv"} | figures
        lines = (tmp_path / "out" / "trials.csv").read_text().splitlines()
        assert lines[0] == (
            "key,name,arm,bandwidth,seed,status,message,alignment,angle_validation,angle_test,"
            "angle_test_low,angle_test_high,class_validation,class_test,class_test_low,class_test_high"
        )
        assert len(lines) == 1 + 12
        assert lines[1].split(",")[1:7] == [
            "y-Aware InfoNCE (bandwidth 5)",
            "y_aware",
            "5.0",
            "0",
            "finished",
            "",
        ]

    def test_texts_are_escaped(self, document):
        document["title"] = document["arms"][0]["name"] = "<b>x</b>"
        document["findings"][0]["evidence"] = "<img src=x>"
        page = render(document)
        assert "<b>x</b>" not in page
        assert "<img src=x>" not in page

    def test_without_trade_and_without_curves(self, document):
        document["trade"], document["curves"] = None, []
        assert "<figure>" not in render(document)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d.pop("arms"), "have the key 'arms'"),
            (lambda d: d.update(chosen_by="x"), "document.chosen_by must be one of the scores"),
            (lambda d: d.update(trade=["class"]), "document.trade must be two of the scores"),
            (lambda d: d["curves"][0]["points"][0].update(bandwidth=0), "bandwidth must be above 0"),
            (lambda d: d["arms"][0]["scores"]["class"].update(value="x"), "scores.class.value must be"),
            (lambda d: d["trials"][0].update(seed=None), "trials[0].seed must be a whole number"),
        ],
    )
    def test_damaged_documents_are_refused(self, document, change, message):
        change(document)
        with pytest.raises(InputError) as caught:
            render(document)
        assert message in str(caught.value)


class TestStories:
    def test_scores_arms_and_claims_fit_together(self):
        images = load_images("digits")
        stories = [
            proxy_story(protocol(PROXY, False), images),
            angle_story(protocol(ANGLE, False), images),
            diabetes_story(protocol(DIABETES, False)),
        ]
        for story, study in zip(stories, STUDIES, strict=True):
            assert story.study == study
            shared = protocol(study, False)
            assert set(story.names) == {each.arm for each in grid(shared)} <= set(NAMES)
            scores = {score.name for score in story.scores}
            assert story.chosen_by in scores
            for claim in story.claims:
                wanted = claim.scores if isinstance(claim, Unreached) else (claim.score,)
                arms = (
                    (claim.first, claim.second)
                    if isinstance(claim, Unreached)
                    else claim.first + claim.second
                )
                assert set(wanted) <= scores
                assert set(arms) <= set(story.names)
            task = ConditionalTask(ConditionalConfiguration("raw"), 0, tiny(study))
            assert scores <= set(run_arm(task, Parts("cpu"), None)["scores"])
            json.dumps([story.data, story.protocol], allow_nan=False)

    def test_what_the_proxy_alone_knows_is_told(self):
        story = proxy_story(protocol(PROXY, False), load_images("digits"))
        share = float(story.data["proxy_alone"].split(" for ")[1].split("%")[0]) / 100
        within = math.erf(0.5 / 0.5 / math.sqrt(2))  # |noise| < 1/2; at both ends one side is enough
        assert share == pytest.approx(0.8 * within + 0.2 * (1 + within) / 2, abs=0.05)


class TestRuns:
    @pytest.fixture
    def short(self, monkeypatch):
        monkeypatch.setattr("spherometer.study._conditional_grid.protocol", lambda study, quick: tiny(study))

    def test_diabetes_from_data_to_page(self, tmp_path, short, monkeypatch):
        calls = []
        found = run_diabetes(tmp_path / "a", seeds=2, jobs=1, progress=lambda *call: calls.append(call))
        assert calls[-1][:2] == (20, 20)
        assert json.loads((tmp_path / "a" / "results.json").read_text()) == found
        assert found["schema"] == "spherometer.study/conditional/1"
        assert found["seeds"] == [0, 1]
        assert [arm["arm"] for arm in found["arms"]][:3] == list(CONDITIONED)
        assert all(trial["status"] == "finished" for trial in found["trials"])
        monkeypatch.setattr(_pool, "_start", lambda order: pytest.fail("a worker was started"))
        assert run_diabetes(tmp_path / "a", seeds=2, jobs=1) == found
        assert main(["report", str(tmp_path / "a")]) == 0
        assert "442 patients" in (tmp_path / "a" / "report.html").read_text()

    def test_angle_on_the_command_line(self, tmp_path, short, capsys):
        arguments = ["study", "digits", "--metadata", "angle", "--seeds", "1", "--jobs", "1", "--quick"]
        assert main([*arguments, "--out", str(tmp_path / "b")]) == 0
        out = capsys.readouterr().out
        assert "unclear: y-Aware InfoNCE knows the angle better than NT-Xent." in out
        assert len(list((tmp_path / "b" / "encoders").iterdir())) == 7
        assert "What does an encoder forget" in (tmp_path / "b" / "report.html").read_text()

    def test_bad_input(self, tmp_path, capsys):
        with pytest.raises(InputError, match="study digits: metadata must be one of 'proxy', 'angle'"):
            run_digits_metadata(tmp_path / "c", "age")
        with pytest.raises(InputError, match=r"study digits --metadata proxy: seeds must be"):
            run_digits_metadata(tmp_path / "c", "proxy", seeds=0)
        for arguments, line in (
            (
                ["study", "text", "--metadata", "angle"],
                "study: --metadata must be left out, because only digits has a choice of meta-data. "
                "Got 'angle' with 'text'. Run: spherometer study text.",
            ),
            (
                ["study", "digits", "--metadata", "age"],
                "study: --metadata must be 'proxy' or 'angle', because these are made for the digits. "
                "Got 'age'. Run: spherometer study digits --metadata angle.",
            ),
        ):
            assert main(arguments) == 2
            assert line in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
