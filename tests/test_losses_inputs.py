"""What the losses take and refuse: precision contexts, layouts, degenerate rows, compilation, errors."""

import copy
import gc
import math
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from spherometer import losses
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.losses import AlignUniformLoss, CombinedLoss, InfoNCELoss, NTXentLoss

MODULES = {
    "align": lambda: AlignUniformLoss(uniform_weight=0.0, alpha=1.0),
    "align_uniform": AlignUniformLoss,
    "info_nce": InfoNCELoss,
    "info_nce_cold": lambda: InfoNCELoss(0.02),
    "nt_xent": NTXentLoss,
    "combined": lambda: CombinedLoss([(1.0, AlignUniformLoss()), (0.5, InfoNCELoss(0.2))]),
}
EVERY = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
FUNCTIONS = {
    "align_loss": losses.align_loss,
    "uniform_loss": lambda x, y: losses.uniform_loss(x),
    "align_uniform_loss": losses.align_uniform_loss,
    "info_nce_loss": losses.info_nce_loss,
    "nt_xent_loss": losses.nt_xent_loss,
}
EVERY_FUNCTION = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def value_and_grads(loss: Callable[..., Any], *views: torch.Tensor) -> tuple[torch.Tensor, ...]:
    views = tuple(view.detach().clone().requires_grad_() for view in views)
    value = loss(*views)
    return value.detach(), *torch.autograd.grad(value, views)


# --- precision contexts -------------------------------------------------------------------------------


@EVERY
def test_autocast_changes_nothing(make):
    loss, z1, z2 = make(), draw(33, 8), draw(33, 8, seed=1)
    expected = value_and_grads(loss, z1, z2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_grads(loss, z1, z2)
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@EVERY
def test_half_precision_outputs_of_an_encoder_under_autocast(make):
    encoder = torch.nn.Linear(8, 6)
    torch.nn.init.normal_(encoder.weight, generator=torch.Generator().manual_seed(2))
    loss = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z1, z2 = encoder(draw(33, 8)), encoder(draw(33, 8, seed=1))
        assert z1.dtype == torch.bfloat16
        value = loss(z1, z2)
    value.backward()
    expected = loss(z1.detach().float(), z2.detach().float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.detach(), expected, rtol=0, atol=0)
    assert torch.isfinite(encoder.weight.grad).all()


@EVERY_FUNCTION
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_of_the_result(function, dtype):
    value = function(draw(8, 4).to(dtype), draw(8, 4, seed=1).to(dtype))
    assert value.shape == ()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


# --- layouts and modes --------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded", "view of stacked"])
def test_layout_does_not_matter_and_nothing_is_written(make, layout):
    z1 = {
        "transposed": draw(6, 12).T,
        "strided": draw(24, 12)[::2, ::2],
        "expanded": draw(1, 6).expand(12, 6),
        "view of stacked": draw(12, 3, 6)[:, 1],
    }[layout]
    z2 = draw(12, 6, seed=1)
    versions = z1._version, z2._version
    loss = make()
    found = value_and_grads(loss, z1, z2)
    torch.testing.assert_close(found, value_and_grads(loss, z1.contiguous(), z2), rtol=1e-6, atol=1e-7)
    direct = loss(z1, z2)
    assert (z1._version, z2._version) == versions
    torch.testing.assert_close(direct, found[0], rtol=1e-6, atol=1e-7)
    stacked = torch.stack([z1, z2], dim=1)
    torch.testing.assert_close(loss(stacked), direct, rtol=1e-6, atol=1e-7)


@EVERY
def test_inference_mode_no_grad_and_one_frozen_side(make):
    loss, z1, z2 = make(), draw(9, 4), draw(9, 4, seed=1)
    value, grad1, _ = value_and_grads(loss, z1, z2)
    with torch.no_grad():
        assert loss(z1.requires_grad_(), z2) == value
        assert not loss(z1, z2).requires_grad
    (found,) = torch.autograd.grad(loss(z1, z2), z1)
    torch.testing.assert_close(found, grad1, rtol=1e-6, atol=1e-8)
    with torch.inference_mode():
        assert loss(draw(9, 4), draw(9, 4, seed=1)) == value
        loss(z1.detach(), z2)
    assert all(not term.requires_grad for term in loss.terms.values())


@EVERY
def test_modules_are_copied_and_pickled(make):
    loss, z1, z2 = make(), draw(9, 4), draw(9, 4, seed=1)
    value = loss(z1, z2)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert twin(z1, z2) == value
    assert loss.state_dict() == {}


@EVERY
def test_the_global_random_state_is_left_alone(make):
    before = torch.get_rng_state()
    make()(draw(9, 4), draw(9, 4, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


# --- degenerate rows ----------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["collapsed", "views equal", "duplicates", "zero row", "all zero", "tiny"])
def test_degenerate_rows_have_finite_values_and_bounded_gradients(make, case, dtype):
    z1, z2 = draw(8, 4), draw(8, 4, seed=1)
    if case == "collapsed":
        z1 = z2 = torch.ones(8, 4)
    elif case == "views equal":
        z2 = z1
    elif case == "duplicates":
        z1, z2 = (torch.cat([z[:4], z[:4]]) for z in (z1, z2))
    elif case == "zero row":
        z1[3] = 0
        z2[5] = 0
    elif case == "all zero":
        z1 = z2 = torch.zeros(8, 4)
    elif case == "tiny":
        z1 = z1 * (1e-7 if dtype == torch.float16 else 1e-38)
    found = value_and_grads(make(), z1.to(dtype), z2.to(dtype))
    assert all(torch.isfinite(part).all() for part in found if case != "tiny" or dtype != torch.float16)
    assert torch.isfinite(found[0])
    if case == "zero row":
        assert (found[1][3] == 0).all()
        assert (found[2][5] == 0).all()
    if case != "tiny":  # tiny rows have large gradients, bounded by 1 / 1e-8
        assert max(float(grad.abs().max()) for grad in found[1:]) < 100
    elif dtype != torch.float16:
        assert float(found[1].abs().max()) < 100 / 1e-8


@pytest.mark.parametrize("function", [losses.info_nce_loss, losses.nt_xent_loss])
def test_a_zero_row_has_the_similarity_zero_with_its_positive(function):
    z1, z2 = draw(8, 4, dtype=torch.float64), draw(8, 4, seed=1, dtype=torch.float64)
    z1[3] = 0
    a = torch.nn.functional.normalize(z1, dim=1)
    b = torch.nn.functional.normalize(z2, dim=1)
    if function is losses.info_nce_loss:
        logits = 2 * a @ b.T
        cross_entropy = torch.nn.functional.cross_entropy
        labels = torch.arange(8)
        expected = (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
    else:
        z = torch.cat([a, b])
        logits = (2 * z @ z.T).fill_diagonal_(-math.inf)
        labels = torch.arange(16).roll(8)
        expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(function(z1, z2), expected, rtol=1e-13, atol=0)


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 4, 7])
def test_nan_and_infinity_reach_the_loss(make, bad, row):
    z1, z2 = draw(8, 4), draw(8, 4, seed=1)
    z1[row, 2] = bad
    value = value_and_grads(make(), z1, z2)[0]
    assert torch.isnan(value)


@pytest.mark.parametrize("num", [2, 3])
def test_few_rows_and_one_dimension(num):
    for dim in (1, 2):
        for make in MODULES.values():
            found = value_and_grads(make(), draw(num, dim), draw(num, dim, seed=1))
            assert all(torch.isfinite(part).all() for part in found)
    assert losses.align_loss(torch.ones(1, 2), torch.ones(1, 2)) == 0


# --- no graph is kept, compilation --------------------------------------------------------------------


class Token:
    """Something whose life shows that of a graph."""


class Keep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, token: Token) -> torch.Tensor:
        ctx.token = token
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad, None


@EVERY
def test_terms_hold_no_graph(make):
    loss = make()
    token = Token()
    alive = weakref.ref(token)
    z = Keep.apply(draw(9, 4).requires_grad_(), token)
    value = loss(z, draw(9, 4, seed=1))
    del z, token
    gc.collect()
    assert alive() is not None  # by the graph of the value
    assert loss.terms
    assert all(term.grad_fn is None and not term.requires_grad for term in loss.terms.values())
    assert all(term.shape == () for term in loss.terms.values())
    del value
    gc.collect()
    assert alive() is None


class Model(torch.nn.Module):
    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(8, 4)
        self.loss = loss

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return 2 * self.loss(self.encoder(a).relu() + 0.1, self.encoder(b).relu() + 0.1)


# the compiler looks at .grad of what it resumes with and hides the warning, unless warnings are errors
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("name", ["align_uniform", "nt_xent", "combined"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_inside_a_compiled_model(name, backend):
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = Model(MODULES[name]())
    a, b = draw(9, 8), draw(9, 8, seed=1)
    expected = model(a, b)
    expected.backward()
    grad = model.encoder.weight.grad.clone()
    terms = dict(model.loss.terms)
    compiled = torch.compile(model, backend=backend)
    for _ in range(2):
        model.zero_grad()
        value = compiled(a, b)
        value.backward()
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(model.encoder.weight.grad, grad)
    assert model.loss.terms == terms


# --- errors -------------------------------------------------------------------------------------------

Z = torch.ones(3, 2)
ERRORS: list[tuple[Callable[[], Any], type[InputError], str]] = [
    (
        lambda: losses.align_loss(Z, Z, 0.5),
        InputError,
        "align_loss: alpha must be a finite number at least 1, because below it the gradient is not finite. "
        "Got 0.5. Pass for instance alpha=2.",
    ),
    (
        lambda: AlignUniformLoss(alpha=0.5),
        InputError,
        "AlignUniformLoss: alpha must be a finite number at least 1, because below it the gradient is not "
        "finite. Got 0.5. Pass for instance alpha=2.",
    ),
    (
        lambda: losses.uniform_loss(Z, 0),
        InputError,
        "uniform_loss: t must be a finite number greater than 0, because the formula is defined only there. "
        "Got 0. Pass for instance t=2.",
    ),
    (
        lambda: losses.info_nce_loss(Z, Z, temperature=-0.1),
        InputError,
        "info_nce_loss: temperature must be a finite number greater than 0, because the formula is defined "
        "only there. Got -0.1. Pass for instance temperature=2.",
    ),
    (
        lambda: InfoNCELoss(math.nan),
        InputError,
        "InfoNCELoss: temperature must be a finite number greater than 0, because the formula is defined "
        "only there. Got nan. Pass for instance temperature=2.",
    ),
    (
        lambda: NTXentLoss(torch.ones(1)),
        ShapeError,
        "NTXentLoss: temperature must be a number or a tensor of shape (), because one value serves all "
        "rows. Got shape (1,). Pass temperature.reshape(()) if it holds one value.",
    ),
    (
        lambda: AlignUniformLoss(-1.0),
        InputError,
        "AlignUniformLoss: align_weight must be a finite number of at least 0, because it weights a term "
        "that is to be made small. Got -1.0. Pass for instance align_weight=1.0.",
    ),
    (
        lambda: AlignUniformLoss(0, 0),
        InputError,
        "AlignUniformLoss: align_weight and uniform_weight must not all be 0, because the loss would be a "
        "constant without a gradient. Got only zeros. Give at least one term a weight.",
    ),
    (
        lambda: CombinedLoss([(0.0, InfoNCELoss())]),
        InputError,
        "CombinedLoss: the weights of parts must not all be 0, because the loss would be a constant without "
        "a gradient. Got only zeros. Give at least one term a weight.",
    ),
    (
        lambda: CombinedLoss([(math.inf, InfoNCELoss())]),
        InputError,
        "CombinedLoss: parts[0][0] must be a finite number of at least 0, because it weights a term that is "
        "to be made small. Got inf. Pass for instance parts[0][0]=1.0.",
    ),
    (
        lambda: CombinedLoss([]),
        InputError,
        "CombinedLoss: parts must be a list of (weight, loss) with at least one entry, because each loss "
        "module needs its weight. Got []. Pass for instance [(1.0, AlignUniformLoss()), (0.5, "
        "InfoNCELoss())].",
    ),
    (
        lambda: losses.info_nce_loss(Z),
        ShapeError,
        "info_nce_loss: z1 must have shape [N, V, D] with V >= 2 when z2 is not given, because a positive "
        "pair is two views of one sample. Got shape (3, 2). Pass z1 and z2 of shape [N, D] each, or "
        "torch.stack([z1, z2], dim=1).",
    ),
    (
        lambda: NTXentLoss()(torch.ones(3, 1, 2)),
        ShapeError,
        "NTXentLoss: z1 must have shape [N, V, D] with V >= 2 when z2 is not given, because a positive pair "
        "is two views of one sample. Got shape (3, 1, 2). Pass z1 and z2 of shape [N, D] each, or "
        "torch.stack([z1, z2], dim=1).",
    ),
    (
        lambda: losses.nt_xent_loss(torch.ones(3, 2, 2), Z),
        ShapeError,
        "nt_xent_loss: z1 must have shape [N, D] with D >= 1, because each row is one point. Got shape (3, "
        "2, 2). Flatten or stack it to one row per point.",
    ),
    (
        lambda: losses.uniform_loss(torch.ones(3)),
        ShapeError,
        "uniform_loss: x must have shape [N, D] with D >= 1, because each row is one point. Got shape (3,). "
        "Flatten or stack it to one row per point.",
    ),
    (
        lambda: losses.align_loss(Z, torch.ones(4, 2)),
        ShapeError,
        "align_loss: y must have the same shape as x, because row i of one belongs to row i of the other. "
        "Got x (3, 2), y (4, 2). Pass matching arrays.",
    ),
    (
        lambda: losses.align_uniform_loss(Z, torch.ones(3, 4)),
        ShapeError,
        "align_uniform_loss: z2 must have the same shape as z1, because row i of one belongs to row i of the "
        "other. Got z1 (3, 2), z2 (3, 4). Pass matching arrays.",
    ),
    (
        lambda: losses.info_nce_loss(Z, Z.double()),
        InputError,
        "info_nce_loss: z2 must have the same kind, dtype and device as z1, because nothing is converted "
        "silently. Got z1 float32 on cpu, z2 float64 on cpu. Convert one of them first.",
    ),
    (
        lambda: losses.info_nce_loss(Z, Z.to("meta")),
        InputError,
        "info_nce_loss: z2 must have the same kind, dtype and device as z1, because nothing is converted "
        "silently. Got z1 float32 on cpu, z2 float32 on meta. Convert one of them first.",
    ),
    (
        lambda: losses.nt_xent_loss(Z[:1], Z[:1]),
        UndefinedError,
        "nt_xent_loss: z1 must have at least 2 rows, because the quantity is a mean over pairs of rows. Got "
        "1 row. Pass the whole set at once.",
    ),
    (
        lambda: losses.uniform_loss(Z[:0]),
        UndefinedError,
        "uniform_loss: x must have at least 2 rows, because the quantity is a mean over pairs of rows. Got "
        "0 rows. Pass the whole set at once.",
    ),
    (
        lambda: losses.align_loss(Z[:0], Z[:0]),
        UndefinedError,
        "align_loss: x must have at least 1 row, because a mean needs a row. Got 0 rows. Pass the whole set "
        "at once.",
    ),
    (
        lambda: losses.info_nce_loss(Z.int(), Z.int()),
        InputError,
        "info_nce_loss: z1 must hold real floating-point numbers (float16, bfloat16, float32 or float64), "
        "because it is a set of feature vectors. Got dtype int32 (strided). Cast it, for instance with "
        ".astype('float32') or .float().",
    ),
    (
        lambda: losses.align_loss(Z, Z.to(torch.complex64)),
        InputError,
        "align_loss: y must hold real floating-point numbers (float16, bfloat16, float32 or float64), "
        "because it is a set of feature vectors. Got dtype complex64 (strided). Cast it, for instance with "
        ".astype('float32') or .float().",
    ),
    (
        lambda: losses.uniform_loss(np.ones((3, 2))),
        InputError,
        "uniform_loss: x must be a torch tensor, because a loss is differentiated. Got ndarray. Convert it "
        "with torch.as_tensor(...).",
    ),
    (
        lambda: losses.info_nce_loss([[1.0]]),
        InputError,
        "info_nce_loss: z1 must be a torch tensor, because a loss is differentiated. Got list. Convert it "
        "with torch.as_tensor(...).",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_refusals(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@EVERY_FUNCTION
@pytest.mark.parametrize(
    "dtype",
    [
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.complex128,
        torch.float8_e4m3fn,
    ],
    ids=str,
)
def test_other_dtypes_are_refused(function, dtype):
    with pytest.raises(InputError, match="must hold real floating-point numbers"):
        function(torch.ones(3, 2).to(dtype), torch.ones(3, 2).to(dtype))


@EVERY_FUNCTION
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (3, 0), (3, 2, 2, 2)])
def test_other_shapes_are_refused(function, shape):
    with pytest.raises((ShapeError, UndefinedError)):
        function(torch.ones(shape), torch.ones(shape))


def test_modules_show_their_settings():
    assert repr(AlignUniformLoss(0.5, 2, 1, 3)) == (
        "AlignUniformLoss(align_weight=0.5, uniform_weight=2, alpha=1, t=3)"
    )
    assert repr(InfoNCELoss(0.07)) == "InfoNCELoss(temperature=0.07)"
    assert repr(NTXentLoss(torch.tensor(0.25))) == "NTXentLoss(temperature=0.25 (tensor))"
    assert repr(CombinedLoss([(1, InfoNCELoss())])).startswith("CombinedLoss(\n  weights=[1.0]")
