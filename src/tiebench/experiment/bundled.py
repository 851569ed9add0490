"""The experiments that come with tiebench, found by name from any folder."""

from pathlib import Path

from tiebench.errors import UsageError, did_you_mean

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


def find_config(name: str) -> Path:
    """A path to a file, or the name of a bundled experiment. Raises UsageError for neither."""
    file = Path(name)
    if file.is_file():
        return file
    bundled = list_configs()
    if name in bundled:
        return bundled[name]
    if file.suffix in (".yaml", ".yml") or len(file.parts) > 1:
        raise UsageError(f"no such file: {name}", f"bundled experiments go by name: {', '.join(bundled)}")
    raise UsageError(f"no file and no bundled experiment is called '{name}'", did_you_mean(name, bundled))
