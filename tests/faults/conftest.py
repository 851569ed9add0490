"""One process that forks for all tests of the session, and runs to begin with."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the campaign is a program as well, `python tests/faults`

from damage import make_templates
from shell import Shell
from truth import copy_folder, write_experiment


@pytest.fixture(scope="session")
def shell() -> Iterator[Shell]:
    with Shell() as found:
        yield found


@pytest.fixture(scope="session")
def templates(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """Folders to be copied, by how far their runs are (see `damage.make_templates`), and the true figures."""
    return make_templates(shell, tmp_path_factory.mktemp("templates"))


@pytest.fixture(scope="session")
def truth(templates: tuple[dict, dict]) -> dict:
    """The figures of the undisturbed runs."""
    return templates[1]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A folder with `tiny.yaml` and nothing trained."""
    write_experiment(tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def copy_of(templates: tuple[dict, dict], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a template, for the test to spoil: `finished`, `at its first checkpoint` or `before it was scored`."""
    return lambda name: copy_folder(templates[0][name], tmp_path / "trial")
