"""The JSON schema of an experiment file, with which an editor completes and checks it while it is being written."""

from typing import Any

from tiebench.experiment.matching_config import MatchConfig
from tiebench.experiment.schema import NAME, ArmSpec

SHORTHANDS = {"corpus": "string", "vocabulary": "string", "architecture": "string", "tie": "boolean"}


def build_json_schema() -> dict[str, Any]:
    """Every block of `ArmSpec` above `arms:` and again in every arm, where each key may be left out.

    An editor sees one block at a time, not what an arm inherits; what is missing in the end is found by
    `tiebench check`.
    """
    spec = _make_optional(ArmSpec.model_json_schema())
    blocks = {key: _admit_shorthand(key, block) for key, block in spec["properties"].items()}
    match = _make_optional(MatchConfig.model_json_schema())
    arm = {"type": ["object", "null"], "properties": {**blocks, "match": match}, "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tiebench experiment",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "pattern": f"^{NAME.pattern}$", "description": "The folder of its results."},
            "description": {"type": "string"},
            **blocks,
            "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
            "arms": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{NAME.pattern}$"},
                "additionalProperties": arm,
                "description": "What differs, by arm; what stands above is shared by all.",
            },
        },
        "$defs": spec["$defs"],
    }


def _admit_shorthand(key: str, block: dict[str, Any]) -> dict[str, Any]:
    """`corpus: ptb` and `tie: true` beside the blocks that they stand for."""
    return {"anyOf": [block, {"type": SHORTHANDS[key]}]} if key in SHORTHANDS else block


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
