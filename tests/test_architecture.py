"""Imports between the rooms go one way, and what is heavy or internal stays where the architecture page puts it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "amc_tf"

# A room may import from rooms of a lower number, and from itself.
LEVELS = {
    "errors": -1,
    "version": 0,
    "cache": 0,
    "isolated": 1,
    "data": 1,
    "files": 1,
    "cores": 0,
    "locks": 0,
    "processes": 0,
    "exits": 0,
    "scalars": 0,
    "graph": 1,
    "pruning": 2,
    "tflite": 3,
    "devices": 3,
    "cost": 4,
    "search": 5,
    "examples": 5,
    "settings": 5,
    "analyze": 6,
    "distillation": 6,
    "callbacks": 6,
    "finetune": 7,
    "prune": 6,
    "request": 7,
    "result": 6,
    "latency": 7,
    "methods": 5,
    "report": 7,
    "finishing": 8,
    "stages": 9,
    "training": 9,
    "winner": 9,
    "preview": 10,
    "compress": 11,
    "__init__": 12,
    "bench": 4,
    "doctor": 5,
    "cli": 13,
    "__main__": 14,
}

KERAS_INTERNALS = {
    "_nodes",
    "_nodes_by_depth",
    "_network_nodes",
    "_inbound_nodes",
    "_outbound_nodes",
    "_functional",
    "_keras_history",
    "_operations",
    "_operations_by_depth",
    "_self_tracked_trackables",
}


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Absolute dotted names of what a file imports anywhere in it, function bodies included."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def room(dotted: str) -> str | None:
    """The room that an imported name lies in; None for what is not of amc_tf."""
    first, *rest = dotted.split(".")
    if first != "amc_tf":
        return None
    return rest[0] if rest and rest[0] in LEVELS else "__init__"  # `from amc_tf import compress` asks for the package


def room_of_file(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sources(PACKAGE), ids=relative)
def test_rooms_import_one_way(path: Path) -> None:
    own = room_of_file(path)
    assert own in LEVELS, f"{relative(path)} is in a room that the architecture page does not know"
    for name in imports(path):
        other = room(name)
        if other is not None and other != own:
            assert LEVELS[other] < LEVELS[own], f"{relative(path)} imports {name}, which lies above it or beside it"


@pytest.mark.parametrize("path", sources(ROOT / "models"), ids=relative)
def test_models_know_nothing_of_amc_tf(path: Path) -> None:
    assert not [name for name in imports(path) if room(name)]


@pytest.mark.parametrize("path", sources(PACKAGE), ids=relative)
def test_nothing_below_imports_the_tools_or_the_models(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] in ("tools", "models", "tests")]


def test_only_the_agents_process_imports_tf_agents() -> None:
    importers = {relative(path) for path in sources(PACKAGE) for name in imports(path) if name.startswith("tf_agents")}
    assert importers <= {"amc_tf/search/agent_process.py"}


def test_one_file_knows_which_converter_there_is() -> None:
    users = {
        relative(path)
        for path in sources(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("lite", "TFLiteConverter", "OpsSet")
    }
    assert users == {"amc_tf/tflite/converter.py"}


def test_only_keras_graph_touches_keras_internals() -> None:
    for path in sources(PACKAGE):
        if relative(path) == "amc_tf/graph/keras_graph.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        touched = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & KERAS_INTERNALS
        private = {name for name in imports(path) if name.startswith(("keras.src", "tf_keras.src"))}
        assert not touched | private, f"{relative(path)} touches {sorted(touched | private)}: ask graph/keras_graph.py"


def test_importing_the_package_does_not_load_tensorflow() -> None:
    code = "import sys, amc_tf.cli; print(sorted({'tensorflow', 'keras', 'tf_keras', 'tf_agents'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
