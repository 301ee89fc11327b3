"""Losses that compare meta-data: derivatives, precision, what may enter, and what is refused.

Shapes: N samples, two views, D dimensions.
"""

import math

import numpy as np
import pytest
import torch

from spherometer import kernels, losses
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.kernels import Categorical, Gaussian, Product
from spherometer.losses import ConditionalAlignUniformLoss, DecoupledUniformityLoss, YAwareInfoNCELoss


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


def close(found, wanted, tolerance=1e-12):
    found = float(found.detach()) if isinstance(found, torch.Tensor) else found
    assert abs(found - wanted) <= tolerance * max(1.0, abs(wanted)), (found, wanted)


def gradients(loss, *arguments):
    sides = [z.clone().requires_grad_() for z in arguments[:2]]
    value = loss(*sides, *arguments[2:])
    value.backward()
    return value.detach(), [z.grad for z in sides]


# --- gradients ------------------------------------------------------------------------------------------

GRADIENTS = {
    **{
        f"{repulsion} {sides}": lambda p, repulsion=repulsion, sides=sides: YAwareInfoNCELoss(
            Gaussian(9.0), p, sides, repulsion=repulsion
        )
        for repulsion in ("all", "threshold", "expw")
        for sides in ("both", "cross")
    },
    "reference": lambda p: YAwareInfoNCELoss(Gaussian(9.0), p, compat="reference"),
    "categories": lambda p: YAwareInfoNCELoss(Categorical(), p),
    "conditional": lambda p: ConditionalAlignUniformLoss(Gaussian(9.0), t=p),
    "conditional, alpha 1": lambda p: ConditionalAlignUniformLoss(Gaussian(9.0), 1.0, 0.5, alpha=1.0, t=p),
    "conditional, mean": lambda p: ConditionalAlignUniformLoss(Gaussian(9.0), 0.0, 1.0, t=p, form="mean"),
    "conditional, threshold": lambda p: ConditionalAlignUniformLoss(Gaussian(9.0), t=p, form="threshold"),
    "all four": lambda p: ConditionalAlignUniformLoss(
        Gaussian(9.0), t=p, instance_align_weight=0.5, global_uniform_weight=0.5
    ),
    "centroids": lambda p: DecoupledUniformityLoss(p, Gaussian(9.0), 0.1),
}


@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_first_and_second_derivatives(make):
    z1, z2 = (z.requires_grad_() for z in views(5, 3))
    p = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    age = torch.tensor([20.0, 31.0, 24.0, 60.0, 22.0], dtype=torch.float64)
    call = lambda x, y, p: make(p)(x, y, age)
    assert torch.autograd.gradcheck(call, (z1, z2, p), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(call, (z1, z2, p), eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_only_one_side_needs_a_gradient(make):
    (z1, z2), age = views(6, 3), table(6)["age"]
    _, grads = gradients(make(0.6), z1, z2, age)
    for side in (0, 1):
        sides = [z1.clone(), z2.clone()]
        sides[side].requires_grad_()
        make(0.6)(*sides, age).backward()
        torch.testing.assert_close(sides[side].grad, grads[side], rtol=1e-12, atol=1e-15)
        assert sides[1 - side].grad is None
    with torch.no_grad():
        assert not make(0.6)(z1, z2, age).requires_grad


@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_zero_rows_and_autocast(make, dtype):
    (z1, z2), age = views(8, 5), table(8)["age"]
    z1, z2 = z1.to(dtype), z2.to(dtype)
    z1[2], z2[5] = 0.0, 0.0
    exact = make(0.6)(z1.double(), z2.double(), age)
    value, grads = gradients(make(0.6), z1, z2, age)
    assert value.dtype == torch.float32
    close(value, float(exact), 2e-6)
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert float(grads[0][2].abs().max()) == 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again, again_grads = gradients(make(0.6), z1, z2, age)
    assert torch.equal(again, value)
    assert all(torch.equal(one, two) for one, two in zip(again_grads, grads, strict=True))


@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_what_is_not_finite_shows(make):
    (z1, z2), age = views(6, 3), table(6)["age"]
    z2[4, 1] = math.nan
    assert torch.isnan(make(0.6)(z1, z2, age))


def test_metadata_get_no_gradient():
    (z1, z2), age = views(6, 3), table(6)["age"].requires_grad_()
    for make in GRADIENTS.values():
        z = z1.clone().requires_grad_()
        make(0.6)(z, z2, age).backward()
        assert age.grad is None
        assert z.grad is not None


def test_second_derivatives_of_many_rows_are_refused():
    z1, z2 = (z.requires_grad_() for z in views(750, 2))  # 750 x 1500 pairs
    for loss in (
        YAwareInfoNCELoss(Gaussian(9.0), repulsion="threshold"),
        YAwareInfoNCELoss(Gaussian(9.0), repulsion="expw"),
    ):
        grads = torch.autograd.grad(loss(z1, z2, torch.arange(750)), (z1, z2), create_graph=True)
        with pytest.raises(UndefinedError, match="must have at most 1024 rows to be differentiated twice"):
            grads[0].square().sum().backward()


# --- what enters ----------------------------------------------------------------------------------------


def test_forms_of_the_arguments():
    (z1, z2), metadata = views(), table()
    kernel = Product({"age": Gaussian(9.0), "sex": Categorical()})
    loss = YAwareInfoNCELoss(kernel)
    wanted = loss(z1, z2, metadata)
    encoded = kernel.encode(metadata)
    stacked = torch.stack([z1, z2], dim=1)
    for arguments in (
        (z1, z2, encoded),
        (stacked, metadata),
        (stacked, None, metadata),
        (z1, z2, {"age": metadata["age"].tolist(), "sex": np.array(metadata["sex"])}),
    ):
        assert torch.equal(loss(*arguments), wanted)
    assert torch.equal(loss(stacked, metadata=encoded), wanted)
    assert torch.equal(YAwareInfoNCELoss(dict(kernel.columns))(z1, z2, metadata), wanted)
    age = metadata["age"]
    one = YAwareInfoNCELoss(Gaussian(9.0))
    assert torch.equal(one(z1, z2, age), one(z1, z2, age[:, None]))
    assert torch.equal(one(z1, z2, age), one(z1, z2, {"age": age}))
    close(one(z1, z2, age.float()), float(one(z1, z2, age)), 1e-6)


def test_fitted_kernels_know_their_numbers():
    (z1, z2), metadata = views(), table()
    kernel = kernels.kernel_for({name: metadata[name] for name in ("age", "sex")})
    numbers = dict(kernel.columns)
    assert isinstance(numbers["age"].bandwidth, float)
    close(YAwareInfoNCELoss(numbers)(z1, z2, metadata), float(YAwareInfoNCELoss(kernel)(z1, z2, metadata)))


@pytest.mark.parametrize(
    "make",
    [
        lambda kernel: YAwareInfoNCELoss(kernel, 0.3),
        lambda kernel: YAwareInfoNCELoss(kernel, 0.3, repulsion="threshold"),
        ConditionalAlignUniformLoss,
        lambda kernel: DecoupledUniformityLoss(kernel=kernel),
    ],
)
def test_rows_with_gaps_are_left_out(make):
    (z1, z2), metadata = views(), table()
    columns = {"age": Gaussian(9.0), "sex": Categorical()}
    age, sex = metadata["age"].clone(), list(metadata["sex"])
    age[2], sex[5] = math.nan, None
    keep = torch.tensor([i not in (2, 5) for i in range(9)])
    loss = make(Product(columns, missing="drop"))
    value, grads = gradients(loss, z1, z2, {"age": age, "sex": sex})
    rest = {"age": age[keep], "sex": [each for each, stays in zip(sex, keep, strict=True) if stays]}
    close(value, float(make(columns)(z1[keep], z2[keep], rest)), 1e-13)
    for grad in grads:
        assert float(grad[~keep].abs().max()) == 0
        assert bool((grad[keep].abs().sum(dim=1) > 0).all())


def test_rows_about_which_nothing_is_known_are_alone():
    """Neutral gaps in every column: the loss without meta-data."""
    z1, z2 = views()
    nothing = torch.full((9,), math.nan)
    kernel = Gaussian(9.0, missing="neutral")
    for sides, plain in (("both", losses.NTXentLoss(0.3)), ("cross", losses.InfoNCELoss(0.3))):
        assert torch.equal(YAwareInfoNCELoss(kernel, 0.3, sides)(z1, z2, nothing), plain(z1, z2))
    loss = ConditionalAlignUniformLoss(kernel)
    close(loss(z1, z2, nothing), float(losses.AlignUniformLoss()(z1, z2)), 1e-13)


def test_nothing_is_written():
    (z1, z2), metadata = views(), table()
    before = [z.clone() for z in (z1, z2, metadata["age"])]
    for make in GRADIENTS.values():
        gradients(make(0.6), z1, z2, metadata["age"])
    assert all(torch.equal(a, b) for a, b in zip(before, (z1, z2, metadata["age"]), strict=True))
    assert z1._version == z2._version == metadata["age"]._version == 0


def test_modules_show_their_settings():
    assert repr(YAwareInfoNCELoss(Gaussian(5.0))) == (
        "YAwareInfoNCELoss(gaussian kernel, bandwidth 5; temperature=0.1, views='both')"
    )
    assert repr(YAwareInfoNCELoss(Gaussian(5.0), compat="reference", gather=False)) == (
        "YAwareInfoNCELoss(gaussian kernel, bandwidth 5; temperature=0.1, views='both', "
        "compat='reference', gather=False)"
    )
    assert repr(YAwareInfoNCELoss(Gaussian(5.0), repulsion="expw")).endswith("repulsion='expw')")
    assert repr(ConditionalAlignUniformLoss(Gaussian(5.0), 0.0, form="threshold", threshold=0.2)) == (
        "ConditionalAlignUniformLoss(gaussian kernel, bandwidth 5; uniform_weight=1.0, alpha=2.0, t=2.0, "
        "form='threshold', threshold=0.2)"
    )
    assert repr(DecoupledUniformityLoss(kernel=Gaussian(5.0))) == (
        "DecoupledUniformityLoss(t=2.0, kernel=gaussian kernel, bandwidth 5, ridge=0.01)"
    )


Z, AGE = torch.eye(3), torch.tensor([20.0, 30.0, 40.0])
ERRORS = [
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0))(Z, Z),
        InputError,
        "YAwareInfoNCELoss: metadata must be given, because they say which samples are similar. Got None. "
        "Pass a tensor [N] or [N, K], or a mapping column -> N values.",
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0))(Z, Z, AGE[:2]),
        ShapeError,
        "YAwareInfoNCELoss: metadata must have one entry for each row, because entry i belongs to row i of "
        "every view. Got 2 entries for 3 rows. Pass the meta-data of this batch.",
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0))(torch.ones(3, 3, 2), AGE),
        ShapeError,
        "YAwareInfoNCELoss: z1 must hold two views, because rows of one view are compared with the other. "
        "Got 3 views. Pass z1 and z2, or two of the views.",
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian()),
        UndefinedError,
        "YAwareInfoNCELoss: kernel must have numbers as bandwidths, because a rule that looked at one "
        "batch "
        "after the other would compare with another kernel each time. Got gaussian kernel, bandwidth "
        "median. "
        "Pass kernel.fit(metadata), fitted on the whole set.",
    ),
    (
        lambda: losses.y_aware_info_nce_loss(Z, Z, AGE, kernel=None),
        InputError,
        "y_aware_info_nce_loss: kernel must be a kernel, or a dict column -> kernel, because it says which "
        "samples are similar. Got None. Pass for instance spherometer.kernels.Gaussian(5.0).",
    ),
    (
        lambda: losses.y_aware_info_nce_loss(Z, Z, AGE, kernel=Gaussian(5.0), views="one"),
        InputError,
        "y_aware_info_nce_loss: views must be one of 'both', 'cross', because nothing else is defined. Got "
        "'one'. Pass views='both'.",
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0), repulsion="exp"),
        InputError,
        "YAwareInfoNCELoss: repulsion must be one of 'all', 'threshold', 'expw', because nothing else is "
        "defined. Got 'exp'. Pass repulsion='all'.",
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0), compat="nidl"),
        InputError,
        'YAwareInfoNCELoss: compat must be None or "reference", because nothing else is reproduced. Got '
        "'nidl'. Leave it out.",
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0), views="cross", compat="reference"),
        InputError,
        'YAwareInfoNCELoss: compat must be None unless views="both" and repulsion="all", because the '
        "published code has that form alone. Got views='cross', repulsion='all'. Leave compat out.",
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0), temperature=0.0),
        InputError,
        "YAwareInfoNCELoss: temperature must be a finite number greater than 0, because the formula is "
        "defined only there. Got 0. Pass for instance temperature=2.",
    ),
    (
        lambda: YAwareInfoNCELoss({"age": Gaussian(5.0)})(Z, Z, {"ages": AGE}),
        InputError,
        "YAwareInfoNCELoss: metadata must have the column 'age', because the kernel compares its values. "
        "Got "
        "columns 'ages'. Did you mean 'ages'.",
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0))(Z, Z, torch.tensor([20.0, math.nan, 40.0])),
        InputError,
        "YAwareInfoNCELoss: metadata must be there for every row, because missing values have no "
        "similarity. "
        "Got 1 of 3 rows with a missing entry, the first is row 1. Remove those rows, or pass a kernel "
        "with "
        'missing="neutral" or missing="drop".',
    ),
    (
        lambda: YAwareInfoNCELoss(Gaussian(5.0, missing="drop"))(
            Z, Z, torch.tensor([20.0, math.nan, math.nan])
        ),
        UndefinedError,
        "YAwareInfoNCELoss: z1 must have at least 2 rows, because the quantity is a mean over pairs of "
        "rows. "
        "Got 1 row. Pass the whole set at once.",
    ),
    (
        lambda: ConditionalAlignUniformLoss(Gaussian(5.0), 0.0, 0.0),
        InputError,
        "ConditionalAlignUniformLoss: the four weights must not all be 0, because the loss would be a "
        "constant without a gradient. Got only zeros. Give at least one term a weight.",
    ),
    (
        lambda: ConditionalAlignUniformLoss(Gaussian(5.0), 1.0, global_uniform_weight=-1.0),
        InputError,
        "ConditionalAlignUniformLoss: global_uniform_weight must be a finite number of at least 0, because "
        "it weights a term that is to be made small. Got -1.0. Pass for instance "
        "global_uniform_weight=1.0.",
    ),
    (
        lambda: ConditionalAlignUniformLoss(Gaussian(5.0), form="selfnorm"),
        InputError,
        "ConditionalAlignUniformLoss: form must be one of 'normalized', 'mean', 'threshold', because "
        "nothing "
        "else is defined. Got 'selfnorm'. Pass form='normalized'.",
    ),
    (
        lambda: ConditionalAlignUniformLoss(Gaussian(5.0), threshold=0.5),
        InputError,
        "ConditionalAlignUniformLoss: threshold must be left out with form='normalized', because its "
        "weights are "
        '1 - w. Got 0.5. Pass form="threshold".',
    ),
    (
        lambda: ConditionalAlignUniformLoss(Gaussian(5.0), form="threshold", threshold=2.0),
        InputError,
        "ConditionalAlignUniformLoss: threshold must lie in (0, 1], because similarities do. Got 2.0. "
        "Pass for "
        "instance threshold=0.5.",
    ),
    (
        lambda: losses.conditional_align_uniform_loss(Z, Z, AGE, kernel=Gaussian(5.0), alpha=0.5),
        InputError,
        "conditional_align_uniform_loss: alpha must be a finite number at least 1, because below it the "
        "gradient is not finite. Got 0.5. Pass for instance alpha=2.",
    ),
    (
        lambda: DecoupledUniformityLoss()(Z, Z, AGE),
        InputError,
        "DecoupledUniformityLoss: metadata must be left out without a kernel, because nothing would "
        "compare "
        "them. Got meta-data and kernel=None. Pass for instance "
        "kernel=spherometer.kernels.kernel_for(metadata).",
    ),
    (
        lambda: DecoupledUniformityLoss(kernel=Gaussian(5.0), ridge=0.0),
        InputError,
        "DecoupledUniformityLoss: ridge must be a finite number greater than 0, because the formula is "
        "defined only there. Got 0. Pass for instance ridge=2.",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_refusals(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


def test_too_many_rows_for_centroids(monkeypatch):
    from spherometer.losses import _decoupled

    assert _decoupled.MOST_ROWS == 8192
    monkeypatch.setattr(_decoupled, "MOST_ROWS", 2)
    with pytest.raises(UndefinedError) as caught:
        DecoupledUniformityLoss(kernel=Gaussian(5.0))(Z, Z, AGE)
    assert str(caught.value) == (
        "DecoupledUniformityLoss: z1 must have at most 2 rows when there is a kernel, because the means "
        "are "
        "estimated through the matrix of all similarities, in O(N^3). Got 3 rows. Use smaller batches, or "
        "no "
        "kernel."
    )
    DecoupledUniformityLoss()(Z, Z)
