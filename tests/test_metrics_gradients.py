"""Gradients of the differentiable metrics."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import spherometer as sm
from registry import METRICS
from spherometer import sphere

DIFFERENTIABLE = [metric for metric in METRICS if metric.differentiable]
every_metric = pytest.mark.parametrize("metric", DIFFERENTIABLE, ids=str)


def normal(num, dim, seed=0):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sides(metric, num=7, dim=3):
    features = metric.inputs(normal(num, dim), normal(num, dim, 1))
    return tuple(each.clone().requires_grad_() for each in features)


@every_metric
@pytest.mark.parametrize("dim", [1, 3, 5])
def test_gradcheck(metric, dim):
    if metric.distinct_rows and dim == 1:  # the circle's two points: three rows cannot all differ
        with pytest.raises(sm.errors.UndefinedError):
            metric.call(*sides(metric, dim=dim))
        return
    assert gradcheck(metric.call, sides(metric, dim=dim))


@every_metric
def test_second_gradients(metric):
    assert gradgradcheck(metric.call, sides(metric))


@pytest.mark.parametrize("name", ["uniformity", "cross_uniformity", "conditional_uniformity"])
@pytest.mark.parametrize("t", [0.3, 2.0, 50.0])
def test_gradcheck_of_t(name, t):
    metric = next(each for each in DIFFERENTIABLE if each.name == name)
    sharpness = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda t, *rows: metric.call(*rows, t=t), (sharpness, *sides(metric)))


def test_gradcheck_of_the_estimator_with_self_pairs():
    assert gradcheck(lambda z: sm.uniformity(z, estimator="v"), (normal(6, 3).requires_grad_(),))


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 3.0])
def test_alignment_where_two_sides_coincide(alpha):
    x = normal(5, 3).requires_grad_()
    y = normal(5, 3, 1)
    y[2] = x.detach()[2]
    sm.alignment(x, y, alpha=alpha).backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad[2].abs().max() == 0
    assert gradcheck(lambda x: sm.alignment(x, normal(5, 3, 1), alpha=alpha), (x,))
    power = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda alpha: sm.alignment(x.detach(), y, alpha=alpha), (power,))


@pytest.mark.parametrize("metric", [each for each in DIFFERENTIABLE if not each.distinct_rows], ids=str)
def test_collapsed_and_duplicated_rows_have_a_finite_gradient(metric):
    for rows in (torch.ones(6, 4), normal(3, 4).float()[[0, 0, 1, 1, 2, 2]]):
        features = tuple(each.clone().requires_grad_() for each in metric.inputs(rows, rows))
        metric.call(*features).sum().backward()
        assert all(torch.isfinite(each.grad).all() for each in features)


@every_metric
def test_gradients_are_tangential_and_shrink_with_scale(metric):
    features = sides(metric)
    metric.call(*features).sum().backward()
    longer = tuple((3 * each.detach()).requires_grad_() for each in features)
    metric.call(*longer).sum().backward()
    for each, scaled in zip(features, longer, strict=True):
        assert (each.detach() * each.grad).sum(1).abs().max() < 1e-15
        assert torch.allclose(scaled.grad, each.grad / 3, rtol=1e-12, atol=1e-15)


def test_a_symmetric_set_is_in_balance():
    z = sphere.normalize(normal(9, 4))
    z = torch.cat([z, -z]).requires_grad_()
    sm.uniformity(z).backward()
    assert z.grad.sum(0).abs().max() < 1e-15
    polygon = sphere.polygon(11).requires_grad_()
    sm.uniformity(polygon).backward()
    assert polygon.grad.abs().max() < 1e-15


@every_metric
def test_float32_gradients_point_where_float64_gradients_do(metric):
    exact = sides(metric, num=40, dim=16)
    metric.call(*exact).sum().backward()
    rounded = tuple(each.detach().float().requires_grad_() for each in exact)
    metric.call(*rounded).sum().backward()
    for each, other in zip(exact, rounded, strict=True):
        cosine = torch.nn.functional.cosine_similarity(each.grad.flatten(), other.grad.double().flatten(), 0)
        assert cosine > 1 - 1e-6


def test_second_gradients_of_large_sets_are_refused_or_right():
    z = normal(1100, 2).requires_grad_()
    gradient = torch.autograd.grad(sm.uniformity(z), z, create_graph=True)[0]
    with pytest.raises(Exception, match="1024"):
        gradient.square().sum().backward()
