"""The walk over all pairs, and the page that says how to add a quantity to it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spherometer.errors import UndefinedError
from spherometer.pairs._gaussian import widen
from spherometer.pairs._one_pass import Found, one_pass
from spherometer.pairs._tiles import Block, Walk, accumulator

PAGE = Path(__file__).parent.parent / "docs" / "engine.md"


def rows(num: int, dim: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# --- the page -----------------------------------------------------------------------------------------


def example() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def student() -> Any:
    made: dict[str, Any] = {}
    exec(compile(example(), str(PAGE), "exec"), made)  # our own page
    return made["student_potential"]


def student_by_definition(x: Tensor, t: float) -> Tensor:
    total = sum(
        1 / (1 + t * (a - b).square().sum()) for i, a in enumerate(x) for j, b in enumerate(x) if i != j
    )
    return torch.as_tensor(total / (len(x) * (len(x) - 1))).log()


def test_the_example_of_the_page_has_less_than_40_lines():
    assert len([line for line in example().splitlines() if line.strip()]) < 40


def test_the_example_of_the_page_is_its_definition(student):
    x = rows(23).requires_grad_()
    value, expected = student(x, 1.5), student_by_definition(x, 1.5)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-13)
    found, wanted = torch.autograd.grad(value, x)[0], torch.autograd.grad(expected, x)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


def test_the_example_of_the_page_over_many_tiles(student):
    x = rows(700, dtype=torch.float32).requires_grad_()
    wide = x.detach().double().requires_grad_()
    squared = (wide[:, None] - wide).square().sum(dim=-1)
    expected = ((1 / (1 + 2.0 * squared)).sum() - 700).log() - math.log(700 * 699)
    value = student(x, 2.0)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.detach(), expected.detach(), rtol=1e-6, atol=1e-6)
    assert (x.grad - wide.grad).abs().max() < 1e-6 * wide.grad.abs().max() + 1e-9


def test_the_example_of_the_page_twice_differentiated(student):
    assert torch.autograd.gradgradcheck(lambda x: student(x, 1.5), rows(5).requires_grad_())
    x = rows(1030).requires_grad_()
    (gradient,) = torch.autograd.grad(student(x, 1.5), x, create_graph=True)
    with pytest.raises(UndefinedError, match="student_potential: x must have at most 1024 rows to be differ"):
        gradient.sum().backward()


# --- the walk -----------------------------------------------------------------------------------------


def gaussian_walk(x: Tensor, y: Tensor | None, t: float, **options: Any) -> Walk:
    centre = x.mean(dim=0)
    one = widen(x, centre, t)
    two = one if y is None else widen(y, centre, t)
    options = {"symmetric": y is None, "skip": (0,) if y is None else (), **options}
    return Walk(one.left, two.z, len(x), **options)


def matrix(x: Tensor, y: Tensor | None, t: float) -> Tensor:
    """k_ij in full, 0 for a row with itself."""
    other = x if y is None else y
    k = torch.exp(-t * (x[:, None] - other).square().sum(dim=-1))
    return k if y is not None else k.fill_diagonal_(0)


@pytest.mark.parametrize("tile", [None, (5, 7), (8, 3), (1, 1)])
@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_sums_of_a_walk(tile, online, two):
    x, y, t = rows(19), (rows(11, seed=1) if two else None), 0.3
    k = matrix(x, y, t)
    walk = gaussian_walk(x, y, t, tile=tile, online=online)
    total, squares = walk.total(), walk.total(power=2)
    down = x.new_zeros(19)
    across = x.new_zeros(11) if two else down
    to_rows = accumulator(x, 6, 19)
    to_columns = accumulator(x, 6, 11) if two else to_rows
    walk.keep(down, across, to_rows, to_columns)
    for block in walk:
        total.add(block, block.values.sum())
        squares.add(block, block.values.square().sum())
        block.add_sums(down, across)
        block.add_products(x.T, (x if y is None else y).T, to_rows, to_columns)
    scale = math.exp(walk.shift)
    assert (walk.shift != 0) == online
    torch.testing.assert_close(total.value() * scale, k.sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(squares.value() * scale**2, k.square().sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(down * scale, k.sum(dim=1), rtol=1e-12, atol=0)
    torch.testing.assert_close(to_rows.T * scale, k @ (x if y is None else y), rtol=1e-11, atol=1e-13)
    if two:
        torch.testing.assert_close(across * scale, k.sum(dim=0), rtol=1e-12, atol=0)
        torch.testing.assert_close(to_columns.T * scale, k.T @ x, rtol=1e-11, atol=1e-13)


def test_exponents_too_wide_for_exp_are_shifted():
    x, t = rows(12), 4000.0
    walk = gaussian_walk(x, None, t, tile=(3, 4), online=True)
    total = walk.total()
    for block in walk:
        total.add(block, block.values.sum())
    exponents = -t * (x[:, None] - x).square().sum(dim=-1)
    exponents.fill_diagonal_(-math.inf)
    assert float(matrix(x, None, t).sum()) == 0
    expected = torch.logsumexp(exponents.flatten(), 0)
    torch.testing.assert_close(total.value().log() + walk.shift, expected, rtol=1e-12, atol=0)


def test_a_walk_that_leaves_everything_out_has_no_shift():
    walk = gaussian_walk(rows(1), None, 1.0, online=True)
    total = walk.total()
    for block in walk:
        total.add(block, block.values.sum())
    assert float(total.value()) == 0
    assert walk.shift == -math.inf


def test_log_sums_of_raw_exponents():
    x, y, t = rows(9), rows(14, seed=2), 50.0
    down, across = (x.new_full((num,), -math.inf) for num in (9, 14))
    for block in gaussian_walk(x, y, t, tile=(4, 5), raw=True):
        block.add_log_sums(down, across)
    exponents = -t * (x[:, None] - y).square().sum(dim=-1)
    torch.testing.assert_close(down, exponents.logsumexp(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(across, exponents.logsumexp(0), rtol=1e-12, atol=0)


class _Weights:
    diagonal = 0

    def __init__(self, v: Tensor) -> None:
        self.v = v

    def weights(self, a: int, b: int, c: int, d: int) -> Tensor:
        return self.v[a:b, c:d].clone()


@pytest.mark.parametrize("online", [False, True])
def test_weighed_pairs(online):
    x, t = rows(13), 0.2
    v = rows(13, 13, seed=3).square().fill_diagonal_(0)
    v = v + v.T
    v[2, 5] = v[5, 2] = 0
    walk = gaussian_walk(x, None, t, skip=(), tile=(4, 4), online=online, weighing=_Weights(v))
    total, mass = walk.total(), walk.total(power=0)
    for block in walk:
        assert block.weights is not None
        total.add(block, block.values.sum())
        mass.add(block, block.weights.sum())
    expected = (v * matrix(x, None, t)).sum()
    torch.testing.assert_close(total.value() * math.exp(walk.shift), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(mass.value(), v.sum(), rtol=1e-12, atol=0)


def test_tile_sums_in_float32_are_combined_in_float64():
    walk = gaussian_walk(rows(40, dtype=torch.float32), None, 0.1, tile=(2, 2))
    total, parts = walk.total(), []
    for block in walk:
        value = block.values.sum()
        parts.append(float(value) * (2 if block.mirrored else 1))
        total.add(block, value)
    assert float(total.value()) == pytest.approx(math.fsum(parts), rel=1e-15)


def test_a_block_counts_for_its_columns_unless_it_lies_on_the_diagonal():
    values = torch.ones(2, 2)
    assert not Block(0, 2, 0, 2, values, False).both
    assert Block(0, 2, 2, 4, values, True).both
    assert Block(0, 2, 0, 2, values, False, symmetric=False).both


# --- one pass -----------------------------------------------------------------------------------------


def test_one_pass_scales_gradients_of_rows_by_the_factor_and_of_numbers_not():
    x, t = rows(3).requires_grad_(), torch.tensor(2.0, requires_grad=True)
    asked = []

    def compute(wanted: Any) -> Found:
        asked.append(tuple(wanted))
        one = x.new_ones(())
        return Found((x.sum() * t).detach(), [torch.ones_like(x), x.detach().sum()], one * 2)

    value = one_pass("f", compute, lambda x, t: x.sum() * t, x, t)
    (3 * value).backward()
    assert asked == [(True, True)]
    torch.testing.assert_close(x.grad, torch.full_like(x, 6.0))
    torch.testing.assert_close(t.grad, (3 * x.detach().sum()).float())


def test_one_pass_without_gradient_asks_for_none():
    x, asked = rows(3), []

    def compute(wanted: Any) -> Found:
        asked.append(tuple(wanted))
        return Found(x.sum(), [None, None])

    one_pass("f", compute, lambda x, t: x.sum() * t, x, 2.0)
    assert asked == [(False, False)]
