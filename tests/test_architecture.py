"""Imports between the rooms go one way, and what is heavy or internal stays where the architecture page puts it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import amc_tf

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "amc_tf"

# The rooms in the order in which they are built on each other: each may import from those on earlier lines.
ROOMS = """
errors version checks
system
keras_state
fingerprint
isolated graph targets
data pruning
tflite devices
cost training
search
latency result
callbacks report
options
pipeline
api
commands
__init__
cli
__main__
"""
LEVELS = {room: level for level, line in enumerate(ROOMS.split("\n")) for room in line.split()}

# Rooms within a room, by the same rule; a file of the room itself counts by its own name.
INNER = {
    "graph": "network\nkeras_internals channel_ids\nrules\ngroups\nkeras_reader\nkeras_builder\nidentity rewrite",
    "tflite": "silence flatbuffer layer_names\noperators\nloops\noperator_costs\nsparse\nconversion\nruntime\nslicing",
    "devices": "timing\ndevice\nbenchmark_model\ninterleave\nhost android\nchoose",
    "search": (
        "trial budget\nguarantee rewards journal\nproposers best_trial\nschedule scoring agent problem\nproposer\nstudy"
    ),
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


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The paths along which the nodes of a graph lead back to themselves; each found once at least."""
    found, done = [], set()

    def walk(node: str, path: list[str]) -> None:
        if node in path:
            found.append([*path[path.index(node) :], node])
        elif node not in done:
            for other in sorted(edges.get(node, ())):
                walk(other, [*path, node])
            done.add(node)

    for node in edges:
        walk(node, [])
    return found


def module_edges() -> dict[str, set[str]]:
    """Module -> the modules of amc_tf that it imports anywhere in it."""
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources(PACKAGE)}
    known = {name.removesuffix(".__init__") for name in names.values()}

    def module(dotted: str) -> str | None:
        parent = dotted.rpartition(".")[0]
        return dotted if dotted in known else parent if parent in known else None

    edges = {}
    for path, name in names.items():
        edges[name.removesuffix(".__init__")] = {found for each in imports(path) if (found := module(each))}
    return edges


def test_no_module_leads_back_to_itself() -> None:
    edges = module_edges()
    assert edges["amc_tf.cli"] and not circles({name: others - {name} for name, others in edges.items()})


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]


@pytest.mark.parametrize("parent", INNER)
def test_rooms_within_a_room_import_one_way(parent: str) -> None:
    levels = {inner: level for level, line in enumerate(INNER[parent].split("\n")) for inner in line.split()}
    for path in sources(PACKAGE / parent):
        own = path.relative_to(PACKAGE / parent).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in levels, f"{relative(path)} is in a room that the architecture test does not know"
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["amc_tf", parent] and len(parts) > 2 and parts[2] in levels and parts[2] != own:
                assert levels[parts[2]] < levels[own], f"{relative(path)} imports {name}, above it or beside it"


def test_no_two_modules_have_one_name() -> None:
    names = [path.stem if path.name != "__init__.py" else path.parent.name for path in sources(PACKAGE)]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"{sorted(twice)}: a reader could not tell which one is meant"


def test_no_module_shadows_the_standard_library() -> None:
    names = {path.stem for path in sources(PACKAGE)} | {path.parent.name for path in sources(PACKAGE)}
    assert not (names - {"__init__"}) & sys.stdlib_module_names


def test_no_public_name_is_both_a_module_and_a_function() -> None:
    code = "import amc_tf, types; print([n for n in amc_tf.__all__ if type(getattr(amc_tf, n)) is types.ModuleType])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['callbacks', 'devices']", done.stderr
    top = {path.stem for path in PACKAGE.iterdir()}
    assert not top & {"analyze", "compress", "finetune", "prune"}


def test_the_architecture_page_names_every_module() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    missing = [relative(path) for path in sources(PACKAGE) if path.name not in page]
    assert not missing, f"docs/architecture.md does not name {missing}"


LONGEST, MOST_PARAMETERS = 60, 8
TAKE_OPTIONS = {"compress", "finetune", "AdbDevice.__init__"}  # public, and explicit for the sake of completion


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(name, node) of every function, methods by Class.name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, node
        name = f"{node.name}." if isinstance(node, ast.ClassDef) else prefix
        yield from functions(node, name)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and decorators."""
    docstring = ast.get_docstring(node, clean=False)
    return node.end_lineno - node.lineno + 1 - (len(docstring.splitlines()) if docstring else 0)


@pytest.mark.parametrize("path", sources(PACKAGE), ids=relative)
def test_functions_are_short_and_take_few_arguments(path: Path) -> None:
    for name, node in functions(ast.parse(path.read_text(encoding="utf-8"))):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        own = [each for each in arguments if each.arg not in ("self", "cls")]
        few = name in TAKE_OPTIONS or len(own) <= MOST_PARAMETERS
        assert few, f"{relative(path)}: {name} has {len(own)} parameters"
        if name == "compress":
            assert node.end_lineno - node.body[0].end_lineno < 80
        else:
            assert length(node) <= LONGEST, f"{relative(path)}: {name} has {length(node)} lines"


@pytest.mark.parametrize("path", sources(ROOT / "models"), ids=relative)
def test_models_know_nothing_of_amc_tf(path: Path) -> None:
    assert not [name for name in imports(path) if room(name)]


@pytest.mark.parametrize("path", sources(PACKAGE), ids=relative)
def test_nothing_below_imports_the_tools_or_the_models(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] in ("tools", "models", "tests")]


def test_only_the_agents_process_imports_tf_agents() -> None:
    importers = {relative(path) for path in sources(PACKAGE) for name in imports(path) if name.startswith("tf_agents")}
    assert importers <= {"amc_tf/search/agent/ddpg_process.py"}


def test_one_file_knows_which_converter_there_is() -> None:
    users = {
        relative(path)
        for path in sources(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("lite", "TFLiteConverter", "OpsSet")
    }
    assert users == {"amc_tf/tflite/conversion/tf_converter.py"}


def test_only_one_file_touches_keras_internals() -> None:
    for path in sources(PACKAGE):
        if relative(path) == "amc_tf/graph/keras_internals.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        touched = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & KERAS_INTERNALS
        private = {name for name in imports(path) if name.startswith(("keras.src", "tf_keras.src"))}
        assert not touched | private, f"{relative(path)} touches {sorted(touched | private)}: use keras_internals.py"


def test_importing_the_package_does_not_load_tensorflow() -> None:
    code = "import sys, amc_tf.cli; print(sorted({'tensorflow', 'keras', 'tf_keras', 'tf_agents'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_a_public_name_is_imported_at_its_first_use() -> None:
    """The processes that amc_tf starts need little of it, and wait for no more."""
    code = "import sys, amc_tf; print('numpy' in sys.modules); amc_tf.Plan; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "True"], done.stderr
    assert set(amc_tf.__all__) <= set(dir(amc_tf))
    with pytest.raises(AttributeError, match="'amc_tf' has no attribute 'shrink'"):
        amc_tf.shrink  # noqa: B018
