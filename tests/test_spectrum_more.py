"""alpha-ReQ, IsoScore and LiDAR: closed forms, definitions, what changes them and what does not."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
import spherometer as sm
import strategies
from registry import VIEW_METRICS
from spherometer import metrics
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError
from spherometer.metrics import alpha_req, isoscore, lidar

seeds = strategies.seeds


def message(call, error):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return str(caught.value)


def cross(scales):
    """Rows whose principal components are the axes, with standard deviations proportional to ``scales``."""
    return np.concatenate([np.diag(scales), -np.diag(scales)])


def some_views(num=9, many=3, dim=4, seed=0, apart=0.3):
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((num, 1, dim))
    return samples + apart * generator.standard_normal((num, many, dim))


# --- alpha-ReQ ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("dim", [2, 3, 50, 150])
def test_a_power_law_gives_its_exponent(slope, dim):
    z = cross(np.arange(1.0, dim + 1) ** (-slope / 2))
    z = z @ strategies.rotation(dim, 3) + 0.1
    assert math.isclose(alpha_req(z), slope, abs_tol=1e-9)
    if dim > 10:
        assert math.isclose(alpha_req(z, ranks=(6, 100)), slope, abs_tol=1e-9)
        assert math.isclose(alpha_req(z.astype(np.float32)), slope, abs_tol=1e-5)


def test_only_the_ranks_asked_for_count():
    scales = np.concatenate([[50.0, 40.0, 30.0, 20.0, 10.0], np.arange(6.0, 21) ** -0.5, [1e-3, 1e-4]])
    assert math.isclose(alpha_req(cross(scales), ranks=(6, 20)), 1.0, rel_tol=1e-9)
    assert alpha_req(cross(scales)) > 2


@given(seed=seeds, first=st.integers(1, 3), more=st.integers(1, 9))
def test_the_slope_is_the_one_of_the_definition(seed, first, more):
    z = np.random.default_rng(seed).standard_normal((30, 8))
    ranks = first, first + more
    assert math.isclose(alpha_req(z, ranks=ranks), oracles.alpha_req(z, ranks), rel_tol=1e-8)


def test_directions_of_rounding_do_not_count():
    """Rank 3 in 10 dimensions, stored in float32: seven directions hold nothing but rounding."""
    z = cross(np.array([1.0, 0.5, 0.25])) @ strategies.rotation(10, 0)[:3]
    wanted = alpha_req(cross(np.array([1.0, 0.5, 0.25])))
    assert math.isclose(alpha_req(z.astype(np.float32)), wanted, rel_tol=1e-5)
    assert math.isclose(alpha_req(z), wanted, rel_tol=1e-9)


def test_alpha_req_says_what_is_missing():
    line = np.arange(12.0)[:, None] * np.ones(3)
    assert message(lambda: alpha_req(line), UndefinedError) == (
        "alpha_req: z must vary in at least 2 directions, because a slope needs two ranks. Got 1 of 3. "
        "Pass more rows, or look for a collapsed encoder."
    )
    text = message(lambda: alpha_req(np.eye(8), ranks=(7, 9)), UndefinedError)
    assert "vary in at least 8 directions" in text
    for ranks in ((0, 5), (5, 5), (1, 2.0), 7, (True, 5), (1, 2, 3)):
        assert message(lambda ranks=ranks: alpha_req(np.eye(8), ranks=ranks), InputError) == (
            "alpha_req: ranks must be two whole numbers, 1 <= first < last, because the line is fitted from "
            f"one to the other. Got {ranks!r}. Pass ranks=(1, 100)."
        )


# --- IsoScore -----------------------------------------------------------------------------------------


@given(dim=st.integers(2, 12), used=st.integers(1, 12), seed=seeds)
def test_directions_used_alike(dim, used, seed):
    """The closed form of k of D directions with the same variance: (k - 1) / (D - 1)."""
    used = min(used, dim)
    z = cross(np.array([2.0] * used + [0.0] * (dim - used))) @ strategies.rotation(dim, seed) - 3.0
    assert math.isclose(isoscore(z), (used - 1) / (dim - 1), abs_tol=1e-9)


@given(rows=strategies.points(kinds=("normal", "cone", "antipodes"), sizes=(7, 40), dims=(2, 3, 17)))
def test_the_short_form_is_the_algorithm(rows):
    assert math.isclose(isoscore(rows), oracles.isoscore(rows), rel_tol=1e-6, abs_tol=1e-9)


def test_isoscore_of_one_dimension():
    assert message(lambda: isoscore(np.arange(5.0)[:, None]), UndefinedError) == (
        "isoscore: z must have at least 2 dimensions, because one direction cannot be uneven. "
        "Got 1 dimension. Pass features of more dimensions."
    )


# --- LiDAR: of views, so its promises are here -------------------------------------------------------------


def test_the_metrics_of_views():
    assert "lidar" in VIEW_METRICS
    text = inspect.getdoc(lidar)
    for section in ("Args:", "Returns:", "Range", "Raises:", "Cost:", "Source:", "Example:", "Variant:"):
        assert section in text
    assert sm.citation("lidar").startswith("@inproceedings{thilak2024lidar")
    assert lidar.__kwdefaults__ == {"delta": 1e-4, "normalize": False, "nan": "refuse"}


@pytest.mark.parametrize("delta", [1e-4, 0.3])
def test_known_covariances(delta):
    """Samples at +-a_k e_k, views at +-w_k e_k around them: both covariances are diagonal."""
    a, w = np.array([1.0, 2.0, 0.5, 1.5]), np.array([0.1, 0.7, 0.2, 1.0])
    views = cross(a)[:, None] + cross(w)[None]
    ratio = (a**2 / 4) / (w**2 / 4 + delta)
    share = ratio / ratio.sum() + 1e-7
    wanted = math.exp(-(share * np.log(share)).sum())
    assert math.isclose(lidar(views, delta=delta), wanted, rel_tol=1e-12)
    turned = views @ strategies.rotation(4, 1) + 5.0
    assert math.isclose(lidar(turned, delta=delta), wanted, rel_tol=1e-9)
    assert math.isclose(float(lidar(torch.from_numpy(turned).float(), delta=delta)), wanted, rel_tol=1e-5)


@given(seed=seeds, num=st.sampled_from((2, 5, 30)), many=st.sampled_from((2, 4)), dim=st.sampled_from((1, 3)))
def test_the_definition(seed, num, many, dim):
    views = some_views(num, many, dim, seed)
    assert math.isclose(lidar(views), oracles.lidar(views), rel_tol=1e-6)


@given(seed=seeds)
def test_what_changes_nothing(seed):
    generator = np.random.default_rng(seed)
    views = some_views(20, 3, 5, seed)
    value = lidar(views)
    turned = (views @ strategies.rotation(5, seed) + 2.0)[generator.permutation(20)][:, [2, 0, 1]]
    assert math.isclose(lidar(turned), value, rel_tol=1e-8)
    # every invertible map, as soon as delta is nothing
    sheared = views @ (generator.standard_normal((5, 5)) + 4 * np.eye(5))
    assert math.isclose(lidar(sheared, delta=1e-12), lidar(views, delta=1e-12), rel_tol=1e-5)


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e300])
def test_extreme_scales(factor):
    """delta is all there is of tiny features; nothing is left of it beside huge ones."""
    views = some_views(30, 4, 3)
    means = views.mean(axis=1)
    wanted = sm.participation_ratio(means)
    if factor < 1:
        singular = np.linalg.svd(means - means.mean(axis=0), compute_uv=False) ** 2
        wanted = math.exp(-sum(p * math.log(p) for p in singular / singular.sum() + 1e-7))
    else:
        wanted = lidar(views, delta=1e-14)
    assert math.isclose(lidar(views * factor), wanted, rel_tol=1e-6)


def test_many_samples_go_chunk_by_chunk():
    views = some_views(9000, 2, 128, 1)
    views[:, :, 64:] *= 1e-3
    means = views.mean(axis=1)
    within = np.einsum("nvd,nve->de", views - means[:, None], views - means[:, None]) / 18000
    between = np.cov(means.T, bias=True)
    ratio = np.linalg.eigvals(np.linalg.solve(within + 1e-4 * np.eye(128), between)).real
    share = ratio / ratio.sum() + 1e-7
    assert math.isclose(lidar(views), math.exp(-(share * np.log(share)).sum()), rel_tol=1e-8)


def test_views_that_are_all_alike_leave_the_rank_of_the_samples():
    rows = cross(np.array([1.0, 1.0, 1.0, 0.0]))
    assert math.isclose(lidar(np.stack([rows, rows], axis=1)), 3, rel_tol=1e-5)


def test_kinds_and_layouts():
    views = some_views()
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        value = lidar(torch.from_numpy(views).to(dtype).requires_grad_())
        assert value.shape == ()
        assert not value.requires_grad
        assert value.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
        assert abs(float(value) - lidar(views)) < 0.05
    assert type(lidar(views.astype(np.float32))) is float
    assert lidar(np.asfortranarray(views)) == lidar(views)
    assert lidar(views[::-1, ::-1, ::-1][::-1, ::-1, ::-1]) == lidar(views)


def test_samples_with_a_bad_view():
    views = some_views(9)
    spoiled = views.copy()
    spoiled[4, 1, 2] = np.nan
    spoiled[7, 0, 0] = np.inf
    assert message(lambda: lidar(spoiled), InputError) == (
        "lidar: views must be finite, because NaN or infinity in one row spoils every pair with it. "
        "Got 2 of 9 rows with NaN or infinity, the first is row 4. "
        'Remove them, or pass nan="drop" to leave them out.'
    )
    assert lidar(spoiled, nan="drop") == lidar(np.delete(views, [4, 7], axis=0))
    assert "Got 'ignore'" in message(lambda: lidar(views, nan="ignore"), InputError)


def test_what_lidar_refuses():
    views = some_views()
    assert message(lambda: lidar(views[:, 0]), ShapeError) == (
        "lidar: views must have shape [N, V, D], because the views of a sample are compared with those of "
        "the others. Got shape (9, 4). Stack the views: numpy.stack([x, y], axis=1) or "
        "torch.stack([x, y], dim=1)."
    )
    assert message(lambda: lidar(views[:1]), UndefinedError) == (
        "lidar: views must hold at least 2 samples, because samples are told apart by how their views "
        "differ. Got 1. Pass [N, V, D] with several views of several samples."
    )
    assert "at least 2 views of each" in message(lambda: lidar(views[:, :1]), UndefinedError)
    same = np.repeat(views[:1], 6, axis=0)
    assert message(lambda: lidar(same), UndefinedError) == (
        "lidar: views must have samples that differ, because without it no direction tells samples apart. "
        "Got samples whose means are identical. Look for a collapsed encoder."
    )
    for delta in (0, -1.0, math.nan, "1"):
        assert message(lambda delta=delta: lidar(views, delta=delta), InputError).startswith(
            "lidar: delta must"
        )
    for bad in (None, [[1.0]], views.astype(int), views.astype(str)):
        assert message(lambda bad=bad: lidar(bad), InputError).startswith("lidar: views must")
    zero = views.copy()
    zero[2, 1] = 0
    assert math.isfinite(lidar(zero))
    assert "rows of zeros" in message(lambda: lidar(zero, normalize=True), NotOnSphereError)


def test_normalize_scales_every_view():
    views = some_views()
    units = views / np.linalg.norm(views, axis=2, keepdims=True)
    assert math.isclose(lidar(views, normalize=True), lidar(units), rel_tol=1e-9)


@given(seed=seeds, scale=st.sampled_from((0.01, 0.3, 3.0)))
def test_the_range(seed, scale):
    views = some_views(6, 2, 9, seed, scale)
    assert 1 - 1e-9 <= lidar(views) <= 5 + 1e-4


def test_no_generator_is_touched():
    before = torch.get_rng_state()
    lidar(some_views())
    assert torch.equal(before, torch.get_rng_state())


def test_they_are_public():
    for name in ("alpha_req", "isoscore", "lidar"):
        assert name in metrics.__all__
