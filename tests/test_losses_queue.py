"""The memory queue, and the losses with one: definitions in loops, wrap-around, state, gradients, errors."""

import copy
import math
from collections import deque
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spherometer import losses
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.losses import AlignUniformLoss, CombinedLoss, InfoNCELoss, MemoryQueue


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def queue_of(num: int, dim: int = 3, size: int = 10) -> MemoryQueue:
    queue = MemoryQueue(dim, size).double()
    queue.enqueue(draw(num, dim, seed=9))
    return queue


def message(call) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


# --- oracles: the formulas in loops over lists ----------------------------------------------------------


def unit(row):
    length = math.sqrt(math.fsum(float(v) ** 2 for v in row))
    return [float(v) / length for v in row]


def dot(a, b):
    return math.fsum(u * v for u, v in zip(a, b, strict=True))


def squared(a, b):
    return math.fsum((u - v) ** 2 for u, v in zip(a, b, strict=True))


def info_nce_by_loop(queries, keys, memory, temperature):
    values = []
    for q, k in zip(map(unit, queries), map(unit, keys), strict=True):
        positive = math.exp(dot(q, k) / temperature)
        rest = math.fsum(math.exp(dot(q, unit(m)) / temperature) for m in memory)
        values.append(-math.log(positive / (positive + rest)))
    return math.fsum(values) / len(values)


def uniform_by_loop(queries, memory, t, intra_batch):
    q, m = [unit(row) for row in queries], [unit(row) for row in memory]
    values = [math.exp(-t * squared(a, b)) for a in q for b in m]
    if intra_batch:
        values += [math.exp(-t * squared(a, b)) for a, b in combinations(q, 2)]
    return math.log(math.fsum(values) / len(values))


def align_by_loop(queries, keys):
    distances = [squared(unit(q), unit(k)) for q, k in zip(queries, keys, strict=True)]
    return math.fsum(distances) / len(distances)


# --- the queue ------------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.lists(st.integers(0, 17), max_size=6))
def test_it_holds_the_last_keys_whatever_the_batches(size, batches):
    queue, expected, written = MemoryQueue(2, size).double(), deque(maxlen=size), 0
    for step, num in enumerate(batches):
        keys = draw(num, 2, seed=step)
        queue.enqueue(keys)
        expected.extend(unit(key) for key in keys)
        written += num
    assert len(queue) == len(expected) == int(queue.filled)
    assert int(queue.position) == written % size
    oldest_first = torch.cat([queue.keys[: len(queue)]] * 2)  # storage turned to begin with the oldest
    start = int(queue.position) if len(queue) == size else 0
    found = oldest_first[start : start + len(queue)]
    wanted = torch.tensor(list(expected), dtype=torch.float64).reshape(-1, 2)
    torch.testing.assert_close(found, wanted, rtol=1e-15, atol=1e-15)
    assert torch.equal(queue.rows(), queue.keys[: len(queue)])
    assert torch.equal(queue.keys[len(queue) :], torch.zeros(size - len(queue), 2, dtype=torch.float64))


def test_it_starts_empty_and_is_never_falsy():
    queue = MemoryQueue(dim=3, size=5)
    assert len(queue) == 0
    assert queue.rows().shape == (0, 3)
    assert queue
    assert repr(queue) == "MemoryQueue(dim=3, size=5, filled=0)"
    assert {name: value.dtype for name, value in queue.state_dict().items()} == {
        "keys": torch.float32,
        "position": torch.int64,
        "filled": torch.int64,
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keys_are_unit_rows_without_a_gradient(dtype):
    queue = MemoryQueue(3, 4)
    keys = (5 * draw(2, 3)).to(dtype).requires_grad_()
    queue.enqueue(keys)
    assert not queue.rows().requires_grad
    assert queue.rows().dtype == torch.float32
    expected = torch.nn.functional.normalize(keys.detach().float(), dim=1)
    torch.testing.assert_close(queue.rows(), expected)
    with torch.inference_mode():
        queue.enqueue(keys)
    queue.enqueue(keys)
    assert len(queue) == 4


def test_autocast_does_not_round_the_keys():
    plain, cast = MemoryQueue(3, 4), MemoryQueue(3, 4)
    plain.enqueue(draw(3, 3).float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast.enqueue(draw(3, 3).float())
    assert torch.equal(plain.keys, cast.keys)


@pytest.mark.parametrize(
    "make",
    [
        lambda queue: InfoNCELoss(0.2, queue=queue),
        lambda queue: AlignUniformLoss(queue=queue),
        lambda queue: CombinedLoss([(1.0, InfoNCELoss(0.2, queue=queue)), (1.0, AlignUniformLoss())]),
    ],
)
def test_a_resumed_loss_goes_on_with_the_same_queue(make):
    queue = queue_of(4)
    loss = make(queue)
    saved = {name: value.clone() for name, value in loss.state_dict().items()}
    again = make(MemoryQueue(3, 10).double())
    again.load_state_dict(saved)
    twin = copy.deepcopy(loss)
    restored = next(module for module in again.modules() if isinstance(module, MemoryQueue))
    copied = next(module for module in twin.modules() if isinstance(module, MemoryQueue))
    for step in range(4):
        x, y = draw(5, 3, seed=10 + step), draw(5, 3, seed=20 + step)
        assert loss(x, y) == again(x, y) == twin(x, y)
        for each in (queue, restored, copied):
            each.enqueue(y)
    for name, value in queue.state_dict().items():
        assert torch.equal(value, restored.state_dict()[name])
        assert torch.equal(value, copied.state_dict()[name])


# --- losses with a queue --------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [1, 2, 6])
@pytest.mark.parametrize("filled", [1, 4, 10, 13])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_is_the_formula(num, filled, temperature):
    queue = queue_of(filled)
    x, y = draw(num, 3, seed=1), draw(num, 3, seed=2)
    loss = InfoNCELoss(temperature, queue=queue)
    expected = info_nce_by_loop(x, y, queue.rows(), temperature)
    assert float(loss(x, y)) == pytest.approx(expected, rel=1e-12)
    assert float(loss(torch.stack([x, y], dim=1))) == pytest.approx(expected, rel=1e-12)
    terms = {name: float(term) for name, term in loss.terms.items()}
    assert sum(terms.values()) == pytest.approx(expected, rel=1e-12)
    assert terms["log_candidates"] == pytest.approx(math.log(1 + len(queue)))
    positive = math.fsum(dot(unit(a), unit(b)) for a, b in zip(x, y, strict=True)) / num
    assert terms["alignment"] == pytest.approx(-positive / temperature)
    assert float(loss(x.float(), y.float())) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("num", [2, 6])
@pytest.mark.parametrize("filled", [0, 1, 10])
@pytest.mark.parametrize("intra_batch", [True, False])
def test_align_uniform_is_the_formula(num, filled, intra_batch):
    if not filled and not intra_batch:
        return  # undefined: below
    queue = queue_of(filled)
    x, y = draw(num, 3, seed=1), draw(num, 3, seed=2)
    loss = AlignUniformLoss(0.7, 1.3, t=3.0, queue=queue, intra_batch=intra_batch)
    value = float(loss(x, y))
    align, uniform = align_by_loop(x, y), uniform_by_loop(x, queue.rows(), 3.0, intra_batch)
    assert value == pytest.approx(0.7 * align + 1.3 * uniform, rel=1e-12)
    assert float(loss.terms["alignment"]) == pytest.approx(align, rel=1e-12)
    assert float(loss.terms["uniformity"]) == pytest.approx(uniform, rel=1e-12)
    assert float(loss(x.float(), y.float())) == pytest.approx(value, rel=2e-6, abs=2e-6)


def test_one_query_is_enough_where_the_queue_has_keys():
    x, y = draw(1, 3, seed=1), draw(1, 3, seed=2)
    value = AlignUniformLoss(queue=queue_of(4))(x, y)
    expected = align_by_loop(x, y) + uniform_by_loop(x, queue_of(4).rows(), 2.0, True)
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_an_empty_queue_is_a_sum_over_nothing():
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x, y = draw(4, 3, seed=1).requires_grad_(), draw(4, 3, seed=2)
    value = InfoNCELoss(temperature, queue=MemoryQueue(3, 8))(x, y)
    assert value == 0
    for gradient in torch.autograd.grad(value, (x, temperature)):
        assert torch.equal(gradient, torch.zeros_like(gradient))
    plain = AlignUniformLoss(queue=MemoryQueue(3, 8))(x, y)  # the pairs of queries alone
    expected = losses.align_loss(x, y) + losses.uniform_loss(x)
    torch.testing.assert_close(plain, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("filled", [2, 10])
@pytest.mark.parametrize("name", ["info_nce", "intra", "queue only"])
def test_first_and_second_derivatives(name, filled):
    queue = queue_of(filled)
    x, y = draw(4, 3, seed=1).requires_grad_(), draw(4, 3, seed=2)
    setting = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)

    def call(x, setting):
        if name == "info_nce":
            return InfoNCELoss(setting, queue=queue)(x, y)
        return AlignUniformLoss(t=setting, queue=queue, intra_batch=name == "intra")(x, y)

    assert torch.autograd.gradcheck(call, (x, setting), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(call, (x, setting), eps=1e-6, atol=1e-6, fast_mode=True)


def test_rotating_queries_keys_and_queue_changes_nothing():
    x, y = draw(5, 3, seed=1), draw(5, 3, seed=2)
    turn = torch.linalg.qr(draw(3, 3, seed=3)).Q
    for make in (lambda q: InfoNCELoss(0.2, queue=q), lambda q: AlignUniformLoss(queue=q)):
        queue, turned = queue_of(7), MemoryQueue(3, 10).double()
        turned.enqueue(queue.rows() @ turn)
        assert float(make(turned)(x @ turn, y @ turn)) == pytest.approx(float(make(queue)(x, y)), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_queue_is_scaled_to_the_sphere_again(dtype):
    queue = MemoryQueue(16, 64)
    queue.enqueue(draw(64, 16, seed=1).float())
    queue.to(dtype)
    x, y = draw(8, 16, seed=2).float(), draw(8, 16, seed=3).float()
    exact = MemoryQueue(16, 64)
    exact.enqueue(queue.keys)
    assert exact.keys.dtype == torch.float32
    assert InfoNCELoss(0.2, queue=queue)(x, y) == InfoNCELoss(0.2, queue=exact)(x, y)


@pytest.mark.parametrize("make", [InfoNCELoss, AlignUniformLoss])
def test_keys_that_came_before_the_backward_are_noticed(make):
    queue = queue_of(4)
    x, y = draw(4, 3, seed=1).requires_grad_(), draw(4, 3, seed=2)
    value = make(queue=queue)(x, y)
    queue.enqueue(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    InfoNCELoss(queue=queue_of(4))(draw(4, 3), draw(4, 3, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


# --- errors ---------------------------------------------------------------------------------------------


def test_full_messages():
    queue = queue_of(4)
    ones = torch.ones
    assert message(lambda: MemoryQueue(0, 4)) == (
        "InputError: MemoryQueue: dim must be a whole number of at least 1, because it counts something. "
        "Got 0. Pass for instance dim=1."
    )
    assert message(lambda: MemoryQueue(4, 2.5)) == (
        "InputError: MemoryQueue: size must be a whole number of at least 1, because it counts something. "
        "Got 2.5. Pass for instance size=1."
    )
    assert message(lambda: queue.enqueue(ones(2, 5))) == (
        "ShapeError: MemoryQueue.enqueue: keys must have as many columns as the queue, because both live on "
        "one sphere. Got shape (2, 5), a queue with dim=3. Make the queue with MemoryQueue(dim=D, size=...)."
    )
    assert message(lambda: queue.enqueue([[1.0, 0.0, 0.0]])) == (
        "InputError: MemoryQueue.enqueue: keys must be a torch tensor, because a loss is differentiated. "
        "Got list. Convert it with torch.as_tensor(...)."
    )
    assert message(lambda: queue.enqueue(ones(2, 3), gather=True)) == (
        'InputError: MemoryQueue.enqueue: gather must be "auto" or False, because a loss is taken over the '
        'rows of all ranks, or of one rank alone. Got True. Pass gather="auto", or gather=False in calls '
        "that only some ranks make."
    )
    assert message(lambda: queue.enqueue(ones(2, 3, device="meta"))) == (
        "InputError: MemoryQueue.enqueue: keys must be on the device of the queue, because nothing is moved "
        "silently. Got keys on meta, the queue on cpu. Move the queue, or the loss that holds it, with "
        ".to(device)."
    )
    for make in (InfoNCELoss, AlignUniformLoss):
        name = make.__name__
        assert message(lambda make=make: make(queue=5)) == (
            f"InputError: {name}: queue must be a MemoryQueue or None, because its rows are the negatives of "
            "the loss. Got int. Pass for instance queue=MemoryQueue(dim=128, size=4096)."
        )
        assert message(lambda make=make: make(gather="no")) == (
            f'InputError: {name}: gather must be "auto", "ring" or False, because a loss is taken over the '
            "rows of all ranks, or of one rank alone. Got 'no'. Pass gather=\"auto\", or gather=False in "
            "calls that only some ranks make."
        )
        assert message(lambda make=make: make(queue=queue)(ones(2, 3, 3))) == (
            f"ShapeError: {name}: z1 must have two views, queries and keys, when there is a queue, because "
            "the queue holds negatives for the queries alone. Got 3 views. Pass queries and keys of shape "
            "[N, D] each."
        )
        assert message(lambda make=make: make(queue=queue)(ones(2, 4), ones(2, 4))) == (
            f"ShapeError: {name}: z1 must have as many columns as the queue, because both live on one "
            "sphere. Got shape (2, 4), a queue with dim=3. Make the queue with MemoryQueue(dim=D, size=...)."
        )
        assert message(lambda make=make: make(queue=queue)(ones(0, 3), ones(0, 3))) == (
            f"UndefinedError: {name}: z1 must have at least 1 row, because a mean needs a row. Got 0 rows. "
            "Pass the whole set at once."
        )
    empty = MemoryQueue(3, 4)
    with pytest.raises(UndefinedError):
        AlignUniformLoss(queue=empty)(ones(1, 3), ones(1, 3))
    with pytest.raises(ShapeError):
        InfoNCELoss(queue=empty)(ones(2, 3), ones(3, 3))
    assert message(lambda: AlignUniformLoss(queue=empty, intra_batch=False)(ones(2, 3), ones(2, 3))) == (
        "UndefinedError: AlignUniformLoss: queue must hold at least 1 key with intra_batch=False, because "
        "uniformity is a mean over pairs of a query and a key of the queue. Got an empty queue. Fill it "
        "first with queue.enqueue(keys), or pass intra_batch=True."
    )
