"""The keys of each block of an experiment file, with their values, read from the schema that checks them."""

from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, get_args

from tiebench.experiment.block import Block
from tiebench.experiment.checkpoint_config import InitialiseFromConfig
from tiebench.experiment.conflicts import list_members
from tiebench.experiment.corpus_config import VocabularyConfig
from tiebench.experiment.embedding_config import EmbeddingConfig
from tiebench.experiment.evaluation_config import EvaluationConfig
from tiebench.experiment.schema import ARCHITECTURES, CORPORA, TIES, list_types
from tiebench.experiment.training_config import TrainingConfig
from tiebench.experiment.tuning_config import TuningConfig

WORDS = {"boolean": "true or false", "string": "text", "null": "nothing", "object": "a block"}


@dataclass(frozen=True)
class Key:
    """A key of a block. `default` is the default as it stands in YAML, or None where the key must be given."""

    name: str
    values: str
    default: str | None
    description: str


def list_variants(field: str) -> dict[str, type[Block]]:
    """The blocks that a key of `training:` may hold, by their `type`."""
    members = list_members(TrainingConfig.model_fields[field].annotation)
    return {get_args(member.model_fields["type"].annotation)[0]: member for member in members}


BLOCKS: dict[str, dict[str, type[Block]]] = {
    "corpora": CORPORA,
    "vocabularies": list_types(VocabularyConfig),
    "architectures": ARCHITECTURES,
    "ties": TIES,
    "optimizers": list_variants("optimizer"),
    "schedules": list_variants("schedule"),
    "objectives": list_variants("objective"),
    "blocks": {
        "embedding": EmbeddingConfig,
        "training": TrainingConfig,
        "evaluation": EvaluationConfig,
        "initialise_from": InitialiseFromConfig,
        "tuning": TuningConfig,
    },
}


def describe_block(block: type[Block]) -> str:
    """The block's own description, whole, each paragraph as one line."""
    return "\n\n".join(" ".join(part.split()) for part in cleandoc(block.__doc__ or "").split("\n\n"))


def list_keys(block: type[Block]) -> list[Key]:
    """The keys in the order of the schema."""
    schema = block.model_json_schema()
    needed, blocks = schema.get("required", []), schema.get("$defs", {})
    return [
        Key(
            name,
            describe_values(values, blocks),
            None if name in needed else write_value(values.get("default")),
            values.get("description", ""),
        )
        for name, values in schema.get("properties", {}).items()
    ]


def describe_values(schema: dict[str, Any], blocks: dict[str, Any]) -> str:
    """The values that a key may have, in words: `whole number, 1 to 1,000`, `one or sqrt_width or number above 0`."""
    if "$ref" in schema:
        return _describe_block(blocks[schema["$ref"].rpartition("/")[2]])
    if "const" in schema:
        return write_value(schema["const"])
    if "enum" in schema:
        return " or ".join(map(write_value, schema["enum"]))
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(describe_values(choice, blocks) for choice in choices if choice.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {len(schema['prefixItems'])}" if "prefixItems" in schema else "list"
    if schema.get("type") in ("integer", "number"):
        return _describe_number(schema)
    return WORDS.get(schema.get("type", ""), "anything")


def write_value(value: Any) -> str:
    """A value as it stands in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {write_value(part)}" for key, part in value.items() if part is not None) + "}"
    return "[" + ", ".join(map(write_value, value)) + "]" if isinstance(value, list) else str(value)


def _describe_block(schema: dict[str, Any]) -> str:
    properties = schema.get("properties", {})
    kind = properties.get("type", {}).get("const")
    return "{" + ", ".join([f"type: {kind}"] if kind else []) + ("" if kind else ", ".join(properties)) + "}"


def _describe_number(schema: dict[str, Any]) -> str:
    whole = schema["type"] == "integer"
    name, low, high = "whole number" if whole else "number", schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if whole and above is not None:
        low = above + 1
    start = f"above {above:g}" if low is None and above is not None else f"from {low:,}" if _says_much(low) else ""
    below = schema.get("exclusiveMaximum")
    end = f"below {below:g}" if below is not None else f"to {high:,}" if _says_much(high) else ""
    return ", ".join(part for part in (name, f"{start} {end}".strip()) if part)


def _says_much(bound: float | None) -> bool:
    """Whether a bound is worth showing: those that only keep numbers finite are not."""
    return bound is not None and abs(bound) < 1e12
