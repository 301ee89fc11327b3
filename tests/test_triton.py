"""The kernel for CUDA, interpreted on the CPU: equal to float64 definitions; and which path is chosen.

No GPU takes part. The interpreter has no bfloat16, so the fast mode is checked for its choice alone; on a
device every mode is compared with a full matrix before its first use.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spherometer.errors import InputError
from spherometer.pairs import _triton

sys.path.insert(0, str(Path(__file__).parent))
from triton_interpreted import CASES


@pytest.fixture(scope="module")
def interpreted():
    script = Path(__file__).parent / "triton_interpreted.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", [*CASES, "collapsed"])
def test_value_and_pull_are_those_of_the_definition(interpreted, case):
    found = interpreted["errors"][case]
    assert found["value"] < 1e-6
    assert found["value alone"] < 1e-6
    assert found["moment"] < 1e-6
    assert found["pull"] < 5e-6  # of the largest entry: exponents up to 60 are rounded by up to 4e-6
    assert found["same bits"]


@pytest.mark.parametrize("sets", ["one set", "two sets"])
def test_public_path_with_the_kernel_is_the_torch_path(interpreted, sets):
    assert interpreted["chosen"][sets] < 5e-6


def test_other_devices_and_types_take_the_torch_path():
    x = torch.randn(500, 4)
    assert _triton.gaussian_pass(x, None, 2.0, (False, False, False)) is None
    assert not _triton._suits(x, None)
    assert not _triton._suits(x.to("meta"), None)


def test_mode(monkeypatch):
    assert _triton.mode() == "auto"
    monkeypatch.setenv(_triton.VARIABLE, "off")
    assert _triton.mode() == "off"
    with _triton.gpu_kernel("bf16"):
        assert _triton.mode() == "bf16"
        with _triton.gpu_kernel("auto"):
            assert _triton.mode() == "auto"
    assert _triton.mode() == "off"
    monkeypatch.setenv(_triton.VARIABLE, "fast")
    with pytest.raises(InputError) as caught:
        _triton.mode()
    assert str(caught.value) == (
        'gpu_kernel: SPHEROMETER_GPU_KERNEL must be "auto", "off" or "bf16", because these are the ways to '
        "take the Gaussian potential on a GPU. Got 'fast'. Use \"auto\"."
    )
    with pytest.raises(InputError, match="mode must be"), _triton.gpu_kernel("on"):
        pass
