"""One step: LARS by its formula, momentum and queue by their definition, cached batches by the whole ones."""

import copy
from itertools import islice

import pytest
import torch
from torch import nn

from spherometer import losses
from spherometer.data import DigitViews
from spherometer.training import LossRecipe, MethodRecipe, OptimizerRecipe, Recipe, RunRecipe
from spherometer.training._lars import LARS
from spherometer.training._learner import ChunkStatisticsWarning, Learner, LossNotFinite, seeded
from spherometer.training._loop import Clock, steps
from spherometer.training._machine import Machine
from spherometer.training._methods import Batch, build_loss, build_method

METHODS = {
    "align_uniform": MethodRecipe(),
    "info_nce": MethodRecipe("info_nce"),
    "nt_xent": MethodRecipe("nt_xent"),
    "sup_con": MethodRecipe("sup_con"),
    "decoupled_uniformity": MethodRecipe("decoupled_uniformity"),
    "hyperspherical_energy": MethodRecipe("hyperspherical_energy"),
    "combined": MethodRecipe("combined", parts=(LossRecipe("nt_xent", 0.5), LossRecipe())),
    "info_nce queue": MethodRecipe("info_nce", queue=30, momentum=0.9),
    "align_uniform queue": MethodRecipe(queue=30, momentum=0.9),
    "align_uniform queue only": MethodRecipe(queue=30, momentum=0.9, intra_batch=False),
}


def encoder(dropout: float = 0.0, norm: bool = False) -> nn.Module:
    middle = nn.BatchNorm1d(12) if norm else nn.Tanh()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), middle, nn.Dropout(dropout), nn.Linear(12, 5))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) / 4)
    return network.double()


class Views:
    """Digits' views in float64, with classes."""

    def __init__(self, num: int = 21) -> None:
        images = torch.rand(num, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self._views = DigitViews(images, seed=0)
        self.labels = torch.arange(num) % 3

    def __len__(self) -> int:
        return len(self.labels)

    def __call__(self, epoch, index):
        return self._views(epoch, index)


def learner(method: str, *, network=None, cached=None, seed=0, **optimizer) -> Learner:
    recipe = Recipe(
        method=METHODS[method] if method != "supervised" else MethodRecipe("supervised"),
        optimizer=OptimizerRecipe(**{"name": "sgd", "learning_rate": 0.1, "warmup": 0.0, **optimizer}),
        run=RunRecipe(epochs=9, batch_size=10, seed=seed, cached_batch=cached),
    )
    machine = Machine()
    built = build_method(
        recipe.method,
        encoder() if network is None else network,
        dim=5,
        labels=Views().labels,
        autocast=machine.autocast,
    )
    made = Learner(built.double(), recipe, machine)
    made.recipe = recipe
    return made


def run(made: Learner, num: int) -> list[float]:
    views = Views()
    items = steps(made, views, made.recipe, Clock(len(views), made.recipe.run))
    return [step.outcome.loss for step in islice(items, num)]


class TestLars:
    def test_formula(self):
        generator = torch.Generator().manual_seed(0)
        weights, bias = (
            torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 2), (3,))
        )
        parameters = [nn.Parameter(weights.clone()), nn.Parameter(bias.clone())]
        optimizer = LARS(parameters, 0.5, momentum=0.8, weight_decay=0.01, trust=0.02)
        velocity = [torch.zeros_like(weights), torch.zeros_like(bias)]
        for _ in range(3):
            gradients = [
                torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in parameters
            ]
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
            ratio = 0.02 * weights.norm() / (gradients[0].norm() + 0.01 * weights.norm())
            velocity[0] = 0.8 * velocity[0] + ratio * (gradients[0] + 0.01 * weights)
            velocity[1] = 0.8 * velocity[1] + gradients[1]  # no decay and no ratio for a bias
            weights, bias = weights - 0.5 * velocity[0], bias - 0.5 * velocity[1]
            torch.testing.assert_close(parameters[0].data, weights, rtol=1e-14, atol=1e-14)
            torch.testing.assert_close(parameters[1].data, bias, rtol=1e-14, atol=1e-14)

    @pytest.mark.parametrize("zero", ["weights", "gradient"])
    def test_zeros_have_ratio_one(self, zero):
        start = torch.zeros(2, 2) if zero == "weights" else torch.ones(2, 2)
        parameter = nn.Parameter(start.clone())
        parameter.grad = torch.zeros(2, 2) if zero == "gradient" else torch.ones(2, 2)
        LARS([parameter], 0.5).step()
        torch.testing.assert_close(parameter.data, start - 0.5 * parameter.grad)


class TestMethods:
    @pytest.mark.parametrize("method", [*METHODS, "supervised"])
    def test_every_method_learns(self, method):
        made = learner(method, name="adamw")
        x, y = Views()(0, torch.arange(10))
        batch = Batch(x, y, torch.arange(10), Views().labels[:10])
        while not made.method.ready():
            made.fill(batch)
        found = [made.update(batch, 0.01).loss for _ in range(12)]
        assert found[-1] < found[0]

    def test_queue_is_full_before_the_first_step_and_keeps_the_newest(self):
        made = learner("info_nce queue")
        seen = []
        original = made.method.compare

        def compare(features, batch):
            seen.append((len(made.method.queue), made.method.queue.rows().clone()))
            return original(features, batch)

        made.method.compare = compare
        run(made, 3)
        assert [num for num, _ in seen] == [30, 30, 30]
        kept = (seen[1][1][:, None] == seen[0][1][None]).all(2).any(1)
        assert int(kept.sum()) in (30 - 10, 30 - 11)  # one batch of them is new
        assert not made.method.queue.rows().requires_grad

    def test_slow_copy_follows_by_the_definition(self):
        made = learner("info_nce queue", network=encoder(norm=True))
        expected = [weights.detach().clone() for weights in made.method.network.parameters()]
        for _ in range(3):
            views = Views()
            items = steps(made, views, made.recipe, Clock(len(views), made.recipe.run))
            next(items)
            fast = list(made.method.network.parameters())
            expected = [0.9 * slow + 0.1 * new.detach() for slow, new in zip(expected, fast, strict=True)]
        for slow, wanted in zip(made.method.slow.parameters(), expected, strict=True):
            torch.testing.assert_close(slow.data, wanted, rtol=1e-12, atol=1e-12)
            assert not slow.requires_grad
        for slow, fast in zip(made.method.slow.buffers(), made.method.network.buffers(), strict=True):
            assert torch.equal(slow, fast)

    def test_queue_loss_is_the_definition(self):
        made = learner("info_nce queue")
        views = Views()
        x, y = views(0, torch.arange(10))
        batch = Batch(x, y, torch.arange(10))
        for _ in range(3):
            made.fill(batch)
        queue = made.method.queue.rows().clone()
        with torch.no_grad():
            q, k = (nn.functional.normalize(made.method.network(side)) for side in (x, y))
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1) / 0.5
        wanted = nn.functional.cross_entropy(logits, torch.zeros(10, dtype=torch.int64))
        assert made.update(batch, 0.1).loss == pytest.approx(float(wanted), abs=1e-12)

    def test_supervised_value_and_gradient(self):
        made = learner("supervised")
        head = copy.deepcopy(made.method.network.head)
        x, y = Views()(0, torch.arange(10))
        labels = Views().labels[:10]
        network = encoder()
        logits = head(torch.cat([network(x), network(y)]))
        wanted = nn.functional.cross_entropy(logits, torch.cat([labels, labels]))
        wanted.backward()
        found = made.update(Batch(x, y, torch.arange(10), labels), 1e-9)
        assert found.loss == pytest.approx(float(wanted.detach()), abs=1e-12)
        for a, b in zip(made.method.network.encoder.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-11, atol=1e-12)

    def test_losses_get_their_settings(self):
        recipe = MethodRecipe(
            "combined", parts=(LossRecipe("info_nce", 0.5, temperature=0.1), LossRecipe(t=3.0))
        )
        loss = build_loss(recipe)
        assert loss.weights == [0.5, 1.0]
        assert isinstance(loss.losses[0], losses.InfoNCELoss)
        assert (loss.losses[0].temperature, loss.losses[1].t) == (0.1, 3.0)

    def test_clip(self):
        made = learner("nt_xent", clip=1e-3)
        run(made, 1)
        norm = torch.stack([weights.grad.norm() for weights in made.method.network.parameters()]).norm()
        assert float(norm) == pytest.approx(1e-3, rel=1e-4)

    def test_a_loss_that_is_not_finite_touches_nothing(self):
        made = learner("info_nce queue")
        run(made, 2)
        before = copy.deepcopy(made.state())
        x, y = Views()(0, torch.arange(10))
        with pytest.raises(LossNotFinite):
            made.update(Batch(x * float("nan"), y, torch.arange(10)), 0.1)
        after = made.state()
        assert all(torch.equal(before["method"][name], after["method"][name]) for name in before["method"])
        assert after["steps"] == 2


class TestCachedBatch:
    @pytest.mark.parametrize("size", [1, 4, 10])
    @pytest.mark.parametrize("method", METHODS)
    def test_equal_to_the_whole_batch(self, method, size):
        whole, cached = learner(method), learner(method, cached=size)
        assert run(whole, 3) == pytest.approx(run(cached, 3), rel=1e-12, abs=1e-12)
        for a, b in zip(whole.method.network.parameters(), cached.method.network.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(a.data, b.data, rtol=1e-12, atol=1e-12)

    def test_both_passes_have_the_same_dropout(self):
        """A gradient step on the replayed masks: the loss falls along it exactly as predicted."""
        made = learner("nt_xent", network=encoder(dropout=0.5), cached=4, momentum=0.0, weight_decay=0.0)
        start = copy.deepcopy(made.method.network.state_dict())
        x, y = Views()(0, torch.arange(10))
        batch = Batch(x, y, torch.arange(10))

        def loss_at(shift: float) -> float:
            made.method.network.load_state_dict(start)
            for weights, slope in zip(made.method.network.parameters(), slopes, strict=True):
                weights.data -= shift * slope
            made.steps = 0  # the masks are a function of it
            return made.update(batch, 0.0).loss

        made.update(batch, 0.0)
        slopes = [weights.grad.clone() for weights in made.method.network.parameters()]
        predicted = sum(float(slope.square().sum()) for slope in slopes)
        assert (loss_at(-1e-5) - loss_at(1e-5)) / 2e-5 == pytest.approx(predicted, rel=1e-6)

    def test_batch_norm_is_warned_of_and_its_statistics_move_once(self):
        network = encoder(norm=True)
        with pytest.warns(ChunkStatisticsWarning, match="BatchNorm sees one part of it at a time"):
            made = learner("nt_xent", network=network, cached=5)
        x, y = Views()(0, torch.arange(10))
        made.update(Batch(x, y, torch.arange(10)), 0.1)
        assert int(network[2].num_batches_tracked) == 2  # one for each part


def test_seeded_draws_do_not_touch_the_global_generator():
    before = torch.get_rng_state()
    drawn = []
    for numbers in ((1, 2, 3), (1, 2, 3), (1, 3, 2)):
        with seeded(torch.device("cpu"), *numbers):
            drawn.append(torch.rand(3))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
