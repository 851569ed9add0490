"""Imports point down only, nothing runs in a circle, the half that compares needs no torch, and one room prints."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src" / "tiebench"
# From the bottom up: a room may import from those above it in this list, and nothing else.
ORDER = [
    "errors",
    "files",
    "owner_lock",
    "locks",
    "experiment",
    "corpora",
    "results",
    "layers",
    "losses",
    "tying",
    "architectures",
    "models",
    "training",
    "execution",
    "tracking",
    "comparison",
    "claims",
    "analysis",
    "reporting",
    "cli",
    "api",
]
STRANGERS = [
    ("tying", "architectures"),
    ("corpora", "results"),
    ("execution", "comparison"),
    ("comparison", "training"),
    ("claims", "training"),
    ("reporting", "training"),
    ("reporting", "execution"),
    ("reporting", "analysis"),
]
TORCH_FREE = [
    "errors",
    "files",
    "owner_lock",
    "locks",
    "experiment",
    "corpora",
    "results",
    "comparison",
    "claims",
    "reporting",
    "api",
]
TORCH_FREE_FILES = ["execution.settings", "execution.finished", "execution.plan", "training.callbacks", "cli.app"]
TORCH_FREE_FILES += ["execution.initial_checkpoint", "models.checkpoint_files", "models.tie_audit"]
TORCH_FREE_FILES += ["execution.engine_config", "execution.launch"]
PRINTING = {"cli"}
MOST_LINES = 350


def list_files() -> dict[str, Path]:
    """Module name (below tiebench) to file; a package is its `__init__`."""
    files = {}
    for file in SOURCES.rglob("*.py"):
        parts = file.relative_to(SOURCES).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return files


FILES = list_files()


def read_imports(name: str) -> set[str]:
    """The tiebench modules that a file imports anywhere in it: inside functions and for annotations too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_shorten(alias.name) for alias in node.names if _is_ours(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            if _is_ours(node.module):
                below = {_shorten(f"{node.module}.{alias.name}") for alias in node.names}
                modules = {module for module in below if module in FILES}
                found |= modules if modules == below else modules | {_shorten(node.module)}
    return found


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "tiebench"


def _shorten(module: str) -> str:
    return module.removeprefix("tiebench").removeprefix(".")


def find_part(module: str) -> str:
    return module.split(".")[0]


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """The names along a circle of imports; none where there is none."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if circle := follow(other, [*path, name]):
                return circle
        done.add(name)
        return []

    return next((circle for name in graph if (circle := follow(name, []))), [])


def test_there_are_files_and_every_room_has_its_place():
    assert len(FILES) > 80
    assert {find_part(name) for name in FILES} == {*ORDER, "", "__main__"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_point_down(name):
    part = find_part(name)
    allowed = set(ORDER[: ORDER.index(part) + 1]) if part in ORDER else {"cli", "api"}
    upward = {other for other in read_imports(name) if find_part(other) not in allowed | {""}}
    assert not upward, f"tiebench.{name} may not import {', '.join(sorted(upward))}"


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_rooms_that_do_not_know_each_other(one, other):
    for name in FILES:
        if find_part(name) in (one, other):
            met = {found for found in read_imports(name) if find_part(found) in {one, other} - {find_part(name)}}
            assert not met, f"tiebench.{name} imports {', '.join(sorted(met))}"


def test_no_file_imports_itself_around_a_corner():
    graph = {name: read_imports(name) for name in FILES if name}
    assert not find_circle(graph)


def test_a_circle_would_be_found():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_half_that_looks_can_be_imported_without_torch():
    """All at once, in one fresh process."""
    modules = [name for name in FILES if find_part(name) in TORCH_FREE] + TORCH_FREE_FILES
    program = "\n".join(
        [
            "import sys",
            *(
                f"import tiebench.{name}\nassert 'torch' not in sys.modules, 'tiebench.{name}'"
                for name in sorted(modules)
            ),
        ]
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", sorted(name for name in FILES if find_part(name) not in PRINTING))
def test_only_the_command_line_prints(name):
    for node in ast.walk(ast.parse(FILES[name].read_text("utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "typer.echo", "sys.stdout.write"), f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_is_swallowed_in_silence(name):
    for node in ast.walk(ast.parse(FILES[name].read_text("utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name}:{node.lineno} catches everything"
            assert not all(isinstance(line, ast.Pass) for line in node.body), f"{name}:{node.lineno} passes"


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_stay_readable(name):
    lines = FILES[name].read_text("utf-8").splitlines()
    assert len(lines) <= MOST_LINES, f"{name} has {len(lines)} lines"
    assert FILES[name].stem not in ("utils", "common", "helpers", "misc")


@pytest.mark.parametrize("name", sorted(name for name in FILES if FILES[name].stem != "__init__"))
def test_every_file_says_its_idea(name):
    assert ast.get_docstring(ast.parse(FILES[name].read_text("utf-8")))
