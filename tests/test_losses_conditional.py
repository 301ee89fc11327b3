"""Losses that compare meta-data, against their definitions written as loops in float64.

Shapes: N samples, two views, D dimensions; w [N, N] similarities, 1 on the diagonal.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spherometer as sm
from spherometer import kernels, losses, pairs
from spherometer.errors import UndefinedError
from spherometer.kernels import Categorical, Epanechnikov, Gaussian, Laplace, Periodic, WeightedSum
from spherometer.losses import ConditionalAlignUniformLoss, DecoupledUniformityLoss, YAwareInfoNCELoss

# --- definitions ----------------------------------------------------------------------------------------


def unit(z):
    z = np.asarray(z, dtype=np.float64)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def log_sum(values):
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def row_problems(z1, z2, w, temperature, views):
    """For every anchor: the logits and the similarities of its candidates."""
    x, y, num = unit(z1), unit(z2), len(w)
    if views == "cross":
        for one, two in ((x, y), (y, x)):
            for i in range(num):
                yield [one[i] @ two[j] / temperature for j in range(num)], [w[i, j] for j in range(num)]
        return
    z = np.concatenate([x, y])
    for i in range(2 * num):
        others = [j for j in range(2 * num) if j != i]
        yield [z[i] @ z[j] / temperature for j in others], [w[i % num, j % num] for j in others]


def y_aware(z1, z2, w, temperature, views="both"):
    """Mean over anchors of log sum_k e^s_k - sum_j a_j s_j."""
    rows = []
    for s, weights in row_problems(z1, z2, w, temperature, views):
        total = sum(weights)
        rows.append(log_sum(s) - sum(a * each for a, each in zip(weights, s, strict=True)) / total)
    return sum(rows) / len(rows)


def threshold(z1, z2, w, temperature, views="both"):
    """The pair (i, k) against those j that are less similar to i than k is, and itself."""
    rows = []
    for s, weights in row_problems(z1, z2, w, temperature, views):
        value = 0.0
        for sk, wk in zip(s, weights, strict=True):
            less = [sj for sj, wj in zip(s, weights, strict=True) if wj < wk]
            value += wk * (log_sum([sk, *less]) - sk)
        rows.append(value / sum(weights))
    return sum(rows) / len(rows)


def expw(z1, z2, w, temperature, views="both"):
    """Mean over anchors of log sum_k e^(s_k (1 - w_k)) - sum_j a_j s_j."""
    rows = []
    for s, weights in row_problems(z1, z2, w, temperature, views):
        candidates = [each * (1 - a) for a, each in zip(weights, s, strict=True)]
        mean = sum(a * each for a, each in zip(weights, s, strict=True)) / sum(weights)
        rows.append(log_sum(candidates) - mean)
    return sum(rows) / len(rows)


def published(z1, z2, w, temperature):
    """The published code: W / W.sum(axis=1) divides columns, and the sum over 2 N rows is divided by N."""
    num = len(w)
    z = np.concatenate([unit(z1), unit(z2)])
    logits = z @ z.T / temperature
    np.fill_diagonal(logits, -1e8)
    weights = np.tile(w, (2, 2))
    np.fill_diagonal(weights, 0.0)
    weights = weights / weights.sum(axis=1)  # broadcasts over rows: column j is divided by the sum of row j
    top = logits.max(axis=1, keepdims=True)
    log_softmax = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return -(weights * log_softmax).sum() / num


def conditional_alignment(z1, z2, w, alpha=2.0):
    x, y, rows = unit(z1), unit(z2), []
    for i in range(len(w)):
        distances = [float(np.linalg.norm(x[i] - y[j])) ** alpha for j in range(len(w))]
        rows.append(sum(a * d for a, d in zip(w[i], distances, strict=True)) / sum(w[i]))
    return sum(rows) / len(rows)


def conditional_uniformity(z, w, t=2.0, form="normalized", limit=0.5):
    z, total, weights, count = unit(z), 0.0, 0.0, 0
    for i in range(len(w)):
        for j in range(i + 1, len(w)):
            v = float(w[i, j] < limit) if form == "threshold" else 1 - w[i, j]
            total += v * math.exp(-t * float(((z[i] - z[j]) ** 2).sum()))
            weights, count = weights + v, count + 1
    return math.log(total / (count if form == "mean" else weights))


def centroids(z1, z2, w, ridge):
    mu = (unit(z1) + unit(z2)) / 2
    return np.linalg.inv(w + ridge * np.eye(len(w))) @ w @ mu


def log_mean_potential(rows, t):
    values = [
        math.exp(-t * float(((rows[i] - rows[j]) ** 2).sum()))
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
    ]
    return math.log(sum(values) / len(values))


# --- what is compared -----------------------------------------------------------------------------------


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(num=9, dim=4, seed=0, spread=0.6):
    centre = draw(num, dim, seed=seed)
    return [centre + spread * draw(num, dim, seed=seed + 1 + v) for v in (0, 1)]


def table(num=9, seed=0):
    generator = torch.Generator().manual_seed(100 + seed)
    return {
        "age": 60 * torch.rand(num, generator=generator, dtype=torch.float64),
        "hour": 24 * torch.rand(num, generator=generator, dtype=torch.float64),
        "sex": ["fm"[i % 2] for i in range(num)],
    }


KERNELS = {
    "gaussian": {"age": Gaussian(9.0)},
    "laplace": {"age": Laplace(9.0)},
    "epanechnikov": {"age": Epanechnikov(25.0)},
    "periodic": {"hour": Periodic(24.0, 3.0)},
    "sex": {"sex": Categorical()},
    "product": {"age": Gaussian(15.0), "sex": Categorical()},
    "sum": WeightedSum({"age": (0.7, Gaussian(9.0)), "sex": (0.3, Categorical())}),
}
FORMS = {"all": y_aware, "threshold": threshold, "expw": expw}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
every_view = pytest.mark.parametrize("sides", ["both", "cross"])
every_repulsion = pytest.mark.parametrize("repulsion", FORMS)


def similarities(kernel, metadata):
    return kernels.as_kernel("test", kernel)(metadata).numpy()


def close(found, wanted, tolerance=1e-12):
    found = float(found.detach()) if isinstance(found, torch.Tensor) else found
    assert abs(found - wanted) <= tolerance * max(1.0, abs(wanted)), (found, wanted)


# --- values against definitions -------------------------------------------------------------------------


@every_kernel
@every_view
@every_repulsion
def test_y_aware_is_its_definition(kernel, sides, repulsion):
    (z1, z2), metadata = views(), table()
    wanted = FORMS[repulsion](z1, z2, similarities(kernel, metadata), 0.3, sides)
    more = {"temperature": 0.3, "views": sides, "repulsion": repulsion}
    close(losses.y_aware_info_nce_loss(z1, z2, metadata, kernel=kernel, **more), wanted)
    close(YAwareInfoNCELoss(kernel, **more)(z1.float(), z2.float(), metadata), wanted, 2e-6)


@every_kernel
def test_compat_is_the_published_formula(kernel):
    (z1, z2), metadata = views(seed=5), table(seed=5)
    loss = YAwareInfoNCELoss(kernel, 0.2, compat="reference")
    wanted = published(z1, z2, similarities(kernel, metadata), 0.2)
    close(loss(z1, z2, metadata), wanted)
    close(sum(loss.terms.values()), wanted)
    assert float(loss.terms["log_candidates"]) == 2 * math.log(17)


@pytest.mark.parametrize("num", [2, 3, 64])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_compat_on_random_data(num, temperature):
    """At least as far from the row-normalised loss as its columns are from rows."""
    (z1, z2), age = views(num, 8, seed=num), 32 + 19 * draw(num, seed=num)
    w = similarities(Gaussian(5.0), age)
    loss = YAwareInfoNCELoss(Gaussian(5.0), temperature, compat="reference")
    close(loss(z1, z2, age), published(z1, z2, w, temperature), 1e-12)
    ours = YAwareInfoNCELoss(Gaussian(5.0), temperature)(z1, z2, age)
    if num == 64:
        assert abs(float(loss(z1, z2, age)) - 2 * float(ours)) > 1e-4


@every_kernel
@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_conditional_alignment_is_its_definition(kernel, alpha):
    (z1, z2), metadata = views(), table()
    loss = ConditionalAlignUniformLoss(kernel, 1.0, 0.0, alpha=alpha)
    wanted = conditional_alignment(z1, z2, similarities(kernel, metadata), alpha)
    close(loss(z1, z2, metadata), wanted)
    close(loss(z1.float(), z2.float(), metadata), wanted, 1e-6)
    assert list(loss.terms) == ["conditional_alignment"]


@every_kernel
@pytest.mark.parametrize("form", ["normalized", "mean", "threshold"])
@pytest.mark.parametrize("t", [0.5, 2.0, 60.0])
def test_conditional_uniformity_is_its_definition(kernel, form, t):
    (z1, z2), metadata = views(), table()
    w = similarities(kernel, metadata)
    loss = ConditionalAlignUniformLoss(kernel, 0.0, 1.0, t=t, form=form)
    wanted = sum(conditional_uniformity(z, w, t, form) for z in (z1, z2)) / 2
    close(loss(z1, z2, metadata), wanted)
    close(loss(z1.float(), z2.float(), metadata), wanted, 2e-6)
    assert list(loss.terms) == ["conditional_uniformity"]


def test_the_threshold_is_a_setting():
    (z1, z2), metadata = views(), table()
    kernel = KERNELS["gaussian"]
    w = similarities(kernel, metadata)
    found = [
        losses.conditional_align_uniform_loss(
            z1, z2, metadata, kernel=kernel, align_weight=0.0, form="threshold", threshold=limit
        )
        for limit in (0.1, 0.9, 1.0)
    ]
    for value, limit in zip(found, (0.1, 0.9, 1.0), strict=True):
        close(value, sum(conditional_uniformity(z, w, 2.0, "threshold", limit) for z in (z1, z2)) / 2)
    close(found[2], float(sm.losses.AlignUniformLoss(0.0, 1.0)(z1, z2)))  # every other sample differs


def test_any_weighted_sum():
    (z1, z2), metadata = views(), table()
    kernel = KERNELS["product"]
    w = similarities(kernel, metadata)
    loss = ConditionalAlignUniformLoss(
        kernel, 0.5, 2.0, instance_align_weight=3.0, global_uniform_weight=0.25, alpha=1.0, t=3.0
    )
    ours = losses.AlignUniformLoss(3.0, 0.25, 1.0, 3.0)
    wanted = 0.5 * conditional_alignment(z1, z2, w, 1.0) + float(ours(z1, z2))
    wanted += sum(conditional_uniformity(z, w, 3.0) for z in (z1, z2))
    close(loss(z1, z2, metadata), wanted)
    assert list(loss.terms) == ["conditional_alignment", "conditional_uniformity", "alignment", "uniformity"]
    for name in ("alignment", "uniformity"):
        close(loss.terms[name], float(ours.terms[name]))
    assert all(term.dtype == torch.float64 and not term.requires_grad for term in loss.terms.values())


def test_a_term_of_weight_zero_is_not_computed(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("computed")

    (z1, z2), metadata = views(), table()
    monkeypatch.setattr(pairs, "conditional_potential", refuse)
    ConditionalAlignUniformLoss(KERNELS["sex"], 1.0, 0.0)(z1, z2, metadata)
    monkeypatch.setattr(pairs, "anchor_distances", refuse)
    ConditionalAlignUniformLoss(KERNELS["sex"], 0.0, 0.0, instance_align_weight=1.0)(z1, z2, metadata)


@every_kernel
@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_kernel_centroids_are_their_definition(kernel, ridge):
    (z1, z2), metadata = views(), table()
    rows = centroids(z1, z2, similarities(kernel, metadata), ridge)
    loss = DecoupledUniformityLoss(1.5, kernel, ridge)
    close(loss(z1, z2, metadata), log_mean_potential(rows, 1.5), 1e-11)
    close(loss(torch.stack([z1, z2], dim=1), metadata), log_mean_potential(rows, 1.5), 1e-11)
    same = losses.decoupled_uniformity_loss(z1, z2, metadata, t=1.5, kernel=kernel, ridge=ridge)
    assert torch.equal(same, loss(z1, z2, metadata))
    close(loss(z1.float(), z2.float(), metadata), log_mean_potential(rows, 1.5), 2e-6)


# --- limits ---------------------------------------------------------------------------------------------


def gradients(loss, *arguments):
    sides = [z.clone().requires_grad_() for z in arguments[:2]]
    value = loss(*sides, *arguments[2:])
    value.backward()
    return value.detach(), [z.grad for z in sides]


@pytest.mark.parametrize("num", [2, 9, 600])
@every_view
def test_a_small_bandwidth_is_the_loss_without_metadata(num, sides):
    (z1, z2), age = views(num, 6), torch.arange(num).double()
    plain = losses.NTXentLoss(0.2) if sides == "both" else losses.InfoNCELoss(0.2)
    wanted, wanted_grads = gradients(plain, z1, z2)
    for repulsion in ("all", "threshold"):
        loss = YAwareInfoNCELoss(Gaussian(1e-6), 0.2, sides, repulsion=repulsion)
        value, grads = gradients(loss, z1, z2, age)
        close(value, float(wanted), 0.0 if repulsion == "all" else 1e-14)
        for grad, other in zip(grads, wanted_grads, strict=True):
            torch.testing.assert_close(grad, other, rtol=1e-11, atol=1e-15)
        if repulsion == "all":
            for name, term in plain.terms.items():
                close(loss.terms[name], float(term), 4e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_small_bandwidth_is_alignment_and_uniformity(dtype):
    (z1, z2), age = views(40, 6), torch.arange(40).double()
    z1, z2 = z1.to(dtype), z2.to(dtype)
    for alpha in (1.0, 2.0):
        loss = ConditionalAlignUniformLoss(Gaussian(1e-6), alpha=alpha)
        plain = losses.AlignUniformLoss(alpha=alpha)
        plain(z1, z2), loss(z1, z2, age)
        tolerance = 1e-15 if dtype is torch.float64 else 1e-7
        close(loss.terms["conditional_alignment"], float(plain.terms["alignment"]), tolerance)
        tolerance = 1e-13 if dtype is torch.float64 else 1e-6
        close(loss.terms["conditional_uniformity"], float(plain.terms["uniformity"]), tolerance)


def test_a_small_bandwidth_shortens_the_means():
    (z1, z2), age = views(20, 6), torch.arange(20).double()
    loss = DecoupledUniformityLoss(2.0, Gaussian(1e-6), ridge=0.25)
    plain = DecoupledUniformityLoss(2.0 / 1.25**2)
    close(loss(z1, z2, age), float(plain(z1, z2)), 1e-13)


def test_a_large_bandwidth_has_the_stated_limits():
    (z1, z2), age = views(12, 5), torch.linspace(20, 80, 12).double() ** 1.1
    x, y = unit(z1), unit(z2)
    loss = YAwareInfoNCELoss(Gaussian(1e9), 0.3, "cross")
    logits = x @ y.T / 0.3
    lse = [log_sum(list(row)) for row in (*logits, *logits.T)]
    close(loss(z1, z2, age), sum(lse) / len(lse) - logits.mean())
    both = ConditionalAlignUniformLoss(Gaussian(1e9))
    both(z1, z2, age)
    close(both.terms["conditional_alignment"], 2 - 2 * float(x.mean(axis=0) @ y.mean(axis=0)))
    squares = (age[:, None] - age).square().numpy()
    wanted = []
    for z in (x, y):
        potentials = np.exp(-2 * ((z[:, None] - z) ** 2).sum(axis=2))
        wanted.append(math.log((squares * potentials).sum() / squares.sum()))
    close(both.terms["conditional_uniformity"], sum(wanted) / 2)
    float32 = ConditionalAlignUniformLoss(Gaussian(1e6), 0.0, 1.0)(z1.float(), z2.float(), age)
    close(float32, sum(wanted) / 2, 2e-6)


@every_repulsion
@every_view
@pytest.mark.parametrize("bandwidth", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("temperature", [1e-4, 0.1, 10.0])
def test_extreme_settings_stay_finite(repulsion, sides, bandwidth, temperature):
    (z1, z2), age = views(7, 3), table(7)["age"]
    loss = YAwareInfoNCELoss(Gaussian(bandwidth), temperature, sides, repulsion=repulsion)
    for dtype in (torch.float32, torch.float64):
        value, grads = gradients(loss, z1.to(dtype), z2.to(dtype), age)
        assert torch.isfinite(value)
        assert all(torch.isfinite(grad).all() for grad in grads)


def test_equal_metadata():
    """y-Aware has its large-bandwidth form, conditional uniformity no pair."""
    (z1, z2), age = views(6), torch.full((6,), 30.0)
    wide = YAwareInfoNCELoss(Gaussian(1e9))(z1, z2, torch.arange(6.0))
    close(YAwareInfoNCELoss(Gaussian(5.0))(z1, z2, age), float(wide))
    assert float(YAwareInfoNCELoss(Gaussian(5.0), repulsion="threshold")(z1, z2, age)) == 0
    for form in ("normalized", "mean", "threshold"):
        with pytest.raises(UndefinedError) as caught:
            ConditionalAlignUniformLoss(Gaussian(5.0), form=form)(z1, z2, age)
        assert str(caught.value) == (
            "ConditionalAlignUniformLoss: metadata must differ between rows, because conditional uniformity "
            "is a mean over pairs with dissimilar meta-data. Got 6 rows, all alike under the kernel. Use "
            "uniformity(z), or a smaller bandwidth or threshold."
        )
    close(
        ConditionalAlignUniformLoss(Gaussian(5.0), 1.0, 0.0)(z1, z2, age),
        2 - 2 * float(unit(z1).mean(axis=0) @ unit(z2).mean(axis=0)),
    )


# --- relations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_categories_are_the_supervised_loss(temperature):
    (z1, z2), labels = views(12), [0, 1, 1, 2, 0, 0, 1, 2, 3, 3, 1, 4]
    wanted = losses.sup_con_loss(z1, z2, labels, temperature=temperature)
    loss = YAwareInfoNCELoss(Categorical(), temperature)
    close(loss(z1, z2, torch.tensor(labels)), float(wanted))
    close(loss(z1, z2, [f"site {label}" for label in labels]), float(wanted))


@every_repulsion
@every_view
def test_terms_add_up_and_alignment_is_conditional(repulsion, sides):
    (z1, z2), age = views(), table()["age"]
    loss = YAwareInfoNCELoss(Gaussian(9.0), 0.3, sides, repulsion=repulsion)
    value = loss(z1, z2, age)
    close(sum(loss.terms.values()), float(value), 1e-15)
    assert float(loss.terms["log_candidates"]) == pytest.approx(math.log(17 if sides == "both" else 9))
    if sides == "cross":  # s = (1 - d^2 / 2) / temperature
        w = similarities(Gaussian(9.0), age)
        squared = (conditional_alignment(z1, z2, w) + conditional_alignment(z2, z1, w)) / 2
        close(loss.terms["alignment"], (squared / 2 - 1) / 0.3)
    if repulsion == "all":
        plain = losses.NTXentLoss(0.3) if sides == "both" else losses.InfoNCELoss(0.3)
        plain(z1, z2)
        close(loss.terms["uniformity"], float(plain.terms["uniformity"]))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 1000), st.floats(0.05, 50))
def test_order_rotation_and_side_do_not_matter(num, dim, seed, bandwidth):
    (z1, z2), age = views(num, dim, seed), 30 * draw(num, seed=seed + 50)
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    turn = torch.linalg.qr(draw(dim, dim, seed=seed))[0]
    kernel = Gaussian(bandwidth)
    for repulsion in FORMS:
        loss = YAwareInfoNCELoss(kernel, 0.5, repulsion=repulsion)
        wanted = float(loss(z1, z2, age))
        close(loss(z2, z1, age), wanted, 1e-11)
        close(loss(z1[order], z2[order], age[order]), wanted, 1e-11)
        close(loss(z1 @ turn, z2 @ turn, age), wanted, 1e-11)
    loss = ConditionalAlignUniformLoss(kernel)
    wanted = float(loss(z1, z2, age))
    close(loss(z1[order], z2[order], age[order]), wanted, 1e-11)
    close(loss(z1 @ turn, z2 @ turn, age), wanted, 1e-11)


def test_the_loss_is_the_metric():
    (z1, z2), metadata = views(30), table(30)
    kernel = KERNELS["product"]
    loss = ConditionalAlignUniformLoss(kernel, form="mean", t=3.0)
    loss(z1, z2, metadata)
    metric = sm.conditional_alignment(z1, z2, metadata, kernel=kernel)
    close(loss.terms["conditional_alignment"], float(metric))
    each = [sm.conditional_uniformity(z, metadata, kernel=kernel, t=3.0, form="mean") for z in (z1, z2)]
    close(loss.terms["conditional_uniformity"], float(sum(each)) / 2)


def test_similar_samples_do_not_repel():
    """Where the metadata agree, threshold and conditional uniformity leave features alone."""
    age = torch.tensor([20.0, 20.0, 60.0])
    z = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.1]], dtype=torch.float64).requires_grad_()
    ConditionalAlignUniformLoss(Gaussian(1.0), 0.0, 1.0)(z, z.detach(), age).backward()
    moved = z.detach() - 1e-4 * z.grad
    before, after = (float((rows[0] - rows[2]).norm()) for rows in (z.detach(), moved))
    assert after > before
    twins = z.detach()[:2].clone().requires_grad_()
    loss = YAwareInfoNCELoss(Gaussian(1.0), repulsion="threshold")
    loss(twins, twins.detach(), age[:2]).backward()
    assert float(twins.grad.abs().max()) == 0


def test_blocks_change_nothing(monkeypatch):
    (z1, z2), age = views(50, 5), table(50)["age"]
    for repulsion in ("threshold", "expw"):
        for sides in ("both", "cross"):
            loss = YAwareInfoNCELoss(Gaussian(9.0), 0.3, sides, repulsion=repulsion)
            monkeypatch.setattr(pairs._repulsion, "_BLOCK", 1 << 19)
            wanted, wanted_grads = gradients(loss, z1, z2, age)
            monkeypatch.setattr(pairs._repulsion, "_BLOCK", 700)
            value, grads = gradients(loss, z1, z2, age)
            close(value, float(wanted), 1e-14)
            for grad, other in zip(grads, wanted_grads, strict=True):
                torch.testing.assert_close(grad, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_many_tiles_are_one_matrix(dtype):
    """More rows than a tile holds, against the dense definition with automatic gradients."""
    (z1, z2), age = views(700, 16), table(700)["age"]
    w = Gaussian(4.0)(age)

    def dense(x, y):
        z = torch.nn.functional.normalize(torch.cat([x, y]), dim=1)
        logits = z @ z.T / 0.2
        mask = ~torch.eye(len(z), dtype=torch.bool)
        weights = w.repeat(2, 2) * mask
        weights = weights / weights.sum(dim=1, keepdim=True)
        lse = torch.logsumexp(logits.masked_fill(~mask, -math.inf), dim=1)
        contrast = (lse - (weights * logits).sum(dim=1)).mean()
        x, y = z[:700], z[700:]
        a = w / w.sum(dim=1, keepdim=True)
        align = (a * (2 - 2 * x @ y.T)).sum(dim=1).mean()
        for each in (x, y):
            k = torch.exp(-2 * (2 - 2 * each @ each.T))
            align = align + ((1 - w) * k).sum().log() / 2 - (1 - w).sum().log() / 2
        return contrast, align

    both = [YAwareInfoNCELoss(Gaussian(4.0), 0.2), ConditionalAlignUniformLoss(Gaussian(4.0))]
    exact = dtype is torch.float64
    for index, loss in enumerate(both):
        wanted, wanted_grads = gradients(lambda x, y, index=index: dense(x, y)[index], z1, z2)
        value, grads = gradients(loss, z1.to(dtype), z2.to(dtype), age)
        close(value, float(wanted), 1e-12 if exact else 2e-6)
        largest = max(float(grad.abs().max()) for grad in wanted_grads)
        for grad, other in zip(grads, wanted_grads, strict=True):
            assert float((grad.double() - other).abs().max()) <= (1e-10 if exact else 2e-5) * largest
