"""A file of ten budgets is read within one."""

import pytest

import large_file


@pytest.mark.parametrize("ending", [".npy", ".parquet"])
def test_a_file_of_ten_budgets_stays_under_the_budget(ending, tmp_path):
    path, budget = tmp_path / f"large{ending}", 64 << 20
    total = large_file.write(path, 81)
    assert path.stat().st_size >= 10 * budget
    num, found, extra = large_file.grown(path, budget)
    assert num == 81 * large_file.BLOCK
    assert found == pytest.approx(total, rel=1e-9)
    assert extra < budget, f"{extra >> 20} MiB"
