"""One function for each promise about inputs, run over every registered loss."""

import inspect
import math

import numpy as np
import pytest
import torch

import spherometer as sm
import strategies
from registry import LOSSES, ages
from spherometer.errors import InputError, ShapeError, UndefinedError

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=str)


def views(num=8, dim=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, dim, generator=generator, dtype=torch.float64)
    y = x + 0.5 * torch.randn(num, dim, generator=generator, dtype=torch.float64)
    return x.to(dtype), y.to(dtype)


def gradients(loss, *sides):
    sides = [side.detach().clone().requires_grad_() for side in sides]
    value = loss.call(*sides)
    value.backward()
    used = sides if loss.uses_second_view else sides[:1]
    return value.detach(), [side.grad for side in used]


def refused(call, error):
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert ": " in str(caught.value)
    return str(caught.value)


@every_loss
def test_documented_and_citable(loss):
    thing = getattr(sm.losses, loss.name)
    text = inspect.getdoc(thing)
    assert "Example:" in text
    assert "Args:" in text
    assert sm.citation(loss.name).startswith("@")


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_result_is_a_full_precision_scalar_near_the_exact_one(loss, dtype):
    x, y = views(dtype=dtype)
    value = loss.call(x, y)
    assert value.shape == ()
    assert value.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert math.isclose(float(value), float(loss.call(x.double(), y.double())), rel_tol=2e-6, abs_tol=2e-6)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("num", [2, 7, 300])
def test_collapsed_rows(loss, dtype, num):
    rows = torch.ones(num, 4, dtype=dtype)
    value, grads = gradients(loss, rows, rows)
    assert math.isclose(float(value), float(loss.collapsed(num)), rel_tol=1e-6, abs_tol=1e-6)
    for grad in grads:
        assert torch.isfinite(grad).all()
        assert grad.abs().max() < 1e-5


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_zero_and_duplicated_rows_have_a_finite_gradient(loss, dtype):
    x, y = views(dtype=dtype)
    x[2], y[3] = 0.0, 0.0
    x[5], y[6] = x[4], x[6]
    value, grads = gradients(loss, x, y)
    assert torch.isfinite(value)
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert grads[0][2].abs().max() == 0


@every_loss
def test_gradients_of_tiny_rows_are_bounded(loss):
    x, y = views(dtype=torch.float32)
    _, grads = gradients(loss, x * 1e-20, y * 1e-20)
    for grad in grads:
        assert torch.isfinite(grad).all()
        assert grad.norm(dim=1).max() <= 1e9  # 1 / eps of the safe normalisation, times the loss's own slope


@every_loss
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows_in_the_value(loss, bad):
    x, y = views(dtype=torch.float32)
    x[3, 1] = bad
    assert torch.isnan(loss.call(x, y))


@every_loss
def test_too_few_rows(loss):
    for num in range(loss.min_rows):
        text = refused(lambda num=num: loss.call(torch.ones(num, 3), torch.ones(num, 3)), UndefinedError)
        assert f"must have at least {loss.min_rows} row" in text
    assert torch.isfinite(loss.call(*views(loss.min_rows)))
    assert torch.isfinite(loss.call(*views(6, 1)))


@every_loss
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_other_dtypes_are_refused(loss, dtype):
    text = refused(
        lambda: loss.call(torch.ones(4, 3, dtype=dtype), torch.ones(4, 3, dtype=dtype)), InputError
    )
    assert "must hold real floating-point numbers (float16, bfloat16, float32 or float64)" in text


@every_loss
@pytest.mark.parametrize("bad", [np.ones((4, 3)), [[1.0]], "x"], ids=["array", "list", "string"])
def test_other_kinds_are_refused(loss, bad):
    text = refused(lambda: loss.call(bad, bad), InputError)
    assert "must be a torch tensor, because a loss is differentiated." in text


@every_loss
@pytest.mark.parametrize("shape", [(4,), (4, 0), (2, 3, 4, 5)], ids=str)
def test_other_shapes_are_refused(loss, shape):
    text = refused(lambda: loss.call(torch.ones(shape), torch.ones(shape)), ShapeError)
    assert f"Got shape {shape}." in text


@pytest.mark.parametrize("loss", [each for each in LOSSES if each.uses_second_view], ids=str)
def test_sides_must_match(loss):
    x, y = views()
    assert "Got " in refused(lambda: loss.call(x, y[:, :3]), ShapeError)
    assert "Got " in refused(lambda: loss.call(x, y[:5]), ShapeError)
    assert "must have the same kind, dtype and device" in refused(lambda: loss.call(x, y.float()), InputError)


@every_loss
def test_layout_changes_no_bit_and_nothing_is_written(loss):
    x, y = views(70, 33, torch.float32)
    wanted = loss.call(x, y)
    for dress in (
        lambda z: z.T.contiguous().T,
        lambda z: torch.stack([z, z], dim=2)[:, :, 1],
        lambda z: z.clone().requires_grad_(),
    ):
        sides = [dress(x), dress(y)]
        versions = [side._version for side in sides]
        assert math.isclose(float(loss.call(*sides).detach()), float(wanted), rel_tol=1e-6)
        assert [side._version for side in sides] == versions
        assert all(torch.equal(side.detach(), z) for side, z in zip(sides, (x, y), strict=True))


@every_loss
@pytest.mark.parametrize("exponent", [-100, -30, 1, 61])
def test_powers_of_two_change_no_bit(loss, exponent):
    x, y = views(dtype=torch.float32)
    assert torch.equal(loss.call(x, y), loss.call(x * 2.0**exponent, y * 2.0**exponent))


@every_loss
def test_rotation_permutation_and_swap(loss):
    x, y = views()
    wanted = loss.call(x, y)
    turn = torch.from_numpy(strategies.rotation(5, 3))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(loss.call(x @ turn, y @ turn), wanted, rtol=1e-12)
    if loss.permutation_invariant:
        assert torch.allclose(loss.call(x[order], y[order]), wanted, rtol=1e-12)
    if loss.swap_invariant:
        assert torch.allclose(loss.call(y, x), wanted, rtol=1e-12)


@every_loss
def test_gradcheck(loss):
    x, y = views(5, 3)
    if not loss.uses_second_view:
        assert torch.autograd.gradcheck(lambda x: loss.call(x, y), (x.requires_grad_(),))
        return
    assert torch.autograd.gradcheck(loss.call, (x.requires_grad_(), y.requires_grad_()))


@every_loss
def test_autocast_and_global_generator(loss):
    x, y = views(dtype=torch.float32)
    wanted, state = loss.call(x, y), torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss.call(x, y), wanted)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("loss", [each for each in LOSSES if each.name != "CombinedLoss"], ids=str)
def test_gather_is_agreed_and_checked(loss):
    """Every loss but the sum of others takes it; one process sees no difference."""
    thing = getattr(sm.losses, loss.name)
    assert inspect.signature(thing).parameters["gather"].default == "auto"
    sides = views()[: 2 if loss.uses_second_view else 1]
    more = {"labels": [i % 2 for i in range(8)]} if loss.labelled else {}
    if loss.conditional:
        more = {"metadata": ages(sides[0])}
    if inspect.isclass(thing):
        made = thing(**loss.options, gather=False)
        found = made(*sides, **more)
        assert "gather=False" in repr(made)
    else:
        found = thing(*sides, gather=False, **more, **loss.options)
    assert torch.equal(found, loss.call(*views()))
    ringed = loss.name in ("uniform_loss", "align_uniform_loss", "AlignUniformLoss") or loss.name.startswith(
        ("info_nce", "InfoNCE", "nt_xent", "NTXent")
    )
    ways = '"auto", "ring" or False' if ringed else '"auto" or False'
    for bad, shown in ((True, "True"), (None, "None"), ("no", "'no'")):
        call = lambda bad=bad: (
            thing(**loss.options, gather=bad)
            if inspect.isclass(thing)
            else thing(*sides, gather=bad, **more, **loss.options)
        )
        assert refused(call, InputError) == (
            f"{loss.name}: gather must be {ways}, because a loss is taken over the rows of all "
            f'ranks, or of one rank alone. Got {shown}. Pass gather="auto", or gather=False in calls '
            "that only some ranks make."
        )
