"""The house rules that a machine can check: layers, light core, no dangerous calls, sizes, names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "spherometer"
MODULES = sorted(SOURCE.rglob("*.py"))
LAYERS = {
    0: {"errors", "_checks", "rows", "_strict_json", "_version"},
    1: {"sphere", "kernels", "_groups"},
    2: {"pairs", "correspondence"},
    2.5: {
        "_curve",
        "_density",
        "_group_tables",
        "_portrait_record",
        "_uniform_law",
    },  # records and what they need
    3: {"metrics", "_results", "_citation"},
    4: {"losses", "_relation", "_selection", "_alarms", "_readings", "_conditional", "_dense"},
    4.5: {"_bandwidth_curve", "_local_density", "_measurements", "_portrait"},  # parts of measure
    4.6: {"_told"},  # what all parts know of the rows
    4.7: {"_measure_rows"},
    5: {"_measure", "_monitor", "_estimates"},
    5.5: {"_compare", "_select"},  # several sets, each measured
    6: {"stores", "probes", "plots"},
    6.5: {"data"},  # training sets may lie in the files that stores read
    7: {"training", "report", "integrations"},
    8: {"study"},
    9: {"cli"},
    10: {"__main__"},
}
LAYER_OF = {room: layer for layer, rooms in LAYERS.items() for room in rooms}
HEAVY = (
    "scipy sklearn matplotlib pandas pyarrow optuna kornia accelerate typer rich jinja2 safetensors pooch "
    "PIL datasets transformers sentence_transformers lightning torchmetrics timm "
    "nibabel nilearn monai faiss openTSNE skimage"
)


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> list[tuple[int, str]]:
    rooms = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "spherometer":
            parts = node.module.split(".")
            names = parts[1:2] or [alias.name for alias in node.names]
            rooms += [(node.lineno, name) for name in names if name != "__version__"]
        elif isinstance(node, ast.ImportFrom) and node.level:
            rooms.append((node.lineno, f"relative import (level {node.level})"))
        elif isinstance(node, ast.Import):
            rooms += [
                (node.lineno, alias.name.split(".")[1] if "." in alias.name else "the whole package")
                for alias in node.names
                if alias.name.split(".")[0] == "spherometer"
            ]
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path):
    room = room_of(path)
    if room == "__init__":
        return
    for line, other in imported_rooms(path):
        assert other in LAYER_OF, f"{path.name}:{line} imports {other}, which is in no layer"
        lower = LAYER_OF[other] < LAYER_OF[room] or (LAYER_OF[other] == LAYER_OF[room] == 0)
        assert other == room or lower, f"{path.name}:{line}: {room} must not import {other}"


def test_every_module_has_a_layer():
    assert {room_of(path) for path in MODULES} - {"__init__"} <= set(LAYER_OF)


def loaded_after(code: str) -> set[str]:
    probe = f"{code}\nimport sys\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_numpy():
    assert not {"torch", "numpy"} & loaded_after("import spherometer")


def test_layers_0_to_5_load_only_torch_numpy_and_the_standard_library():
    core = [
        path.relative_to(SOURCE.parent).with_suffix("").as_posix().replace("/", ".")
        for path in MODULES
        if room_of(path) != "__init__" and LAYER_OF[room_of(path)] <= 5
    ]
    loaded = loaded_after("\n".join(f"import {name.removesuffix('.__init__')}" for name in core))
    assert not set(HEAVY.split()) & loaded
    assert "torch" in loaded


FORBIDDEN = {
    "eval",
    "exec",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "yaml.load",
    "torch.load",
    "importlib.import_module",
    "os.system",
    "os.popen",
}
ALLOWED = {
    ("_checks.py", "importlib.import_module"),  # fixed names of optional packages
    ("_external.py", "torch.load"),  # weights_only=True, of a file that a package brings
    (
        "_rows_torch.py",
        "torch.load",
    ),  # weights_only=True, torch 2.10 or later, onto the device that holds nothing
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_call_runs_code_from_data(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        assert name not in FORBIDDEN or (path.name, name) in ALLOWED, f"{path}:{node.lineno} calls {name}"
        assert not name.endswith(".extractall"), f"{path}:{node.lineno}"
        for keyword in node.keywords:
            true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            risky = keyword.arg in ("allow_pickle", "shell", "trust_remote_code") and true
            assert not risky, f"{path}:{node.lineno} passes {keyword.arg}=True"


def test_modules_are_one_idea_long():
    long = {str(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_rooms_have_names_of_their_own():
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "base", "misc", "_utils"}


def test_every_room_has_a_short_readme():
    for package in sorted(path.parent for path in SOURCE.glob("*/__init__.py")):
        readme = package / "README.md"
        assert readme.exists(), f"{package.name} has no README.md"
        assert len(readme.read_text().splitlines()) <= 20, f"{package.name}/README.md is longer than 20 lines"
