"""YAML as a person means it: `3e-4` is a number, `on` is a word, a key stands once, and every value knows its line."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tiebench.errors import UsageError
from tiebench.experiment.yaml_limits import check_events, check_number, check_text, explain_error, find_line

KeyPath = tuple[str | int, ...]
MOST_VALUES = 20_000


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

    def find(self, path: KeyPath) -> Any:
        """The value at a path; None where there is none."""
        value: Any = self.data
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def read_document(file: Path) -> Document:
    """Raises UsageError for a file that cannot be read, is not YAML, is no mapping, gives a key twice or breaks a limit
    of `yaml_limits`.
    """
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"no such file: {file}", "`tiebench list configs` shows what is bundled") from None
    except IsADirectoryError:
        raise UsageError(f"cannot read {file}: it is a folder, not a file", _name_files(file)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8 text (byte 0x{error.object[error.start]:02x})"
        raise UsageError(f"cannot read {file}:{line}: {what}", "save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    return parse_document(text, source=str(file))


def parse_document(text: str, *, source: str) -> Document:
    """Raises UsageError as `read_document` does."""
    node = _compose(text, source=source)
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{source} is not an experiment: expected `key: value` lines", "see `tiebench list configs`")
    document = Document(source=source, data={})
    document.data = _Construction(document).construct(node, ())
    return document


def parse_value(text: str, *, source: str = "--set") -> Any:
    """One value as it would stand in a file, such as `3e-4`, `true` or `{type: sgd}`; text that is no YAML is text.

    Raises UsageError for what a file may not hold either, such as a tag or an endless number.
    """
    try:
        node = _compose(text, source=source)
    except _NoYAML:
        check_text(text, source=source)
        return text
    return None if node is None else _Construction(Document(source, {})).construct(node, ())


class _NoYAML(UsageError):
    """Text that breaks the rules of YAML, in contrast to YAML that breaks ours."""


def _compose(text: str, *, source: str) -> yaml.Node | None:
    """The tree of nodes. Raises UsageError with the line of what is wrong."""
    try:
        check_events(yaml.parse(text, Loader=_Loader), source=source)
        return _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"the character U+{int(error.character):04X} may not stand in a file"
        raise UsageError(f"{source}:{line}: {what}", "remove it; it is often invisible") from None
    except yaml.YAMLError as error:
        hint = "check the indentation and the colons"
        raise _NoYAML(f"{source} is not YAML: {explain_error(error)}", hint) from None


class _Construction:
    """Nodes become values of Python, and the document learns their lines."""

    def __init__(self, document: Document) -> None:
        self.document, self.loader, self.num_values = document, _Loader(""), 0

    def construct(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.lines.setdefault(path, find_line(node))
        self._count(node)
        if isinstance(node, yaml.MappingNode):
            return self._construct_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.construct(item, (*path, index)) for index, item in enumerate(node.value)]
        source = f"{self.document.source}:{find_line(node)}"
        check_text(node.value, source=source)
        if isinstance(node, yaml.ScalarNode):
            check_number(node, source=source)
        return self.loader.construct_object(node)

    def _count(self, node: yaml.Node) -> None:
        self.num_values += 1
        if self.num_values > MOST_VALUES:
            raise UsageError(
                f"{self.document.source}:{find_line(node)}: more than {MOST_VALUES:,} values, aliases included",
                "an alias (*name) repeats all that its anchor (&name) holds",
            )

    def _construct_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        source = self.document.source
        for key_node, value_node in node.value:
            line = find_line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise UsageError(f"{source}:{line}: a key is one word, not a list or a block", "write `key: value`")
            key = str(key_node.value)
            check_text(key, source=f"{source}:{line}")
            if key in mapping:
                first = self.document.lines[(*path, key)]
                dotted = ".".join(map(str, (*path, key)))
                raise UsageError(
                    f"{source}:{line}: {dotted} stands twice (first on line {first})", "keep one of the two"
                )
            self.document.lines[(*path, key)] = line
            mapping[key] = self.construct(value_node, (*path, key))
        return mapping


def _name_files(folder: Path) -> str:
    """A hint for who names a folder: the YAML files in it."""
    found = sorted(str(file) for file in folder.glob("*.y*ml"))[:3]
    return f"did you mean {' or '.join(found)}?" if found else "`tiebench list configs` shows what is bundled"
