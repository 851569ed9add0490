"""Where specs differ: dotted paths, found by walking them side by side and never by comparing their text."""

from collections.abc import Iterator, Mapping
from typing import Any

Values = dict[str, Any]


def find_differences(specs: Mapping[str, Mapping[str, Any]], *, spell_out: bool = False) -> list[tuple[str, Values]]:
    """Where specs differ: (dotted path, {name: value}), in alphabetical order of the path.

    A block that only some have is one difference, at the block's own path. With `spell_out` each of its leaves is a
    difference, and specs without the block show None there. Null and false count as equal, as in a signature: a record
    that is older than a switch has null where a newer one has false.
    """
    return list(_walk(dict(specs), whole_blocks=not spell_out))


def is_declared(path: str, declared: list[str]) -> bool:
    """Whether a difference at `path` follows from the declared ones.

    It does if it lies below a declared path, if it is an option of a block whose `type` is declared (another type has
    other options), or if it is a whole block in which something is declared.
    """
    return any(_covers(name.removesuffix(".type"), path) or _covers(path, name) for name in declared)


def _covers(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer + ".")


def _walk(values: Values, *, whole_blocks: bool, path: str = "") -> Iterator[tuple[str, Values]]:
    found = [None if value is False else value for value in values.values()]
    if all(value == found[0] for value in found):
        return
    blocks = [value for value in values.values() if isinstance(value, Mapping)]
    others = [value for value in values.values() if not isinstance(value, Mapping)]
    if not blocks or any(value is not None for value in others) or (others and whole_blocks):
        yield path, values
        return
    for key in sorted(set().union(*blocks)):
        below = {arm: (value or {}).get(key) for arm, value in values.items()}
        yield from _walk(below, whole_blocks=whole_blocks, path=f"{path}.{key}" if path else key)
