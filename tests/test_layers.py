"""Imports point down only, nothing runs in a circle, the half that looks needs no torch, and one file prints."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src" / "tiebench"
BASE = {"errors", "registry"}
ALLOWED = {
    "": set(),
    "errors": set(),
    "registry": {"errors"},
    "experiment": BASE,
    "corpora": BASE | {"experiment"},
    "results": BASE | {"experiment"},
    "tying": BASE | {"experiment"},
    "architectures": BASE | {"experiment"},
    "training": BASE | {"", "experiment", "corpora", "results", "tying", "architectures"},
    "inventory": BASE | {"experiment", "results"},
    "display": BASE | {"experiment", "results", "training"},
    "printing": BASE | {"results", "training"},
    "workflow": BASE | {"experiment", "results", "training", "display", "printing"},
    "cli": BASE | {"", "experiment", "results", "training", "inventory", "printing", "workflow"},
    "__main__": {"cli"},
}
MOST_LINES = 350
PRINTING = {"cli", "printing"}
TORCH_FREE = [
    "errors",
    "registry",
    "experiment",
    "corpora",
    "results",
    "inventory",
    "display",
    "printing",
    "workflow",
    "cli",
]
TORCH_FREE_FILES = ["training.reuse", "training.callback"]


def list_files() -> dict[str, Path]:
    """Module name (below tiebench) to file; a package is its `__init__`."""
    files = {}
    for file in SOURCES.rglob("*.py"):
        parts = file.relative_to(SOURCES).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return files


FILES = list_files()


def read_imports(name: str, *, for_annotations: bool = True) -> set[str]:
    """The tiebench modules that a file imports anywhere in it, also inside functions."""
    found, tree = set(), ast.parse(FILES[name].read_text("utf-8"))
    if not for_annotations:
        tree.body = [node for node in tree.body if not _is_for_annotations(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {_shorten(alias.name) for alias in node.names if _is_ours(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            if _is_ours(node.module):
                below = {_shorten(f"{node.module}.{alias.name}") for alias in node.names}
                modules = {module for module in below if module in FILES}
                found |= modules if modules == below else modules | {_shorten(node.module)}
    return found


def _is_for_annotations(node: ast.stmt) -> bool:
    """`if TYPE_CHECKING:` is never run; it gives names to annotations."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


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


def test_there_are_files_and_every_part_has_its_place():
    assert len(FILES) > 40
    assert {find_part(name) for name in FILES} == set(ALLOWED)


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_point_down(name):
    part = find_part(name)
    upward = {other for other in read_imports(name) if find_part(other) not in ALLOWED[part] | {part}}
    assert not upward, f"tiebench.{name} may not import {', '.join(sorted(upward))}"


def test_the_two_ends_of_a_model_do_not_know_each_other():
    assert "tying" not in ALLOWED["architectures"] and "architectures" not in ALLOWED["tying"]
    assert "corpora" not in ALLOWED["results"] and "results" not in ALLOWED["corpora"]


def test_no_file_imports_itself_around_a_corner():
    assert not find_circle({name: read_imports(name, for_annotations=False) for name in FILES})


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


@pytest.mark.parametrize("name", sorted(set(FILES) - PRINTING))
def test_only_these_files_print(name):
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
