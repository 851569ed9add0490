"""The experiments that come with tiebench, found by name from any folder."""

from pathlib import Path

from tiebench.errors import UsageError, did_you_mean

SPEC_FILE = "spec.yaml"  # in the folder of a run
QUICKSTART = "quickstart"


def bundled_folder() -> Path:
    """`configs/`: inside the installed package, or at the top of a source checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parents[1] / "configs"


def list_configs() -> dict[str, Path]:
    """Name to file of every bundled experiment; claims are not experiments."""
    return {file.stem: file for file in sorted(bundled_folder().glob("*.yaml"))}


def list_claim_files() -> dict[str, Path]:
    """Name to file of every paper whose claims are bundled."""
    return {file.stem: file for file in sorted((bundled_folder() / "claims").glob("*.yaml"))}


def is_file(path: Path) -> bool:
    """Whether there is such a file; false too for a name that no file system can hold, such as one of 1,000 letters."""
    try:
        return path.is_file()
    except OSError:
        return False


def find_config(name: str) -> Path:
    """The file that is meant by a path, the folder of a run, or the name of a bundled experiment.

    Raises UsageError where `name` is none of these.
    """
    file = Path(name)
    if is_file(file):
        return file
    if is_file(file / SPEC_FILE):
        return file / SPEC_FILE
    bundled = list_configs()
    if name in bundled:
        return bundled[name]
    if file.is_dir():
        patterns = ("*.yaml", "*.yml", f"*/{SPEC_FILE}")
        found = sorted(str(path) for pattern in patterns for path in file.glob(pattern))[:3]
        names = f"bundled experiments go by name: {', '.join(bundled)}"
        hint = f"did you mean {' or '.join(found)}?" if found else names
        raise UsageError(f"{name} is a folder, and an experiment is a file", hint)
    if file.suffix in (".yaml", ".yml") or len(file.parts) > 1:
        raise UsageError(f"no such file: {name}", f"bundled experiments go by name: {', '.join(bundled)}")
    if name in list_claim_files():
        raise UsageError(f"{name} is a paper, not an experiment", f"`tiebench reproduce {name}` checks its claims")
    raise UsageError(f"no file and no bundled experiment is called '{name}'", did_you_mean(name, bundled))
