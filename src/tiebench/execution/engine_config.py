"""Where many runs are executed, and by which trackers they are followed: `--engine` and `--track`, else the block
`[engine]` and the list `callbacks` of `tiebench.toml` in the working directory.

Nothing here changes what a run is, so nothing of it stands in an experiment file or in a signature.
"""

import shutil
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.block import Block

SETTINGS_FILE = Path("tiebench.toml")
KEYS = ("engine", "callbacks")

Number = Annotated[int, Field(gt=0, le=1_000_000)]


class LocalEngine(Block):
    """Processes on this machine, as many as `--jobs` says."""

    type: Literal["local"] = "local"


class SlurmEngine(Block):
    """A job of Slurm for each run, by submitit. The folders of results, data and cache must be seen by every node."""

    type: Literal["slurm"] = "slurm"
    cpus: Number = Field(default=1, description="Cores, and threads, of a run.")
    gpus: int = Field(default=0, ge=0, le=1, description="GPUs of a run.")
    memory_mb: Number | None = Field(default=None, description="Memory of a run; none: what the partition gives.")
    minutes: Number = Field(default=1440, description="Time limit of a job; a run that needs more goes on in the next.")
    partition: str | None = Field(default=None, description="Partition; none: the cluster's default.")
    account: str | None = Field(default=None, description="Account that pays.")
    setup: list[str] = Field(default=[], description="Shell lines before a run, such as `module load cuda`.")


class RayEngine(Block):
    """A task of Ray for each run. The folders of results, data and cache must be seen by every node."""

    type: Literal["ray"] = "ray"
    address: str = Field(default="auto", description="Of the head node, `host:6379`; auto: this machine's.")
    cpus: Number = Field(default=1, description="Cores, and threads, of a run.")
    gpus: int = Field(default=0, ge=0, le=1, description="GPUs of a run.")


EngineConfig = LocalEngine | SlurmEngine | RayEngine
ENGINES: dict[str, type[LocalEngine] | type[SlurmEngine] | type[RayEngine]] = {
    "local": LocalEngine,
    "slurm": SlurmEngine,
    "ray": RayEngine,
}
PACKAGES = {"slurm": "submitit", "ray": "ray"}  # the extra of pyproject.toml has the engine's name


def choose_engine(asked: str | EngineConfig | None = None, *, file: Path = SETTINGS_FILE) -> EngineConfig:
    """The engine asked for, else that of the settings file, else this machine; with the keys that the file has for it.

    An engine that is given as a config is returned once its package is found.

    Raises UsageError, naming file and key, for an unknown engine or key and for a wrong value, and where the package of
    the engine is not installed.
    """
    if asked is not None and not isinstance(asked, str):
        _check_installed(asked.type)
        return asked
    block = _read_block(file)
    kind = asked or str(block.get("type", "local"))
    if kind not in ENGINES:
        where = f"--engine {kind}" if asked else f"{file}: engine.type '{kind}'"
        raise UsageError(f"{where} is no engine", did_you_mean(kind, ENGINES))
    described = _validate(block, file=file) if block else None
    chosen = described if described is not None and described.type == kind else ENGINES[kind]()
    _check_installed(kind)
    return chosen


def choose_trackers(asked: Sequence[str] = (), *, file: Path = SETTINGS_FILE) -> tuple[str, ...]:
    """The names of the trackers asked for, else those of `callbacks` in the settings file.

    Raises UsageError where the file cannot be read, and for what is no list of names.
    """
    names = _read_content(file).get("callbacks", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{file}: callbacks is {names!r}, not a list of names", 'write callbacks = ["tensorboard"]')
    return tuple(asked) or tuple(names)


def check_jobs(jobs: str) -> None:
    """Raises UsageError for anything but `auto` and a number of at least 1."""
    if jobs != "auto" and not (jobs.isdecimal() and int(jobs)):
        raise UsageError(f"--jobs {jobs} is not a number of runs", "give a number of at least 1, or auto")


def _read_block(file: Path) -> dict[str, Any]:
    """What stands below `[engine]`; nothing where there is no file."""
    block = _read_content(file).get("engine", {})
    if not isinstance(block, dict):
        raise UsageError(f"{file}: engine is {block!r}, not a block", 'write [engine] and, below it, type = "slurm"')
    return block


def _read_content(file: Path) -> dict[str, Any]:
    """The whole file; nothing where there is none."""
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", 'write [engine] and, below it, type = "slurm"') from error
    if unknown := sorted(set(content) - set(KEYS)):
        raise UsageError(f"{file}: unknown key '{unknown[0]}'", did_you_mean(unknown[0], KEYS))
    return content


def _validate(block: dict[str, Any], *, file: Path) -> EngineConfig:
    kind = block.get("type", "local")
    if not isinstance(kind, str) or kind not in ENGINES:
        raise UsageError(f"{file}: engine.type '{kind}' is no engine", did_you_mean(str(kind), ENGINES))
    known = ENGINES[kind].model_fields
    if unknown := sorted(set(block) - set(known)):
        what = f"{file}: unknown key 'engine.{unknown[0]}' of the engine {kind}"
        raise UsageError(what, did_you_mean(unknown[0], known))
    try:
        return ENGINES[kind].model_validate(block)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, ("engine", *problem["loc"])))
        raise UsageError(f"{file}: {key}: {problem['msg']}", f"found {problem['input']!r}") from error


def _check_installed(kind: str) -> None:
    package = PACKAGES.get(kind)
    if package is not None and find_spec(package) is None:
        hint = f"pip install 'tiebench[{kind}]', or leave --engine {kind} out"
        raise UsageError(f"the engine '{kind}' needs the package {package}", hint)
    if kind == "slurm" and shutil.which("sbatch") is None:
        raise UsageError("the engine 'slurm' needs the command sbatch", "type this on a login node of the cluster")
