"""YAML as a person means it, and every value's line."""

from pathlib import Path

import pytest

from tiebench.errors import UsageError
from tiebench.experiment.yaml_file import parse_document, parse_value, read_document


def read_value(text: str):
    return parse_document(f"key: {text}", source="x.yaml").data["key"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1E6", 1e6),
        ("1.5e-3", 1.5e-3),
        (".5", 0.5),
        ("-2.0", -2.0),
        ("1.", 1.0),
        ("3", 3),
        ("-3", -3),
        ("1_000", 1000),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("NO", "NO"),
        ("y", "y"),
        ("2017-01-02", "2017-01-02"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("010", "010"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("'3'", "3"),
        ('"true"', "true"),
    ],
)
def test_scalars_are_what_they_look_like(text, value):
    found = read_value(text)
    assert found == value and type(found) is type(value)
    if text:
        assert parse_value(text) == value


def test_values_of_overrides_may_be_blocks():
    assert parse_value("{type: sgd, learning_rate: 3e-4}") == {"type": "sgd", "learning_rate": 3e-4}
    assert parse_value("[1, 2]") == [1, 2]
    assert parse_value("a: {b") == "a: {b"  # no YAML: text


def test_a_key_that_stands_twice_is_named_with_both_lines():
    with pytest.raises(UsageError) as caught:
        parse_document("a: 1\nblock:\n  b: 2\n  c: 3\n  b: 4\n", source="x.yaml")
    assert caught.value.message == "x.yaml:5: block.b stands twice (first on line 3)"
    assert parse_document("a: {b: 1}\nc: {b: 2}\n", source="x.yaml").data == {"a": {"b": 1}, "c": {"b": 2}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\n\tb: 2\n", "line 2"),
        ("a: {b: 1\nc: 2\n", "line 2"),
        ("a: 'open\n", "x.yaml is not YAML"),
        ("- a\n", "expected `key: value` lines"),
        ("just text", "expected `key: value` lines"),
        ("", "expected `key: value` lines"),
        ("a: 1\n---\nb: 2\n", "x.yaml is not YAML"),
    ],
)
def test_what_is_no_experiment_is_refused_with_its_place(text, says):
    with pytest.raises(UsageError, match="x.yaml") as caught:
        parse_document(text, source="x.yaml")
    assert says in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("!!python/object/apply:os.getcwd []", "the tag !!python/object/apply:os.getcwd"),
        ("!foo x", "the tag !foo"),
        ("! x", "the tag !"),
        ("!!int x", "the tag !!int"),
        ("&a [*a]", "*a stands inside of itself"),
        ("{? [a] : b}", "a key is one word"),
        ("9" * 5_000, "a number of 5,000 digits"),
        ("1." + "0" * 5_000, "a number of 5,002 digits"),
        ("[" * 2_000 + "]" * 2_000, "more than 32 levels"),
        ("{a: " * 2_000, "more than 32 levels"),
        ('"\\ud800"', "is half of a character"),
        ('{"\\udfff": 1}', "is half of a character"),
        ("\x00", "U+0000 may not stand"),
        ("\x1b[31m", "U+001B may not stand"),
    ],
)
def test_a_trap_is_refused_with_its_line(text, says):
    for read in (
        lambda: parse_document(f"first: 1\nkey:\n  {text}\n", source="x.yaml"),
        lambda: parse_value(text, source="x.yaml"),
    ):
        with pytest.raises(UsageError) as caught:
            read()
        assert says in caught.value.message and caught.value.hint
        assert caught.value.message.startswith(("x.yaml:3: ", "x.yaml:1: ")), caught.value.message


def test_aliases_repeat_a_value_but_not_without_end():
    assert parse_document("a: &x {b: 1}\nc: *x\n", source="x.yaml").data == {"a": {"b": 1}, "c": {"b": 1}}
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    with pytest.raises(UsageError, match=r"x.yaml:\d: more than 20,000 values, aliases included"):
        parse_document("a0: &a0 [1]\n" + levels, source="x.yaml")


def test_a_byte_order_mark_is_no_key(tmp_path: Path):
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(tmp_path / "x.yaml").data == {"a": 1}


def test_every_value_knows_its_line():
    document = parse_document("# a comment\na: 1\nblock:\n  b:\n    - x\n    - y\n  c: {d: 1}\n", source="x.yaml")
    places = {("a",): 2, ("block",): 3, ("block", "b"): 4, ("block", "b", 1): 6, ("block", "c", "d"): 7}
    assert {path: document.locate(path) for path in places} == {path: f"x.yaml:{line}" for path, line in places.items()}
    assert document.locate(("block", "missing")) == "x.yaml:3"
    assert document.locate(("missing",)) == "x.yaml"


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(UsageError, match="no such file"):
        read_document(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes("description: caf\xe9\n".encode("latin-1"))
    with pytest.raises(UsageError, match="cannot read .*latin.yaml:1: not UTF-8 text"):
        read_document(tmp_path / "latin.yaml")
    with pytest.raises(UsageError, match="it is a folder, not a file"):
        read_document(tmp_path)
