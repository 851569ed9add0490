"""The JSON schema of an experiment file, with which an editor completes and checks it while it is being written."""

from typing import Any, get_args

from tiebench.experiment.conflicts import list_members
from tiebench.experiment.limits import LARGEST_SEED
from tiebench.experiment.matching_config import MatchConfig
from tiebench.experiment.schema import NAME, ArmSpec
from tiebench.experiment.top_level import LONGEST_NAME, MOST_SEEDS
from tiebench.experiment.tuning_config import TuningConfig

DESCRIPTIONS = {
    "corpus": "The text: a name such as ptb, or a block with its `type`.",
    "vocabulary": "How text becomes tokens: words, bpe or bytes; a checkpoint brings its own.",
    "architecture": "What lies between the two ends of the model.",
    "embedding": "Both ends of the model, and what is usually confounded with tying.",
    "tie": "Whether both ends share one matrix: true or false, or a block with its `type`.",
    "training": "Optimizer, schedule, objective and budget.",
    "evaluation": "How a split is scored, and which checkpoint is scored.",
    "initialise_from": "A checkpoint to go on from: a folder in the Hugging Face format, or a block.",
}
SHORTHANDS: dict[str, list[bool]] = {"corpus": [], "vocabulary": [], "architecture": [], "tie": [True, False]}


def build_json_schema() -> dict[str, Any]:
    """Every block of `ArmSpec`, above `arms:` and again in every arm; each key may be left out.

    An editor sees one block at a time, not what an arm inherits; what is missing in the end is found by
    `tiebench check`.
    """
    spec = _name_blocks(_make_optional(ArmSpec.model_json_schema()))
    blocks = {key: _admit_shorthand(key, block) for key, block in spec["properties"].items()}
    match = _make_optional(MatchConfig.model_json_schema())
    arm = {"type": ["object", "null"], "properties": {**blocks, "match": match}, "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tiebench experiment",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {
                "type": ["string", "null"],
                "maxLength": LONGEST_NAME,
                "pattern": f"^{NAME.pattern}$",
                "description": "The folder of its results.",
            },
            "description": {"type": ["string", "null"], "description": "A sentence on what it is for."},
            **blocks,
            "seeds": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": LARGEST_SEED},
                "minItems": 1,
                "maxItems": MOST_SEEDS,
                "uniqueItems": True,
                "description": "Every arm is trained once at each seed; more seeds make a comparison surer.",
            },
            "tuning": {
                "anyOf": [_name_blocks(TuningConfig.model_json_schema()), {"type": "null"}],
                "description": "Values that each arm gets by trials of its own, chosen on the validation split.",
            },
            "arms": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{NAME.pattern}$"},
                "additionalProperties": arm,
                "description": "What differs, by arm; all arms share what stands above.",
            },
            "grid": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "anyOf": [
                        {"type": "array", "minItems": 1, "items": {"not": {"type": ["array", "object"]}}},
                        {"type": "object", "minProperties": 1, "propertyNames": {"pattern": f"^{NAME.pattern}$"}},
                    ]
                },
                "description": "Many experiments in one file: dotted keys, each with its values, or blocks by label.",
            },
        },
        "$defs": spec["$defs"],
    }


def _admit_shorthand(key: str, block: dict[str, Any]) -> dict[str, Any]:
    """`corpus: ptb` and `tie: true` beside the blocks that they stand for."""
    described = {"description": DESCRIPTIONS[key]}
    if key == "initialise_from":
        return {"anyOf": [block, {"type": "string"}], **described}
    if key not in SHORTHANDS:
        return {"anyOf": [block], **described}
    members = list_members(ArmSpec.model_fields[key].annotation)
    types = [get_args(member.model_fields["type"].annotation)[0] for member in members]
    return {"anyOf": [block, {"enum": [*types, *SHORTHANDS[key]]}], **described}


def _name_blocks(node: Any) -> Any:
    """Titles of blocks without `Config` (`LSTM`, not `LSTMConfig`); titles of keys only repeat the key, and go."""
    if isinstance(node, list):
        return [_name_blocks(part) for part in node]
    if not isinstance(node, dict):
        return node
    found = {key: _name_blocks(part) for key, part in node.items()}
    title = found.get("title")
    if isinstance(title, str):
        del found["title"]
        if title.endswith("Config"):
            found["title"] = title.removesuffix("Config")
    return found


def _make_optional(node: Any) -> Any:
    """Without `required`; a block without its `type` may then be one of several, so `oneOf` becomes `anyOf`."""
    if isinstance(node, list):
        return [_make_optional(part) for part in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _make_optional(part) for key, part in node.items() if key not in ("required", "discriminator")}
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf")
    return kept
