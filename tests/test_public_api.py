"""The public surface is a contract: names and signatures change only together with this file's golden list.

To accept a change on purpose: ``python tests/test_public_api.py > tests/public_api.txt``, and say so in the
CHANGELOG.
"""

import inspect
from pathlib import Path

import spherometer as sm

GOLDEN = Path(__file__).parent / "public_api.txt"


def describe(name: str, thing: object) -> list[str]:
    if inspect.isclass(thing):
        lines = [f"class {name}{signature(thing)}"]
        own = [key for key in vars(thing) if not key.startswith("_") and key not in ("forward", "training")]
        return lines + [f"  {name}.{key}" for key in sorted(own)]
    if callable(thing):
        return [f"{name}{signature(thing)}"]
    return [f"{name}: {type(thing).__name__}"]


def signature(thing: object) -> str:
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    shown = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(shown))


def surface() -> str:
    lines = []
    for name in sm.__all__:
        thing = getattr(sm, name)
        if not inspect.ismodule(thing):
            lines += describe(f"sm.{name}", thing)
            continue
        public = getattr(thing, "__all__", None) or [key for key in vars(thing) if not key.startswith("_")]
        for key in sorted(public):
            inner = getattr(thing, key)
            if getattr(inner, "__module__", "").startswith("spherometer"):
                lines += describe(f"sm.{name}.{key}", inner)
    return "\n".join(lines) + "\n"


def test_the_public_surface_is_the_agreed_one():
    assert surface() == GOLDEN.read_text()


def test_every_public_name_is_listed_and_documented():
    for name in sm.__all__:
        assert name in dir(sm)
        assert inspect.getdoc(getattr(sm, name)), f"sm.{name} has no docstring"


if __name__ == "__main__":
    print(surface(), end="")
