"""YAML as a person means it: `3e-4` is a number, `on` is a word, a key stands once, and every value knows its line."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tiebench.errors import UsageError

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """Only null, true/false, decimal integers, floats and strings; everything else stays text."""

    yaml_implicit_resolvers: dict = {}


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9_]*)$", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)$",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


@dataclass
class Document:
    """What a YAML file says, and on which line each value stands."""

    source: str
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overridden: dict[KeyPath, str] = field(default_factory=dict)

    def locate(self, path: KeyPath) -> str:
        """`file:line` of a value, or of the nearest block around it; `--set ...` where that put it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return self.overridden[path[:length]]
            if path[:length] in self.lines:
                return f"{self.source}:{self.lines[path[:length]]}"
        return self.source


def read_document(file: Path) -> Document:
    """Raises UsageError for a file that cannot be read, is not YAML, is no mapping, or gives a key twice."""
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"no such file: {file}", "`tiebench list configs` shows what is bundled") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    return parse_document(text, source=str(file))


def parse_document(text: str, *, source: str) -> Document:
    """Raises UsageError as `read_document` does."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not YAML: {_explain(error)}", "check the indentation and the colons") from None
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{source} is not an experiment: expected `key: value` lines", "see `tiebench list configs`")
    document = Document(source=source, data={})
    document.data = _construct(loader, node, (), document)
    return document


def parse_value(text: str) -> Any:
    """One value as it would stand in a file, such as `3e-4`, `true` or `{type: sgd}`; text that is no YAML is text."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.YAMLError:
        return text
    return None if node is None else _construct(loader, node, (), Document("--set", {}))


def _construct(loader: _Loader, node: yaml.Node, path: KeyPath, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(loader, node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, index), document) for index, item in enumerate(node.value)]
    return loader.construct_object(node)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode, path: KeyPath, document: Document) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in mapping:
            first = document.lines[(*path, key)]
            raise UsageError(
                f"{document.source}:{line}: {'.'.join(map(str, (*path, key)))} stands twice (first on line {first})",
                "keep one of the two",
            )
        document.lines[(*path, key)] = line
        mapping[key] = _construct(loader, value_node, (*path, key), document)
    return mapping


def _explain(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + (getattr(error, "problem", None) or str(error))
