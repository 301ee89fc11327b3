"""The study of local density: its arms, what they minimise, its claims, its document, its bad inputs."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import calinski_harabasz_score

from spherometer import losses, sphere
from spherometer.errors import InputError
from spherometer.study import _density_findings as findings
from spherometer.study._density_data import load_sample
from spherometer.study._density_grid import (
    ARCHITECTURES,
    DATA,
    TRAINED,
    Arm,
    DensityTask,
    arms,
    protocol,
    task_from_dict,
    tasks,
)
from spherometer.study._density_objectives import (
    LabelHead,
    ScatteredContrast,
    calinski_harabasz,
    objective_of,
)


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

    def test_missing_files_are_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("spherometer.data._locations.SYSTEM", {})
        with pytest.raises(InputError, match=r"fashion_mnist.*train-images-idx3-ubyte"):
            load_sample(protocol("fashion-mnist", quick=True), tmp_path)


def write_idx(place, num_train, num_test):
    place.mkdir()
    generator = np.random.default_rng(0)
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
