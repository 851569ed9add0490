"""Checks between the fields of a block, made also where other fields are wrong, so that all problems show at once.

pydantic makes these checks only when every field is right, and stops at the first that fails.
"""

from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

Path = tuple[str | int, ...]


def find_conflicts(
    model: type[BaseModel], data: Any, *, wrong: set[Path], path: Path = ()
) -> Iterator[tuple[Path, str]]:
    """Make the checks of the block of `model` that `data` holds, and of all blocks in it.

    Yields the path of the block and the message of each check that fails. `wrong` are the paths of values that cannot
    be used: a check that reads one of them, or a missing value, is skipped.
    """
    if not isinstance(data, dict):
        return
    for name, field in model.model_fields.items():
        for member, value, below in list_blocks(field.annotation, data.get(name), path=(*path, name)):
            yield from find_conflicts(member, value, wrong=wrong, path=below)
    block = build_partly(model, data, wrong=wrong, path=path)
    for check in list_checks(model):
        try:
            check(block)
        except AttributeError:  # it reads what is wrong or missing
            continue
        except ValueError as error:
            yield path, str(error)


def build_partly(model: type[BaseModel], data: dict[str, Any], *, wrong: set[Path], path: Path) -> BaseModel:
    """The block without its wrong or missing values; reading one of these raises AttributeError."""
    values = {}
    for name, field in model.model_fields.items():
        below = (*path, name)
        if any(place[: len(below)] == below for place in wrong):
            continue
        if name not in data:
            values |= {} if field.is_required() else {name: field.get_default(call_default_factory=True)}
            continue
        members = [] if get_origin(field.annotation) is dict else choose_members(field.annotation, data[name])
        values[name] = build_partly(members[0], data[name], wrong=wrong, path=below) if members else data[name]
    block = model.model_construct(**values)
    for name in model.model_fields.keys() - values.keys():
        vars(block).pop(name, None)  # the default that model_construct put in place of a wrong value
    return block


def list_blocks(annotation: Any, value: Any, *, path: Path) -> Iterator[tuple[type[BaseModel], Any, Path]]:
    """Each block that a value holds, as (model, value, path): the value itself, or in a dict one for each name."""
    if get_origin(annotation) is dict:
        for name, part in value.items() if isinstance(value, dict) else ():
            yield from ((member, part, (*path, name)) for member in choose_members(annotation, part))
    else:
        yield from ((member, value, path) for member in choose_members(annotation, value))


def choose_members(annotation: Any, value: Any) -> list[type[BaseModel]]:
    """The block of an annotation that the `type` of a mapping names, as a list of one; empty where it names none."""
    members = list_members(annotation)
    if not isinstance(value, dict) or not members:
        return []
    if "type" in members[0].model_fields:
        members = [found for found in members if value.get("type") in get_args(found.model_fields["type"].annotation)]
    return members[:1]


def list_members(annotation: Any) -> list[type[Any]]:
    """The blocks that an annotation admits."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [member for part in get_args(annotation) for member in list_members(part)]


def list_checks(model: type[BaseModel]) -> list[Callable[[Any], Any]]:
    """The functions that a block declares with `model_validator(mode="after")`."""
    found = model.__pydantic_decorators__.model_validators.values()
    return [decorator.func for decorator in found if decorator.info.mode == "after"]
