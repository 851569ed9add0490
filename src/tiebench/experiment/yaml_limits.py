"""What a file may not hold although YAML could say it: tags, depths, loops, endless numbers, half characters.

Each is refused while the file is read, with its line, before anything is built from it.
"""

from collections.abc import Iterable

import yaml

from tiebench.errors import UsageError

MOST_LEVELS = 32
MOST_DIGITS = 40
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def check_events(events: Iterable[yaml.Event], *, source: str) -> None:
    """Walk through a text as it is scanned, without recursion.

    Raises UsageError for a tag, for more than `MOST_LEVELS` levels, and for an alias inside of what it stands for.
    """
    open_anchors: list[str | None] = []
    for event in events:
        place = f"{source}:{event.start_mark.line + 1}"
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise UsageError(f"{place}: the tag {_name_tag(tag)} has no meaning here", "remove what begins with !")
        if isinstance(event, yaml.AliasEvent) and event.anchor in open_anchors:
            raise UsageError(f"{place}: the alias *{event.anchor} stands inside of itself", "write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            open_anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            open_anchors.pop()
        if len(open_anchors) > MOST_LEVELS:
            raise UsageError(f"{place}: more than {MOST_LEVELS} levels, one inside of the other", "close the brackets")


def check_number(node: yaml.ScalarNode, *, source: str) -> None:
    """Raises UsageError for a number of more than `MOST_DIGITS` characters."""
    if node.tag in NUMBERS and len(node.value) > MOST_DIGITS:
        raise UsageError(f"{source}: a number of {len(node.value):,} digits", f"at most {MOST_DIGITS} have a meaning")


def check_text(text: str, *, source: str) -> None:
    """Raises UsageError for half a character, which no file or terminal can show."""
    half = next((sign for sign in text if "\ud800" <= sign <= "\udfff"), None)
    if half is not None:
        raise UsageError(
            f"{source}: \\u{ord(half):04x} is half of a character", "write the character itself, or \\U and 8 digits"
        )


def find_line(node: yaml.Node) -> int:
    """Counted from 1."""
    return node.start_mark.line + 1


def explain_error(error: yaml.YAMLError) -> str:
    """Line and column where YAML could not go on, and why."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + (getattr(error, "problem", None) or str(error))


def _name_tag(tag: str) -> str:
    prefix = "tag:yaml.org,2002:"
    return f"!!{tag.removeprefix(prefix)}" if tag.startswith(prefix) else tag
