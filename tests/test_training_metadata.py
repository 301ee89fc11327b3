"""Training on meta-data: recipes, the kernel, batches, losses at their limits, probes by subject."""

from __future__ import annotations

import copy
import math
import tomllib
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spherometer import losses
from spherometer.data import Draws
from spherometer.errors import InputError
from spherometer.kernels import Gaussian, Product
from spherometer.probes import RidgeProbe, wilson_interval
from spherometer.training import (
    DataRecipe,
    MethodRecipe,
    OptimizerRecipe,
    Recipe,
    RunRecipe,
    recipe_from_dict,
    recipe_to_dict,
    write_recipe,
)
from spherometer.training._feed import Feed
from spherometer.training._learner import Learner
from spherometer.training._loop import Clock, steps
from spherometer.training._machine import Machine
from spherometer.training._metadata import (
    MissingMetadataWarning,
    SomeViews,
    condition,
    kinds_of,
    with_metadata,
)
from spherometer.training._methods import build_method
from spherometer.training._probing_metadata import probe_metadata
from spherometer.training._toml import differences

NUM = 21
AGES = [20.0 + 2.5 * row + (row % 4) / 7 for row in range(NUM)]
SEXES = ["FM"[row % 3 == 1] for row in range(NUM)]


class Views:
    """Noisy rows in float64 with a table of meta-data; two rows for each subject."""

    name = "rows"

    def __init__(self, **columns: list[Any]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.rows = torch.randn(NUM, 6, generator=generator, dtype=torch.float64)
        self.metadata = columns or {"age": AGES, "sex": SEXES}
        self.groups = [f"sub-{row // 2:02d}" for row in range(NUM)]
        self.labels = torch.arange(NUM) % 3

    def __len__(self) -> int:
        return NUM

    def load(self, index: Tensor) -> Tensor:
        return self.rows[index]

    def views(self, loaded: Tensor, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        x, y = (loaded + 0.3 * Draws(0, epoch, view).normal(index, 6) for view in (0, 1))
        return x, y

    def __call__(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.views(self.load(index), epoch, index)

    def fingerprint(self) -> str:
        return "rows"


def recipe(name: str, columns: tuple[str, ...] = ("age", "sex"), *, cached=None, **method: Any) -> Recipe:
    return Recipe(
        data=DataRecipe("rows", metadata=columns),
        method=MethodRecipe(name, **method),
        optimizer=OptimizerRecipe("sgd", learning_rate=0.1, warmup=0.0),
        run=RunRecipe(epochs=9, batch_size=10, cached_batch=cached),
    )


def encoder() -> nn.Module:
    network = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) / 4)
    return network.double()


def learner(made: Recipe, views: Any = None) -> Learner:
    machine = Machine()
    conditions = condition(made, Views() if views is None else views)
    method = build_method(
        made.method, encoder(), dim=5, labels=None, autocast=machine.autocast, conditions=conditions
    )
    return Learner(method.double(), made, machine)


def curve(made: Recipe, num: int = 6, views: Any = None) -> list[float]:
    views = Views() if views is None else views
    items = steps(learner(made, views), views, made, Clock(len(views), made.run))
    return [step.outcome.loss for step in islice(items, num)]


class TestRecipe:
    def test_there_and_back(self):
        made = Recipe(
            data=DataRecipe("bids:tree", metadata=("age", "sex"), suffix="T1w", shape=(8, 9, 10)),
            method=MethodRecipe("y_aware", kernel=("age:gaussian:5", "sex:categorical"), missing="drop"),
        )
        assert recipe_from_dict(tomllib.loads(write_recipe(made))) == made
        assert recipe_from_dict(recipe_to_dict(made)) == made
        assert made.method.conditional
        assert made.method.compared == ("age", "sex")

    def test_recipes_without_metadata_are_as_they_were(self):
        before = recipe_to_dict(Recipe())
        assert set(before["data"]) == {"name", "views", "part", "skip_bad"}
        assert set(before["method"]) == {
            "name", "weight", "align_weight", "uniform_weight", "alpha", "t", "temperature", "power",
            "momentum", "queue", "intra_batch", "parts",
        }  # fmt: skip
        older = copy.deepcopy(before)
        del older["method"]["power"], older["data"]["skip_bad"]
        assert differences(older, before) == []
        assert differences(before, older) == []
        now = recipe_to_dict(Recipe(data=DataRecipe(metadata=("age",))))
        assert differences(older, now) == ["data.metadata was None and is ['age']"]
        elsewhere = recipe_to_dict(Recipe(data=DataRecipe(cache_dir="there")))
        assert differences(before, elsewhere) == []

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"method": {"name": "y_aware"}},
             "Recipe: data.metadata must name columns, because they are compared or probed. Got none for "
             "method.name = 'y_aware'. Pass for instance metadata = [\"age\", \"sex\"] (--metadata "
             "age,sex)."),
            ({"method": {"kernel": ["age:gaussian"]}},
             "Recipe: data.metadata must name columns, because they are compared or probed. Got none for "
             "method.kernel = ('age:gaussian',). Pass for instance metadata = [\"age\", \"sex\"] (--metadata "
             "age,sex)."),
            ({"data": {"metadata": ["age"]}, "method": {"kernel": ["agee:gaussian"]}},
             "Recipe: method.kernel must be among 'age', because it compares columns of data.metadata. Got "
             "'agee'. Did you mean 'age'."),
            ({"data": {"metadata": []}},
             "Recipe: data.metadata must name at least one, each once, because each of them is compared. Got "
             "none. Pass metadata = [\"age\"]."),
            ({"data": {"metadata": ["age", "age"]}},
             "Recipe: data.metadata must name at least one, each once, because each of them is compared. Got "
             "'age', 'age'. Pass metadata = [\"age\"]."),
            ({"data": {"metadata": "age"}},
             "Recipe: data.metadata must be a list, because it may have several entries. Got 'age'. Write it "
             "in brackets, metadata = [...]."),
            ({"data": {"shape": [8, 8]}},
             "Recipe: data.shape must have three numbers, and go without data.voxel_size, because either of "
             "them says what the grid is. Got [8, 8], voxel_size None. Pass one of the two."),
            ({"data": {"voxel_size": 0}},
             "Recipe: data.voxel_size must be"),
            ({"data": {"metadata": ["age"]}, "method": {"name": "y_aware", "form": "mean"}},
             "Recipe: method.form must be left out for y_aware, because it is part of "
             "conditional_align_uniform. Got 'mean'. Leave it out, or choose that method."),
            ({"method": {"repulsion": "expw"}},
             "Recipe: method.repulsion must be left out for align_uniform, because it is part of y_aware. "
             "Got 'expw'. Leave it out, or choose that method."),
            ({"data": {"metadata": ["age"]}, "method": {"name": "y_aware", "kernel": ["age:gaussian:0"]}},
             "Gaussian: bandwidth must be"),
            ({"data": {"metadata": ["age"]}, "method": {"name": "y_aware", "kernel": ["age"]}},
             "kernel_from_text: kernel must have the form COLUMN:KIND[:BANDWIDTH[:PERIOD]], because"),
            ({"data": {"metadata": ["age"]}, "method": {"name": "y_aware", "missing": "ignore"}},
             "Recipe: method.missing must be one of 'refuse', 'neutral', 'drop', because nothing else is "
             "defined. Got 'ignore'. Pass method.missing='refuse'."),
        ],
    )  # fmt: skip
    def test_bad_fields(self, content, message):
        with pytest.raises(InputError) as error:
            recipe_from_dict(content)
        assert str(error.value).startswith(message)
        assert str(error.value).endswith(message[-20:]) or not message.endswith(".")

    def test_parts_of_a_combination_know_no_metadata(self):
        with pytest.raises(InputError, match=r"^Recipe: method.parts.name must be one of 'align_uniform', "):
            recipe_from_dict({"method": {"name": "combined", "parts": [{"name": "y_aware"}]}})


class TestKernel:
    def test_the_usual_one_is_fitted_on_all_rows(self):
        found = condition(recipe("y_aware"), Views())
        assert found.names == ("age", "sex")
        assert found.table.shape == (NUM, 2)
        assert found.table.dtype == torch.float64
        ages = torch.tensor(AGES, dtype=torch.float64)
        distances = torch.pdist(ages[:, None])
        assert found.to_dict()["kernel"]["columns"]["age"]["bandwidth"] == float(
            distances[distances > 0].median()
        )
        assert found.to_dict()["words"].startswith("age: gaussian kernel, bandwidth ")
        torch.testing.assert_close(found.table[:, 0], ages)
        same = [[one == other for other in SEXES] for one in SEXES]
        assert (found.table[:, 1, None] == found.table[:, 1]).tolist() == same

    def test_a_given_one_may_compare_fewer_columns(self):
        found = condition(recipe("y_aware", kernel=("age:gaussian:5",)), Views())
        assert found.kernel == Product({"age": Gaussian(5.0)})
        assert found.names == ("age",)
        assert kinds_of(recipe("y_aware", kernel=("age:gaussian:5",)), Views().metadata) == {
            "age": "number", "sex": "class",
        }  # fmt: skip

    def test_numbers_may_be_categories(self):
        made = recipe("nt_xent", ("site",), kernel=("site:categorical",))
        assert kinds_of(made, {"site": [1.0, 2.0, None]}) == {"site": "class"}
        assert kinds_of(recipe("nt_xent", ("site",)), {"site": [1.0, 2.0, None]}) == {"site": "number"}

    def test_none_without_metadata(self):
        assert condition(Recipe(), Views()) is None
        gaps = Views(age=[None, *AGES[1:]], sex=SEXES)
        found = condition(recipe("align_uniform"), gaps)  # it is measured, not compared
        assert found.kernel.missing == "drop"
        assert learner(recipe("align_uniform")).method.metadata is None

    @pytest.mark.parametrize(
        ("columns", "method", "message"),
        [
            ({"age": [None, 20.0] * 10 + [math.nan]}, {},
             "train: data.metadata 'age' must be there for every sample, because missing values have no "
             "similarity. Got 11 of 21 missing (sub-00, sub-01, sub-02, sub-03, sub-04, ...). Complete the "
             "table, or pass method.missing = \"drop\" or \"neutral\"."),
            ({"age": [30.0] * NUM}, {},
             "train: data.metadata 'age' must vary, because a constant tells no samples apart. Got 21 "
             "samples, all 30.0. Leave that column out."),
            ({"age": [None] * NUM}, {"missing": "neutral"},
             "train: data.metadata 'age' must vary, because a constant tells no samples apart. Got no entry "
             "at all. Leave that column out."),
            ({"bmi": AGES}, {},
             "train: data 'rows' must have the column 'age', because data.metadata names it. Got columns "
             "'bmi'. Name one of them."),
            ({"age": SEXES}, {"kernel": ("age:gaussian:5",)},
             "Product.fit: age must hold numbers, because the kernel compares their differences. Got 'F'. "
             "Pass numbers, or use Categorical() for it."),
        ],
    )  # fmt: skip
    def test_bad_tables(self, columns, method, message):
        with pytest.raises(InputError) as error:
            condition(recipe("y_aware", ("age",), **method), Views(**columns))
        assert str(error.value) == message

    def test_data_without_any(self):
        views = Views()
        del views.metadata
        with pytest.raises(InputError) as error:
            condition(recipe("y_aware"), views)
        assert str(error.value) == (
            "train: data 'rows' must have meta-data, because data.metadata names age, sex. Got samples "
            "without any. Leave data.metadata out, pass data.metadata_file, or volumes with a table."
        )


class TestGaps:
    def test_rows_are_dropped_with_one_line(self):
        views = Views(age=[None if row in (3, 8) else AGES[row] for row in range(NUM)], sex=SEXES)
        assert with_metadata(recipe("y_aware", missing="neutral"), views) is views
        with pytest.warns(MissingMetadataWarning) as said:
            found = with_metadata(recipe("y_aware", missing="drop"), views)
        assert [str(each.message) for each in said] == [
            "2 of 21 samples left out because age or sex is missing, the first is sub-01"
        ]
        rows = torch.tensor([row for row in range(NUM) if row not in (3, 8)])
        assert len(found) == 19
        assert found.metadata["age"] == [AGES[row] for row in rows]
        assert found.groups[3] == "sub-02"
        assert found.labels.tolist() == (rows % 3).tolist()
        index = torch.tensor([0, 3, 18])
        for x, y in zip(found(2, index), views(2, rows[index]), strict=True):
            assert torch.equal(x, y)
        assert torch.equal(found.load(index), views.load(rows[index]))
        assert found.fingerprint() != SomeViews(views, rows[1:]).fingerprint()
        whole = condition(recipe("y_aware", missing="drop"), found)
        assert not torch.isnan(whole.table).any()

    def test_neutral_gaps_reach_the_loss(self):
        views = Views(age=[None if row in (3, 8) else AGES[row] for row in range(NUM)], sex=SEXES)
        made = recipe("y_aware", missing="neutral")
        assert torch.isnan(condition(made, views).table).sum() == 2
        assert all(math.isfinite(value) for value in curve(made, views=views))


class TestBatches:
    @pytest.mark.parametrize("workers", [0, 1])
    def test_every_row_brings_its_own(self, workers):
        views = Views()
        table = condition(recipe("y_aware"), views).table
        order = [(0, torch.tensor([4, 1, 7])), (0, torch.tensor([2, 3, 20, 5]))]
        feed = Feed(views, Machine(), workers=workers, metadata=table)
        for (_, batch), (_, index) in zip(feed(order), order, strict=True):
            assert torch.equal(batch.metadata, table[index])
            parts = batch.chunks(2)
            assert torch.equal(torch.cat([part.metadata for part in parts]), table[index])
            assert [len(part.metadata) for part in parts] == [len(part.x) for part in parts]

    def test_no_metadata_no_columns(self):
        ((_, batch),) = Feed(Views(), Machine())([(0, torch.tensor([4, 1]))])
        assert batch.metadata is None
        assert [part.metadata for part in batch.chunks(2)] == [None, None]


METHODS: dict[str, dict[str, Any]] = {
    "y_aware": {},
    "y_aware threshold": {"repulsion": "threshold"},
    "y_aware expw": {"repulsion": "expw"},
    "conditional_align_uniform": {},
    "conditional_align_uniform mean": {"form": "mean", "instance_align_weight": 0.5},
    "conditional_align_uniform threshold": {"form": "threshold", "threshold": 0.3, "align_weight": 0.0,
                                            "instance_align_weight": 1.0, "global_uniform_weight": 0.25},
    "decoupled_uniformity": {"kernel": ("age:gaussian:5",)},
}  # fmt: skip


class TestMethods:
    @pytest.mark.parametrize("name", METHODS)
    def test_they_learn(self, name):
        made = recipe(name.split()[0], **METHODS[name])
        found = learner(made)
        assert found.method.metadata is not None
        before = copy.deepcopy(found.method.network.state_dict())
        values = curve(made, 12)
        assert all(math.isfinite(value) for value in values)
        assert len(set(values)) == 12
        views = Views()
        items = list(islice(steps(found, views, made, Clock(NUM, made.run)), 12))
        assert [step.outcome.loss for step in items] == values
        assert not torch.equal(before["0.weight"], found.method.network.state_dict()["0.weight"])
        assert items[0].outcome.terms

    @pytest.mark.parametrize("name", METHODS)
    def test_a_cached_batch_is_the_whole_one(self, name):
        options = METHODS[name]
        whole = curve(recipe(name.split()[0], **options))
        parts = curve(recipe(name.split()[0], cached=3, **options))
        assert parts == pytest.approx(whole, abs=1e-10)

    def test_a_narrow_kernel_is_the_loss_without_metadata(self):
        narrow = ("age:gaussian:1e-9",)
        plain = Recipe(
            method=MethodRecipe("nt_xent"),
            optimizer=OptimizerRecipe("sgd", learning_rate=0.1, warmup=0.0),
            run=RunRecipe(epochs=9, batch_size=10),
        )
        assert curve(recipe("y_aware", kernel=narrow)) == pytest.approx(curve(plain), abs=1e-12)
        made = recipe("conditional_align_uniform", kernel=narrow)
        assert curve(made) == pytest.approx(curve(recipe("align_uniform")), abs=1e-12)

    def test_the_loss_gets_the_settings(self):
        y_aware = learner(recipe("y_aware", temperature=0.2, repulsion="expw")).method.loss
        assert isinstance(y_aware, losses.YAwareInfoNCELoss)
        assert (y_aware.temperature, y_aware.repulsion) == (0.2, "expw")
        both = learner(
            recipe("conditional_align_uniform", align_weight=2.0, uniform_weight=3.0, t=1.0, alpha=1.0)
        ).method.loss
        assert isinstance(both, losses.ConditionalAlignUniformLoss)
        assert (both.align_weight, both.uniform_weight, both.t, both.alpha) == (2.0, 3.0, 1.0, 1.0)

    def test_a_method_that_compares_needs_a_table(self):
        with pytest.raises(InputError) as error:
            build_method(MethodRecipe("y_aware"), encoder(), dim=5, labels=None, autocast=Machine().autocast)
        assert str(error.value) == (
            "train: data must have meta-data for y_aware, because its loss compares them. Got data without "
            "meta-data. Use another loss, or name their columns in data.metadata."
        )


class Part:
    """Samples whose pixels hold the age and the sex, and noise."""

    def __init__(self, first: int, num: int, *, each: int = 2, shape: tuple[int, ...] = (1, 2, 3, 2)) -> None:
        generator = torch.Generator().manual_seed(first)
        subject = torch.arange(num) // each
        self.age = 20 + 50 * torch.rand(num, generator=generator)
        male = (subject + first) % 2
        self.values = 0.05 * torch.randn(num, *shape, generator=generator)
        flat = self.values.flatten(1)
        flat[:, 0] += self.age / 50
        flat[:, 3] += male
        self.metadata: dict[str, list[Any]] = {
            "age": self.age.tolist(), "sex": ["FM"[each] for each in male.tolist()],
        }  # fmt: skip
        self.groups = [f"sub-{first + int(each)}" for each in subject]

    def __len__(self) -> int:
        return len(self.values)

    def images(self, index: Tensor) -> Tensor:
        return self.values[index]


KINDS = {"age": "number", "sex": "class"}


class TestProbes:
    def test_numbers_and_categories_on_other_subjects(self):
        train, test = Part(0, 60), Part(100, 24)
        found = probe_metadata(None, train, test, KINDS)
        assert (found["num_train"], found["num_test"]) == (60, 24)
        assert (found["num_train_subjects"], found["num_test_subjects"]) == (30, 12)
        age, sex = found["columns"]["age"], found["columns"]["sex"]
        assert age["kind"] == "number"
        raw = age["features"]["raw"]
        assert raw["dim"] == 12
        wanted = RidgeProbe().fit(train.values.flatten(1), train.metadata["age"], groups=train.groups)
        scores = wanted.evaluate(test.values.flatten(1), test.metadata["age"], groups=test.groups)
        assert raw["ridge"]["r2"] == scores["r2"].to_dict()
        assert raw["ridge"]["mae"] == scores["mae"].to_dict()
        assert raw["ridge"]["strength"] == wanted.strength
        assert raw["ridge"]["r2"]["value"] > 0.9
        assert raw["ridge"]["r2"]["settings"]["interval"] == "bootstrap over groups"
        assert (sex["kind"], sex["classes"], sex["chance"]) == ("class", ["F", "M"], 0.5)
        linear = sex["features"]["raw"]["linear"]
        assert linear["accuracy"] > 0.9
        assert linear["interval"] == list(wilson_interval(linear["accuracy"], 12))

    def test_an_encoder_is_read_as_it_is_and_left_so(self):
        from spherometer.training import build_encoder

        made = build_encoder("conv", dim=4, width=4, hidden=8, norm="batch", channels=1, size=(8, 8))
        made.train()
        before = copy.deepcopy(made.state_dict())
        train, test = Part(0, 40, shape=(1, 8, 8)), Part(100, 12, shape=(1, 8, 8))
        found = probe_metadata(made, train, test, KINDS)
        assert {name: each["dim"] for name, each in found["columns"]["age"]["features"].items()} == {
            "output": 4, "penultimate": 8,
        }  # fmt: skip
        assert made.training
        assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())

    def test_entries_that_are_missing_are_left_out_and_counted(self):
        train, test = Part(0, 60), Part(100, 24)
        train.metadata["age"][4] = None
        test.metadata["age"][:3] = [math.nan] * 3
        found = probe_metadata(None, train, test, KINDS)["columns"]
        assert (found["age"]["num_train"], found["age"]["num_test"]) == (59, 21)
        assert (found["sex"]["num_train"], found["sex"]["num_test"]) == (60, 24)
        assert found["age"]["features"]["raw"]["ridge"]["r2"]["num"] == 21

    def test_a_category_that_training_has_not_counts_as_wrong(self):
        train, test = Part(0, 60), Part(100, 24)
        test.metadata["sex"][:12] = ["other"] * 12
        found = probe_metadata(None, train, test, {"sex": "class"})["columns"]["sex"]
        assert found["classes"] == ["F", "M", "other"]
        assert found["features"]["raw"]["linear"]["accuracy"] <= 0.5

    def test_a_subject_on_both_sides_is_refused(self):
        with pytest.raises(InputError) as error:
            probe_metadata(None, Part(0, 20), Part(9, 20), KINDS)
        assert str(error.value) == (
            "probe_metadata: train and test must have no subject in common, because a probe would recognise "
            "it. Got 1 in both, the first is sub-9. Split by subject."
        )

    def test_without_groups_every_sample_is_its_own(self):
        train, test = Part(0, 40), Part(100, 20)
        train.groups = test.groups = None
        found = probe_metadata(None, train, test, KINDS)
        assert (found["num_train_subjects"], found["num_test_subjects"]) == (40, 20)

    def test_large_volumes_are_averaged_over_blocks(self):
        train, test = (Part(first, 8, shape=(1, 33, 40, 31)) for first in (0, 100))
        found = probe_metadata(None, train, test, {"age": "number"})["columns"]["age"]
        assert found["features"]["raw"]["dim"] == 17 * 20 * 16
        small = torch.arange(8.0 * 2 * 2).view(1, 1, 8, 2, 2)
        from spherometer.training import _probing_metadata

        assert np.array_equal(_probing_metadata._raw(small), small.flatten(1))
