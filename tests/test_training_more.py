"""Training: energy with alignment, alarms that classes switch off, and options of the losses."""

import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spherometer import losses
from spherometer.cli import main
from spherometer.training import LossRecipe, MethodRecipe, Recipe, read_recipe, recipe_from_dict
from spherometer.training._methods import build_loss
from spherometer.training._watch import Watch


def rows(num: int = 12, dim: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, num, dim, generator=generator, dtype=torch.float64)
    return x, y


def energy(z: torch.Tensor, power: float) -> torch.Tensor:
    """Mean over pairs of distance to the minus power, by definition."""
    z = F.normalize(z, dim=1)
    first, second = torch.triu_indices(len(z), len(z), 1)
    return (z[first] - z[second]).norm(dim=1).pow(-power).mean()


class TestEnergy:
    def test_the_method_aligns_and_repels(self):
        x, y = rows()
        loss = build_loss(
            MethodRecipe("hyperspherical_energy", align_weight=3.0, uniform_weight=0.5, alpha=1.0, power=2.0)
        )
        align = (F.normalize(x, dim=1) - F.normalize(y, dim=1)).norm(dim=1).mean()
        repelled = (energy(x, 2.0) + energy(y, 2.0)) / 2
        torch.testing.assert_close(loss(x, y), 3 * align + 0.5 * repelled, rtol=1e-12, atol=0)
        torch.testing.assert_close(loss.terms["align_uniform.alignment"], align, rtol=1e-12, atol=0)
        torch.testing.assert_close(loss.terms["hyperspherical_energy"], repelled, rtol=1e-12, atol=0)

    def test_a_part_of_a_combination_repels_alone(self):
        x, y = rows()
        parts = (LossRecipe("hyperspherical_energy", 2.0), LossRecipe(uniform_weight=0.0))
        loss = build_loss(MethodRecipe("combined", parts=parts))
        assert [type(part) for part in loss.losses] == [
            losses.HypersphericalEnergyLoss, losses.AlignUniformLoss
        ]  # fmt: skip
        align = (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(dim=1).mean()
        expected = 2 * (energy(x, 1.0) + energy(y, 1.0)) / 2 + align
        torch.testing.assert_close(loss(x, y), expected, rtol=1e-12, atol=0)

    @pytest.mark.parametrize(("align_weight", "nearer"), [(1.0, True), (0.0, False)])
    def test_pairs_come_together_only_with_alignment(self, align_weight, nearer):
        x, y = (side.requires_grad_() for side in rows())
        loss = build_loss(MethodRecipe("hyperspherical_energy", align_weight=align_weight))
        before = float(losses.align_loss(x, y).detach())
        optimizer = torch.optim.SGD([x, y], lr=0.5)
        for _ in range(100):
            optimizer.zero_grad()
            loss(x, y).backward()
            optimizer.step()
        assert (float(losses.align_loss(x, y).detach()) < 0.2 * before) == nearer


class TestWatch:
    @pytest.mark.parametrize(
        ("name", "alarmed"), [("nt_xent", True), ("sup_con", False), ("supervised", False)]
    )
    def test_classes_as_points_alarm_only_where_no_class_is_known(self, name, alarmed):
        recipe = recipe_from_dict({"method": {"name": name}, "monitor": {"every": 50}})
        said: list[str] = []
        watch = Watch(recipe, nn.Identity(), said.append)
        generator = torch.Generator().manual_seed(0)
        centres = F.normalize(torch.randn(10, 32, generator=generator), dim=1)
        for step in range(50, 400, 50):
            x, y = (
                centres[torch.arange(512) % 10] + 1e-3 * torch.randn(512, 32, generator=generator)
                for _ in range(2)
            )
            watch.read(SimpleNamespace(done=step, outcome=SimpleNamespace(sides=(x, y)), index=None))
        assert [alarm["kind"] for alarm in watch.alarms] == (["cluster_collapse"] if alarmed else [])
        assert len(said) == len(watch.alarms)

    def test_a_point_still_alarms_with_classes(self):
        watch = Watch(Recipe(method=MethodRecipe("sup_con")), nn.Identity(), lambda words: None)
        every = Recipe().monitor.every
        for step in range(every, 100 + 4 * every, every):
            sides = (torch.ones(64, 8), torch.ones(64, 8))
            watch.read(SimpleNamespace(done=step, outcome=SimpleNamespace(sides=sides), index=None))
        assert [alarm["kind"] for alarm in watch.alarms] == ["complete_collapse"]


OPTIONS = {"align_weight": 3.0, "uniform_weight": 0.25, "t": 3.5, "alpha": 1.5}


class TestOptions:
    def test_they_reach_the_recipe(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        given = [
            part for name, value in OPTIONS.items() for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        command = ["train", "--steps", "1", "--batch-size", "16", "--dim", "4", "--device", "cpu"]
        assert main([*command, *given, "--out", "out"]) == 0
        method = read_recipe(tmp_path / "out" / "recipe.toml")["method"]
        assert {name: method[name] for name in OPTIONS} == OPTIONS
        capsys.readouterr()

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("--align-weight", "-1", "Recipe: method.align_weight must be a finite number of at least 0"),
            (
                "--uniform-weight",
                "nan",
                "Recipe: method.uniform_weight must be a finite number of at least 0",
            ),
            ("--t", "0", "Recipe: method.t must be"),
            ("--alpha", "0.5", "Recipe: method.alpha must be"),
        ],
    )
    def test_they_are_checked(self, option, value, words, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert main(["train", option, value]) == 2
        assert words in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_help_names_them(self, capsys):
        assert main(["train", "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(re.search(rf"--{name.replace('_', '-')}\s", shown) for name in OPTIONS)
