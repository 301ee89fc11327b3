"""Every example in a docstring runs and shows what it says."""

import doctest
import importlib
import pkgutil

import pytest

import spherometer

NAMES = [
    module.name
    for module in pkgutil.walk_packages(spherometer.__path__, "spherometer.")
    # modules of integrations load their library on import, half a minute together; their own tests do that
    if not module.name.endswith("__main__") and not module.name.startswith("spherometer.integrations.")
]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
