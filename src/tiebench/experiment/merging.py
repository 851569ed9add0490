"""How blocks are laid over one another: shorthands spelled out, mappings merged, one type replacing another."""

from typing import Any

from tiebench.errors import UsageError
from tiebench.experiment.yaml_file import parse_value

EXCLUSIVE = ({"epochs", "steps", "tokens"}, {"uniform", "normal"})
TYPED = ("corpus", "vocabulary", "architecture", "tie")


def expand_shorthands(block: dict[str, Any]) -> dict[str, Any]:
    """`tie: true` is `{type: tied}`, `corpus: ptb` is `{type: ptb}`, `initialise_from: DIR` is `{folder: DIR}`."""
    expanded = dict(block)
    if isinstance(expanded.get("tie"), bool):
        expanded["tie"] = {"type": "tied" if expanded["tie"] else "untied"}
    for key in TYPED:
        if isinstance(expanded.get(key), str):
            expanded[key] = {"type": expanded[key]}
    if isinstance(expanded.get("initialise_from"), str):
        expanded["initialise_from"] = {"folder": expanded["initialise_from"]}
    return expanded


def merge(base: Any, change: Any) -> Any:
    """`change` laid over `base`: a block of another `type` replaces, any other block is merged key by key.

    Keys of which only one may be given, such as `epochs` and `steps`, replace each other.
    """
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return change
    if "type" in change and change["type"] != base.get("type", change["type"]):
        return change
    kept = {key: value for key, value in base.items() if not _is_replaced(key, change)}
    return {**kept, **{key: merge(base.get(key), value) for key, value in change.items()}}


def _is_replaced(key: str, change: dict[str, Any]) -> bool:
    return any(key in group and key not in change and group & change.keys() for group in EXCLUSIVE)


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """`training.epochs=1` as a path and a value. Raises UsageError for anything else."""
    dotted, equals, value = text.partition("=")
    path = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(path):
        raise UsageError(f"--set {text}: expected dotted.key=value", "for example: --set training.epochs=1")
    return path, parse_value(value.strip())


def apply_override(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The experiment with one value changed. Raises UsageError where an arm sets that value itself."""
    if arm := find_arm_that_sets(data, path):
        dotted = ".".join(path)
        raise UsageError(
            f"--set {dotted}: arm '{arm}' sets {dotted} itself, so it would not change",
            f"name the arm: --set arms.{arm}.{dotted}=...",
        )
    return lay_value(data, path, value)


def lay_value(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The experiment with one value, or one block, laid over it."""
    change: Any = value
    for key in reversed(path):
        change = {key: change}
    if path[0] == "arms":
        return merge(data, change)
    return merge(expand_shorthands(data), expand_shorthands(change))


def find_arm_that_sets(data: dict[str, Any], path: tuple[str, ...]) -> str | None:
    """The first arm that sets the value at a path by itself, so that what stands above the arms does not reach it."""
    arms = data.get("arms") if path[0] != "arms" else None
    for arm, changes in arms.items() if isinstance(arms, dict) else ():
        if isinstance(changes, dict) and is_set(expand_shorthands(changes), path):
            return arm
    return None


def is_set(block: Any, path: tuple[str, ...]) -> bool:
    """Whether a block holds a value at a path."""
    for key in path:
        if not isinstance(block, dict) or key not in block:
            return False
        block = block[key]
    return True


def list_paths(block: Any, prefix: str = "") -> list[str]:
    """The dotted paths of all values in a block, in the order in which they are written."""
    if not isinstance(block, dict) or not block:
        return [prefix] if prefix else []
    return [path for key, value in block.items() for path in list_paths(value, f"{prefix}.{key}".lstrip("."))]
