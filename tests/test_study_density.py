"""The study of local density: its arms, what they minimise, its claims, its document, its bad inputs."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import calinski_harabasz_score

import spherometer as sm
from density_document import made_up_document
from spherometer import losses, sphere
from spherometer.cli._main import main
from spherometer.errors import InputError
from spherometer.study import _density_findings as findings
from spherometer.study import _pool, run_local_density
from spherometer.study._density_data import load_sample
from spherometer.study._density_grid import (
    ARCHITECTURES,
    DATA,
    TRAINED,
    Arm,
    DensityProtocol,
    DensityTask,
    arms,
    protocol,
    task_from_dict,
    tasks,
)
from spherometer.study._density_heads import Features, graph_classifier
from spherometer.study._density_objectives import (
    LabelHead,
    ScatteredContrast,
    calinski_harabasz,
    objective_of,
)
from spherometer.study._density_work import PICTURED
from spherometer.study._recipe import StudyRecipe
from spherometer.training import encode, load_encoder


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sample():
    return load_sample(protocol("digits", quick=False))


def normal(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def unit_rows(num, dim, seed=0):
    return sphere.normalize(normal(num, dim, dtype=torch.float32, seed=seed))


class TestGrid:
    def test_every_objective_by_both_architectures_and_what_needs_no_training(self):
        found = arms(quick=False)
        assert {arm.id for arm in found} == {
            *(f"{objective}-{kind}" for objective in (*TRAINED, "untrained") for kind in ARCHITECTURES),
            "raw",
        }
        assert len({arm.name for arm in found}) == len(found) == 11
        assert Arm("contrastive", "vit").name == "Contrastive (NT-Xent), ViT"
        assert {arm.architecture for arm in arms(quick=True)} == {"conv", None}

    def test_keys_separate_all_that_changes_a_result(self):
        work = [task for data in DATA for quick in (True, False) for task in tasks(data, quick, 2)]
        assert len({task.key for task in work}) == len(work)
        task = work[0]
        other = replace(task, protocol=replace(task.protocol, bad_weight=9.0))
        assert task.key != other.key

    def test_tasks_survive_json(self):
        for task in tasks("fashion-mnist", False, 2):
            again = task_from_dict(json.loads(json.dumps(asdict(task))))
            assert again == task
            assert again.key == task.key

    def test_the_last_checkpoint_is_the_end(self):
        for data in DATA:
            for quick in (True, False):
                shared = protocol(data, quick)
                assert shared.checkpoints[-1] == shared.recipe.epochs
                assert list(shared.checkpoints) == sorted(set(shared.checkpoints))
                assert 0 not in shared.checkpoints


class TestSample:
    def test_digits_train_and_test_on_other_images(self, sample):
        assert (len(sample.train), len(sample.test), sample.num_classes) == (1258, 539, 10)
        assert sample.size == (1, 8, 8)
        rows = [set(part.rows.tolist()) for part in (sample.train, sample.test)]
        assert not rows[0] & rows[1]
        assert len(rows[0] | rows[1]) == 1797
        assert 0.08 < sample.chance < 0.12

    def test_views_are_of_the_training_images(self, sample):
        first, second = sample.measured_views
        assert first.shape == second.shape == (1258, 1, 8, 8)
        assert not torch.equal(first, second)
        assert torch.equal(sample.views(3)(1, torch.arange(5))[0], sample.views(3)(1, torch.arange(9))[0][:5])

    @pytest.mark.parametrize("num", [0, 120])
    def test_large_sets_are_thinned_class_by_class(self, tmp_path, num):
        """IDX files of 28 x 28 pixels, as they are published."""
        write_idx(tmp_path / "mnist", num_train=400, num_test=200)
        shared = replace(protocol("mnist", quick=True), num_train=num, num_test=num // 2)
        found = load_sample(shared, tmp_path)
        assert (len(found.train), len(found.test)) == ((num, num // 2) if num else (400, 200))
        assert torch.bincount(found.labels[0]).tolist() == [(num or 400) // 10] * 10
        assert found.size == (1, 28, 28)
        again = load_sample(shared, tmp_path)
        assert torch.equal(again.images[0], found.images[0])
        assert again.fingerprint() == found.fingerprint()
        write_idx(tmp_path / "fashion_mnist", num_train=400, num_test=200, seed=1)
        other = load_sample(replace(shared, data="fashion-mnist"), tmp_path)
        assert other.fingerprint() != found.fingerprint()

    def test_missing_files_are_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("spherometer.data._locations.SYSTEM", {})
        with pytest.raises(InputError, match=r"fashion_mnist.*train-images-idx3-ubyte"):
            load_sample(protocol("fashion-mnist", quick=True), tmp_path)


def write_idx(place, num_train, num_test, seed=0):
    place.mkdir()
    generator = np.random.default_rng(seed)
    for part, num in (("train", num_train), ("t10k", num_test)):
        pixels = generator.integers(0, 256, (num, 28, 28), dtype=np.uint8)
        header = (2051).to_bytes(4, "big") + b"".join(side.to_bytes(4, "big") for side in (num, 28, 28))
        (place / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = (np.arange(num) % 10).astype(np.uint8)
        header = (2049).to_bytes(4, "big") + num.to_bytes(4, "big")
        (place / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


class TestObjectives:
    def test_calinski_harabasz_is_scikit_learns(self):
        rows, codes = normal(60, 4), torch.arange(60) % 7
        assert float(calinski_harabasz(rows, codes, 7)) == pytest.approx(
            calinski_harabasz_score(rows.numpy(), codes.numpy()), rel=1e-12
        )

    def test_classes_that_are_not_there_do_not_count(self):
        rows, codes = normal(30, 3), torch.arange(30) % 4
        assert float(calinski_harabasz(rows, codes, 9)) == pytest.approx(
            float(calinski_harabasz(rows, codes, 4)), rel=1e-12
        )

    def test_its_gradient(self):
        rows = normal(12, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda z: calinski_harabasz(z, torch.arange(12) % 3, 3), (rows,))

    def test_scattered_contrast_by_its_parts(self):
        x, y, labels = unit_rows(20, 5), unit_rows(20, 5, seed=1), torch.arange(40) % 4
        index = torch.arange(20, 40)
        ratio = calinski_harabasz_score(
            torch.cat([x, y]).numpy(), torch.cat([labels[index], labels[index]]).numpy()
        )
        wanted = float(losses.nt_xent_loss(x, y, temperature=0.2)) + 0.5 * np.log1p(ratio)
        found = ScatteredContrast(0.2, 0.5, labels, 4)(x, y, index)
        assert float(found) == pytest.approx(wanted, rel=1e-5)

    def test_its_weight_rises_in_a_straight_line(self):
        x, y, labels = unit_rows(20, 5), unit_rows(20, 5, seed=1), torch.arange(20) % 4
        plain = float(losses.nt_xent_loss(x, y, temperature=0.2))
        loss = ScatteredContrast(0.2, 2.0, labels, 4, rise=4)
        added = [float(loss(x, y, torch.arange(20))) - plain for _ in range(6)]
        assert [value / added[-1] for value in added] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1], rel=1e-4)

    def test_lowering_it_scatters_classes(self):
        """A few steps on the rows themselves: the ratio falls below what chance gives."""
        rows = (torch.eye(4, dtype=torch.float64).repeat(8, 1) + 0.3 * normal(32, 4)).requires_grad_()
        codes = torch.arange(32) % 4
        before = float(calinski_harabasz(rows.detach(), codes, 4))
        optimizer = torch.optim.SGD([rows], lr=1.0)
        for _ in range(50):
            optimizer.zero_grad()
            torch.log1p(calinski_harabasz(rows, codes, 4)).backward()
            optimizer.step()
        assert float(calinski_harabasz(rows.detach(), codes, 4)) < 1 < before

    def test_label_head_by_hand(self):
        x, y, labels = unit_rows(6, 4), unit_rows(6, 4, seed=1), torch.tensor([2, 0, 1, 1, 0, 2, 2, 1])
        index = torch.tensor([7, 0, 1, 2, 5, 6])
        head = LabelHead(4, labels, 3, 0.1, seed=0)
        logits = head.map(2 * torch.cat([x, y]))  # sqrt(D) = 2
        shares = torch.full((12, 3), 0.1 / 3)
        shares[torch.arange(12), labels[index].repeat(2)] += 0.9
        wanted = -(shares * logits.log_softmax(dim=1)).sum(dim=1).mean()
        assert head(x, y, index).item() == pytest.approx(wanted.item(), rel=1e-5)

    def test_global_generator_is_not_touched(self, sample):
        before = torch.get_rng_state()
        for objective in TRAINED:
            task = DensityTask(Arm(objective, "conv"), 3, protocol("digits", quick=True))
            loss, parameters = objective_of(task, sample)
            value = loss(unit_rows(20, 64), unit_rows(20, 64, seed=1), torch.arange(20))
            assert torch.isfinite(value)
            assert bool(parameters) == (objective == "supervised")
        assert torch.equal(before, torch.get_rng_state())


class TestVerdicts:
    @pytest.mark.parametrize(
        ("interval", "above", "below", "level"),
        [
            ([0.01, 0.02], "shown", "not shown", "shown"),
            ([-0.02, -0.01], "not shown", "shown", "shown"),
            ([-0.02, 0.01], "unclear", "unclear", "shown"),
            ([-0.02, 0.2], "unclear", "unclear", "unclear"),
            ([0.1, 0.2], "shown", "not shown", "not shown"),
            (None, "unclear", "unclear", "unclear"),
        ],
    )
    def test_rules(self, interval, above, below, level):
        pair = {"value": 0.0, "interval": interval, "num": 3}
        assert findings.verdict_above(pair) == above
        assert findings.verdict_below(pair) == below
        assert findings.verdict_level(pair, 0.05) == level
        assert findings.verdict_above(None) == findings.verdict_level(None, 0.05) == "unclear"

    def test_a_claim_about_both_architectures_needs_both(self):
        assert findings.worst(["shown", "shown"]) == "shown"
        assert findings.worst(["shown", "unclear"]) == "unclear"
        assert findings.worst(["unclear", "not shown"]) == "not shown"
        assert findings.worst([]) == "unclear"


def tiny(data="digits", quick=False):
    recipe = StudyRecipe(epochs=2, batch_size=40, learning_rate=5e-3)
    return DensityProtocol(
        "digits", recipe, (1, 2), 120, 60, dim=16, gcn_steps=4, few_labels=20, few_draws=1, panel_rows=40
    )


FEW_ARMS = [
    Arm("bad", "vit"), Arm("supervised", "conv"), Arm("contrastive", "conv"), Arm("untrained", "conv"),
    Arm("raw", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "density"
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spherometer.study._density_grid.protocol", tiny)
        patch.setattr("spherometer.study._local_density.protocol", tiny)
        patch.setattr("spherometer.study._density_grid.arms", lambda quick: FEW_ARMS)
        patch.setattr("spherometer.study._density_document.toys", lambda seeds: [{"name": "none"}])
        found = run_local_density(out, seeds=2, jobs=1, progress=lambda *call: calls.append(call))
        patch.setattr(_pool, "_start", lambda order: pytest.fail("a worker was started"))
        again = run_local_density(out, seeds=2, jobs=1)
    assert again == found
    return out, found, calls


class TestStudy:
    def test_top_level(self, study):
        out, found, calls = study
        assert json.loads((out / "results.json").read_text()) == found
        assert (found["schema"], found["study"], found["seeds"]) == (
            "spherometer.study/local-density/1", "local-density", [0, 1]
        )  # fmt: skip
        assert [done for done, _, _ in calls] == list(range(11))
        assert (found["data"]["num_train"], found["data"]["num_test"]) == (120, 60)
        names = [arm["id"] for arm in found["arms"]]
        assert names == ["supervised-conv", "contrastive-conv", "bad-vit", "untrained-conv", "raw"]
        assert list(found["curves"]) == list(found["final"]) == names
        assert len(list((out / "encoders").glob("*.safetensors"))) == 6

    def test_curves(self, study):
        found = study[1]
        curves = found["curves"]
        assert [entry["epoch"] for entry in curves["contrastive-conv"]] == [0, 1, 2]
        assert [entry["epoch"] for entry in curves["raw"]] == [0]
        start, untrained = curves["contrastive-conv"][0], curves["untrained-conv"][0]
        assert start["rld"] == untrained["rld"]
        assert (start["few"], untrained["few"] is None) == (None, False)
        for entry in curves["supervised-conv"]:
            assert list(entry["rld"]) == ["1", "0.5", "0.2", "0.1", "0.05"]
            assert list(entry["purity"]) == ["1", "10", "100"]
            for cell in (entry["rld"]["0.1"], entry["accuracy"]["gcn"], entry["contrastive_loss"]):
                low, high = cell["interval"]
                assert low <= cell["value"] <= high
                assert cell["num"] == 2
            assert list(entry["test_purity"]) == ["1", "10"]  # 60 test images
        assert curves["raw"][0]["contrastive_loss"] is None

    def test_the_end_keeps_the_seeds(self, study):
        final = study[1]["final"]["contrastive-conv"]
        cell = final["rld"]["0.1"]
        assert cell["value"] == pytest.approx(np.mean(cell["seeds"]))
        assert set(final["accuracy"]) == {"linear", "knn", "gcn", "gcn_chosen_on_test", "gcn_attached"}
        assert set(final["few"]) == {"linear", "knn", "gcn"}
        for fair, chosen in zip(
            *(final["accuracy"][name]["seeds"] for name in ("gcn", "gcn_chosen_on_test")), strict=True
        ):
            assert chosen >= fair

    def test_numbers_are_the_metrics_of_the_kept_encoder(self, study):
        """Measured again, from the file."""
        out, found, _ = study
        sample = load_sample(tiny())
        task = DensityTask(Arm("supervised", "conv"), 1, replace(tiny(), images=sample.fingerprint()))
        encoder, _ = load_encoder(out / "encoders" / f"{task.key}.safetensors")
        rows = encode(encoder, sample.images[0]).output
        values = sm.relative_local_density(rows, sample.labels[0], temperature=[1.0, 0.1])
        final = found["final"]["supervised-conv"]
        for name, value in zip(("1", "0.1"), values, strict=True):
            assert final["rld"][name]["seeds"][1] == pytest.approx(float(value), rel=1e-5)
        wanted = calinski_harabasz_score(rows.double().numpy(), sample.labels[0].numpy())
        assert final["calinski_harabasz"]["seeds"][1] == pytest.approx(wanted, rel=1e-4)

    def test_panels(self, study):
        panels = study[1]["panels"]
        assert {panel["arm"] for panel in panels} <= set(PICTURED)
        assert next(panel["words"] for panel in panels if panel["arm"] == "contrastive-conv") == "small"
        for panel in panels:
            assert len(panel["points"]) == len(panel["labels"]) == 40
            assert all(len(point) == 2 for point in panel["points"])

    def test_heads(self, study):
        heads = {head["name"]: head for head in study[1]["heads"]}
        assert heads["linear"]["parameters"] == 16 * 10 + 10
        assert heads["knn"]["parameters"] == 0
        assert heads["gcn"]["parameters"] == 652
        assert "120 x 16" in heads["gcn"]["words"]

    def test_labels_of_test_images_change_no_measure_of_training_and_no_prediction(self, sample):
        """Poisoned: every test label is another class. Only scores may notice."""
        shared = replace(tiny(), gcn_steps=3)
        parts = load_sample(shared)
        rows = [sphere.normalize(images.flatten(1)) for images in parts.images]
        train, test = parts.labels
        predictions = []
        for labels in (test, (test + 3) % 10):
            features = Features(rows[0], train, rows[1], labels)
            model, _ = graph_classifier(features, (0.1, 0.2), shared, 0)
            predictions.append((model.transduction_, model.temperature_))
        assert np.array_equal(predictions[0][0], predictions[1][0])
        assert predictions[0][1] == predictions[1][1]


@pytest.fixture(scope="module")
def document():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spherometer.study._density_document.toys", lambda seeds: [])
        return made_up_document()


class TestDocument:
    def test_claims_follow_the_numbers(self, document):
        verdicts = {finding["claim"]: finding["verdict"] for finding in document["findings"]}
        assert len(verdicts) == len(document["findings"]) == 14
        claims = list(verdicts)
        assert verdicts[claims[0]] == verdicts[claims[1]] == verdicts[claims[2]] == "shown"
        assert all(finding["evidence"] for finding in document["findings"])

    def test_a_claim_that_is_turned_around_is_not_shown(self, document):
        turned = json.loads(json.dumps(document))
        final = turned["final"]
        for kind in ("conv", "vit"):
            pair = f"contrastive-{kind}", f"supervised-{kind}"
            final[pair[0]], final[pair[1]] = final[pair[1]], final[pair[0]]
        before, after = document["findings"], findings.density_findings(turned)
        for place in (0, 2, 3):
            assert (before[place]["verdict"], after[place]["verdict"]) == ("shown", "not shown")
        assert after[1]["verdict"] == before[1]["verdict"]  # level both ways

    def test_a_failed_arm_leaves_its_claims_open(self, document):
        broken = json.loads(json.dumps(document))
        broken["final"]["contrastive-vit"] = None
        found = findings.density_findings(broken)
        assert found[0]["verdict"] == "unclear"
        assert "nan" not in json.dumps(found)

    def test_strict_json(self, document):
        json.dumps(document, allow_nan=False)


class TestBadInput:
    def test_arguments(self, tmp_path):
        with pytest.raises(InputError) as error:
            run_local_density(tmp_path / "out", "cifar")
        assert str(error.value) == (
            "study local-density: data must be one of 'digits', 'mnist', 'fashion-mnist', because nothing "
            "else is defined. Got 'cifar'. Pass data='digits'."
        )
        with pytest.raises(InputError, match=r"seeds must be a whole number"):
            run_local_density(tmp_path / "out", seeds=0)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["digits", "--data", "mnist"],
                "study: --data must be left out, because only local-density and dense have a choice of data. "
                "Got 'mnist' with 'digits'. Run: spherometer study digits.",
            ),
            (
                ["local-density", "--data", "cifar"],
                "study: --data must be 'digits', 'mnist' or 'fashion-mnist', because the settings are made "
                "for these. Got 'cifar'. Run: spherometer study local-density --data digits.",
            ),
            (
                ["local-density", "--metadata", "proxy"],
                "study: --metadata must be left out, because only digits has a choice of meta-data. "
                "Got 'proxy' with 'local-density'. Run: spherometer study local-density.",
            ),
        ],
    )
    def test_command_line(self, tmp_path, capsys, arguments, message):
        assert main(["study", *arguments, "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr() == ("", f"spherometer: {message}\n")
        assert not (tmp_path / "out").exists()

    def test_missing_images(self, tmp_path, monkeypatch):
        monkeypatch.setattr("spherometer.data._locations.SYSTEM", {})
        with pytest.raises(InputError, match=r"fashion_mnist.*train-images-idx3-ubyte"):
            run_local_density(tmp_path / "out", "fashion-mnist", data_dir=tmp_path)
        assert not (tmp_path / "out").exists()
