"""Recipes: what they hold, as TOML and back, what they refuse; and the learning rate they mean."""

import math
import tomllib

import pytest

from spherometer.errors import InputError
from spherometer.training import (
    DataRecipe,
    LossRecipe,
    MethodRecipe,
    OptimizerRecipe,
    Recipe,
    RunRecipe,
    read_recipe,
    recipe_from_dict,
    recipe_to_dict,
    write_recipe,
)
from spherometer.training._schedule import rate
from spherometer.training._toml import differences

RECIPES = [
    Recipe(),
    Recipe(data=DataRecipe('a "quoted"\n\\ name', size=64), run=RunRecipe(minutes=0.5, cached_batch=8)),
    Recipe(method=MethodRecipe("info_nce", queue=64, momentum=0.99), run=RunRecipe(steps=7)),
    Recipe(method=MethodRecipe("combined", parts=(LossRecipe("nt_xent", 0.5), LossRecipe(t=3.0)))),
]


class TestToml:
    @pytest.mark.parametrize("recipe", RECIPES)
    def test_there_and_back(self, recipe):
        assert recipe_from_dict(tomllib.loads(write_recipe(recipe))) == recipe
        assert recipe_from_dict(recipe_to_dict(recipe)) == recipe

    def test_what_is_left_out_has_its_default(self):
        recipe = recipe_from_dict({"run": {"epochs": 3}, "optimizer": {"name": "sgd"}})
        assert recipe == Recipe(run=RunRecipe(epochs=3), optimizer=OptimizerRecipe("sgd"))
        assert Recipe().run.epochs == 100

    @pytest.mark.parametrize(
        ("content", "end"),
        [
            ({"optimiser": {}}, "Got 'optimiser'. Did you mean 'optimizer'."),
            ({"run": {"batchsize": 3}}, "Got 'batchsize'. Did you mean 'batch_size'."),
            ({"run": 3}, "Got 3. Write [run] on a line of its own."),
            ({"log": {"trackers": "x"}}, "Got 'x'. Write it in brackets, trackers = [...]."),
            ({"method": {"name": "combined", "parts": [{"wieght": 1}]}},
             "Got 'wieght'. Did you mean 'weight'."),
        ],
    )  # fmt: skip
    def test_unknown_keys_are_refused_with_the_nearest(self, content, end):
        with pytest.raises(InputError) as error:
            recipe_from_dict(content)
        assert str(error.value).endswith(end)

    def test_files(self, tmp_path):
        path = tmp_path / "recipe.toml"
        path.write_text("[run]\nepochs = 3\n")
        assert read_recipe(path) == {"run": {"epochs": 3}}
        path.write_text("[run\n")
        for bad in (path, tmp_path / "none.toml", tmp_path):
            with pytest.raises(
                InputError, match=r"^train: recipe must be a readable TOML file, because it says"
            ):
                read_recipe(bad)

    def test_differences_leave_out_what_changes_no_number(self):
        before = recipe_to_dict(Recipe())
        same = recipe_to_dict(Recipe(data=DataRecipe(data_dir="elsewhere"), run=RunRecipe(workers=2)))
        other = recipe_to_dict(Recipe(run=RunRecipe(seed=1, steps=3)))
        assert differences(before, same) == []
        assert differences(before, other) == [
            "run.epochs was 100 and is None",
            "run.seed was 0 and is 1",
            "run.steps was None and is 3",
        ]


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        (RunRecipe, {"epochs": -1}, "Recipe: run.epochs must be a whole number of at least 0, because it "
         "counts something. Got -1. Pass for instance run.epochs=0."),
        (RunRecipe, {"epochs": 1, "steps": 1}, "Recipe: run.steps must be left out when run.epochs is there, "
         "because both say how long the run is. Got epochs 1 and steps 1. Leave one of them out."),
        (OptimizerRecipe, {"name": "adam"}, "Recipe: optimizer.name must be one of 'adamw', 'sgd', 'lars', "
         "because nothing else is defined. Got 'adam'. Pass optimizer.name='adamw'."),
        (OptimizerRecipe, {"warmup": 2}, "Recipe: optimizer.warmup must lie in [0, 1], because nothing else "
         "has a meaning here. Got 2. Pass for instance optimizer.warmup = 0."),
        (MethodRecipe, {"momentum": 1.0, "queue": 2}, "Recipe: method.momentum must lie in [0, 1), because "
         "nothing else has a meaning here. Got 1.0. Pass for instance method.momentum = 0."),
        (MethodRecipe, {"name": "nt_xent", "queue": 8, "momentum": 0.9}, "Recipe: method.queue must go with "
         "method.momentum, for align_uniform or info_nce, because the queue keeps what the momentum encoder "
         "made. Got name 'nt_xent', queue 8, momentum 0.9. Pass for instance queue = 4096 and momentum = "
         "0.99, or neither."),
        (MethodRecipe, {"name": "combined"}, "Recipe: method.parts must go with name = \"combined\", because "
         "they are the losses that it adds up. Got name 'combined' with 0 parts. Pass for instance "
         "[[method.parts]] with name = \"info_nce\" and weight = 0.5."),
        (DataRecipe, {"name": ""}, "Recipe: data.name must be text that is not empty, because it names "
         "something. Got ''. Pass for instance data.name = \"digits\"."),
        (LossRecipe, {"name": "sup_con"}, "Recipe: method.parts.name must be one of 'align_uniform', "
         "'info_nce', 'nt_xent', 'decoupled_uniformity', 'hyperspherical_energy', because nothing else is "
         "defined. Got 'sup_con'. Pass method.parts.name='align_uniform'."),
    ],
)  # fmt: skip
def test_bad_fields(section, fields, message):
    with pytest.raises(InputError) as error:
        section(**fields)
    assert str(error.value) == message


class TestRate:
    def test_rises_then_falls_to_zero(self):
        recipe = OptimizerRecipe(learning_rate=1.0, warmup=0.2)
        rates = [rate(recipe, step, 100) for step in range(100)]
        assert rates == sorted(rates[:21]) + sorted(rates[21:], reverse=True)
        assert 0 < rates[0] < 0.1
        assert max(rates) == 1.0
        assert rates[-1] < 1e-3
        assert rates[60] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))

    def test_steps(self):
        recipe = OptimizerRecipe(
            learning_rate=8.0, warmup=0.0, schedule="step", milestones=(0.5, 0.9), gamma=0.5
        )
        rates = [rate(recipe, step, 10) for step in range(10)]
        assert rates == [8.0] * 5 + [4.0] * 4 + [2.0]

    def test_constant_and_another_largest(self):
        recipe = OptimizerRecipe(learning_rate=8.0, warmup=0.5, schedule="constant")
        assert [rate(recipe, step, 4, 3.0) for step in range(4)] == [1.0, 2.0, 3.0, 3.0]
