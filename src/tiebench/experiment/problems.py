"""What is wrong with an experiment file, in words: the place, what was found, what is allowed, what was meant."""

from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.conflicts import find_conflicts, list_members
from tiebench.experiment.yaml_file import Document

CHECK = "`tiebench check CONFIG` tries a file without training"
MOST_SHOWN = 20
MOST_CHARACTERS = 80
MESSAGES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a block of `key: value` lines",
    "model_type": "a block of `key: value` lines",
    "model_attributes_type": "a block of `key: value` lines",
    "tuple_type": "a list",
    "list_type": "a list",
}


class FileProblems(UsageError):
    """Everything that is wrong with a file, a line each."""

    def __init__(self, lines: list[str], *, source: str, hint: str) -> None:
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        listing = "\n".join(f"  {line}" for line in lines[:MOST_SHOWN])
        more = f"\n  and {len(lines) - MOST_SHOWN} more" if len(lines) > MOST_SHOWN else ""
        super().__init__(f"{source} has {count}:\n{listing}{more}", hint)
        self.lines = lines


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (a path of keys), what was found (None: nothing), what is allowed."""

    path: tuple[str | int, ...]
    found: Any
    allowed: str

    def below(self, prefix: tuple[str, ...]) -> "Problem":
        return replace(self, path=(*prefix, *self.path))


def explain_problems(error: ValidationError, *, model: type[BaseModel], data: Any) -> list[Problem]:
    """pydantic's findings about `data` as problems, one for each path, with a suggestion for unknown keys.

    What the checks between fields say comes after them.
    """
    problems: dict[tuple, Problem] = {}
    raised: list[tuple[tuple, str]] = []
    for item in error.errors():
        path, found = _strip_tags(item["loc"], model), item["input"]
        if item["type"] == "value_error":
            raised.append((path, str(item.get("ctx", {})["error"])))
            continue
        if item["type"] == "extra_forbidden":  # a key of the file, whatever it looks like
            path = (*_strip_tags(item["loc"][:-1], model), item["loc"][-1])
        if item["type"] == "union_tag_invalid":  # pydantic shows the whole block where its `type` is wrong
            path, found = (*path, "type"), item.get("ctx", {})["tag"]
        problem = Problem(path, found, _explain(item, path, model))
        if path in problems and problem.allowed not in problems[path].allowed:
            problem = replace(problem, allowed=f"{problems[path].allowed}, or {problem.allowed}")
        problems[path] = problem
    conflicts = dict.fromkeys([*raised, *find_conflicts(model, data, wrong=set(problems))])
    return [*problems.values(), *(Problem(path, None, says) for path, says in conflicts)]


def raise_problems(problems: list[Problem], document: Document, *, hint: str = CHECK) -> None:
    """Raises FileProblems with one line for each problem; does nothing when there is none."""
    lines = list(dict.fromkeys(_format(problem, document) for problem in problems))
    if lines:
        raise FileProblems(lines, source=document.source, hint=hint)


def _format(problem: Problem, document: Document) -> str:
    path = problem.path
    if path[:1] == ("arms",) and len(path) > 2 and not _stands_in_arm(path, document):
        path = path[2:]
    dotted = shorten(".".join(map(str, path)))
    found = "" if problem.found is None or isinstance(problem.found, dict) else f"found {show_found(problem.found)}; "
    place = f"{document.locate(path)}: {dotted}" if path else document.source  # two blocks do not go together
    return f"{place}: {found}{problem.allowed}"


def show_found(value: Any) -> str:
    """A value as it was written, cut where it is long."""
    return shorten(repr(value)) if not isinstance(value, int) or abs(value) < 10**MOST_CHARACTERS else "a long number"


def shorten(text: str) -> str:
    """The beginning and the end of a text that is too long to show."""
    half = MOST_CHARACTERS // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half]}...{text[-half:]}"


def _stands_in_arm(path: tuple[str | int, ...], document: Document) -> bool:
    """Whether the arm itself wrote this value; if not, the shared part of the file did, or should have."""
    shorthand = path[-1] == "type" and isinstance(document.find(path[:-1]), str | bool)  # `tie: flase`
    written = path in document.lines or (shorthand and path[:-1] in document.lines)
    return written or any(path[: len(known)] == known for known in document.overridden)


def _explain(item: ErrorDetails, path: tuple, model: type[BaseModel]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields_at(model, path[:-1], item["loc"])
        return f"unknown key; {did_you_mean(shorten(str(path[-1])), known)}" if known else "unknown key"
    if kind == "missing":
        if path and isinstance(path[-1], int):
            return f"entry {path[-1] + 1} of this list is missing"
        types = _types_at(model, path)
        return f"this key is needed; {did_you_mean('', types)}" if types else "this key is needed"
    if kind in ("union_tag_invalid", "literal_error"):
        expected = context.get("expected_tags") or context.get("expected", "")
        names = [name.strip(" '") for name in expected.replace(" or ", ",").split(",") if name.strip(" '")]
        tag = context.get("tag", item["input"])
        return did_you_mean(shorten(str(tag)), names)
    if kind == "union_tag_not_found":
        return "this block needs a `type`"
    if kind == "less_than_equal" and context["le"] >= 10**15:
        return f"must be less than or equal to {context['le']:.0e}"
    return f"expected {MESSAGES[kind]}" if kind in MESSAGES else item["msg"].replace("Input should be", "must be")


def _strip_tags(location: tuple, model: type[BaseModel]) -> tuple:
    """pydantic puts the chosen union member into the path; the file does not have it."""
    path: list = []
    current: Any = model
    for part in location:
        members = list_members(current)
        field = next((member.model_fields[part] for member in members if part in member.model_fields), None)
        if field is not None:
            path.append(part)
            current = field.annotation
        elif part not in _tags(members) and not _looks_like_branch(part):
            path.append(part)
            current = None
    return tuple(path)


def _looks_like_branch(part: Any) -> bool:
    """The branch of a plain union, such as `literal['one']` or `constrained-float`."""
    return isinstance(part, str) and any(mark in part for mark in ("[", "constrained", "function-"))


def _tags(members: list[type[BaseModel]]) -> set[str]:
    """The `type` names of union members, and pydantic's class names for untagged ones."""
    names = {member.__name__ for member in members}
    for member in members:
        if "type" in member.model_fields:
            names.update(get_args(member.model_fields["type"].annotation))
    return names


def _types_at(model: type[BaseModel], path: tuple) -> list[str]:
    """The `type` names that the block at a path may have; none where it is not one of several."""
    members = [model]
    for part in path:
        annotations = [member.model_fields[part].annotation for member in members if part in member.model_fields]
        members = [found for annotation in annotations for found in list_members(annotation)]
    return sorted(
        {name for member in members if "type" in member.model_fields for name in _tags([member])}
        - {member.__name__ for member in members}
    )


def _fields_at(model: type[BaseModel], path: tuple, location: tuple) -> list[str]:
    """The keys that are allowed in the block at a path (of the union member that was chosen)."""
    members = [model]
    for part in path:
        annotations = [member.model_fields[part].annotation for member in members if part in member.model_fields]
        if annotations:  # otherwise the part is a key of a mapping of blocks, whose members are known already
            members = [found for annotation in annotations for found in list_members(annotation)]
    chosen = [member for member in members if _tags([member]) & set(location)]
    return sorted({name for member in chosen or members for name in member.model_fields})
