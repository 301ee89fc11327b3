"""What holds for every integration: its library is loaded by its module alone, and missed in one line."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from spherometer.errors import MissingExtraError

LIBRARIES = {
    "lightning": ("lightning.pytorch", "lightning"),
    "torchmetrics": ("torchmetrics", "lightning"),
    "sentence_transformers": ("sentence_transformers", "text"),
    "transformers": ("transformers", "text"),
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_one_line(monkeypatch, name):
    library, extra = LIBRARIES[name]
    module = f"spherometer.integrations.{name}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, library.split(".")[0], None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError) as caught:
        importlib.import_module(module)
    assert str(caught.value) == (
        f"integrations.{name}: {library} must be installed, because integrations.{name} uses it. Got no such "
        f"module. Install it with: pip install 'spherometer[{extra}]'."
    )


def test_the_package_loads_none_of_them():
    code = "import sys, spherometer.integrations; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "lightning", "torchmetrics", "transformers", "sentence_transformers"} & set(
        done.stdout.split()
    )


def test_every_module_is_covered():
    folder = Path(__file__).parent.parent / "src" / "spherometer" / "integrations"
    assert {path.stem for path in folder.glob("[a-z]*.py")} == set(LIBRARIES)
