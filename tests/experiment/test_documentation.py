"""`tiebench list TYPE NAME` says of every block what the schema says."""

import pytest

from tiebench.experiment.documentation import BLOCKS, describe_block, list_keys
from tiebench.experiment.json_schema import build_json_schema

ALL = [(kind, name) for kind, blocks in BLOCKS.items() for name in blocks]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_key_of_every_block_is_documented(kind, name):
    block = BLOCKS[kind][name]
    keys = {key.name: key for key in list_keys(block)}
    assert list(keys) == list(block.model_fields) and describe_block(block)
    for key, field in block.model_fields.items():
        assert (keys[key].default is None) == field.is_required()
        assert keys[key].values and keys[key].values != "anything", key
        assert keys[key].description.endswith(".") and len(keys[key].description) <= 80, key


def test_an_editor_gets_a_line_on_every_key_of_every_block_however_deep():
    schema = build_json_schema()
    blocks = {"top": schema, **schema["$defs"], "match": schema["properties"]["arms"]["additionalProperties"]}
    keys = [(name, key, value) for name, block in blocks.items() for key, value in block.get("properties", {}).items()]
    assert len(keys) > 150
    assert [(name, key) for name, key, value in keys if not value.get("description")] == []


def test_values_are_said_in_words():
    keys = {key.name: key for key in list_keys(BLOCKS["architectures"]["lstm"])}
    assert keys["layers"].values == "whole number, from 1 to 1,000" and keys["layers"].default is None
    assert keys["variational"].values == "true or false" and keys["variational"].default == "false"
    assert keys["init"].values == "{uniform, normal}" and keys["init"].default == "null"
    training = {key.name: key for key in list_keys(BLOCKS["blocks"]["training"])}
    assert training["reduction"].values == "token_mean or window_sum"
    assert training["schedule"].default == "{type: constant}"
    assert "{type: adamw}" in training["optimizer"].values
