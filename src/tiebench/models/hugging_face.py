"""Weights of another library under our names, and back: each rule renames the parameters that its pattern matches."""

import re
from dataclasses import dataclass

import torch

from tiebench.errors import TiebenchError


@dataclass(frozen=True)
class Rule:
    """A pattern for whole names, and the new name (with the pattern's groups); None leaves the parameter out.

    Several old names may share one new name: their rows are then stacked in the order of the rules.
    """

    pattern: str
    name: str | None
    transpose: bool = False


def convert_state(state: dict[str, torch.Tensor], *, rules: list[Rule], prefix: str) -> dict[str, torch.Tensor]:
    """The renamed parameters; names may start with `prefix`. Raises TiebenchError for a name without a rule."""
    pieces: dict[str, dict[int, torch.Tensor]] = {}
    for name, values in state.items():
        position, new_name = _apply_rules(name.removeprefix(prefix), rules=rules)
        if new_name is not None:
            turned = values.t() if rules[position].transpose and values.ndim == 2 else values
            pieces.setdefault(new_name, {})[position] = turned
    return {name: torch.cat([parts[i] for i in sorted(parts)]).contiguous() for name, parts in pieces.items()}


def _apply_rules(name: str, *, rules: list[Rule]) -> tuple[int, str | None]:
    for position, rule in enumerate(rules):
        match = re.fullmatch(rule.pattern, name)
        if match:
            return position, None if rule.name is None else match.expand(rule.name)
    raise TiebenchError(
        f"the weights hold '{name}', which this architecture has no place for",
        "convert weights of the same architecture, saved by the transformers library",
    )


_GPT2_RULES: list[Rule] = [
    Rule(r"wpe\.weight", "positions"),
    Rule(r"h\.(\d+)\.ln_1\.(weight|bias)", r"blocks.\1.norm_attention.\2"),
    Rule(r"h\.(\d+)\.ln_2\.(weight|bias)", r"blocks.\1.norm_mlp.\2"),
    Rule(r"h\.(\d+)\.attn\.c_attn\.(weight|bias)", r"blocks.\1.attention.queries_keys_values.\2", transpose=True),
    Rule(r"h\.(\d+)\.attn\.c_proj\.(weight|bias)", r"blocks.\1.attention.output.\2", transpose=True),
    Rule(r"h\.(\d+)\.mlp\.c_fc\.(weight|bias)", r"blocks.\1.mlp.up.\2", transpose=True),
    Rule(r"h\.(\d+)\.mlp\.c_proj\.(weight|bias)", r"blocks.\1.mlp.down.\2", transpose=True),
    Rule(r"ln_f\.(weight|bias)", r"norm.\1"),
    Rule(r"wte\.weight|lm_head\.weight|h\.\d+\.attn\.(masked_)?bias", None),
]


_LLAMA_RULES: list[Rule] = [
    Rule(r"layers\.(\d+)\.input_layernorm\.weight", r"blocks.\1.norm_attention.weight"),
    Rule(r"layers\.(\d+)\.post_attention_layernorm\.weight", r"blocks.\1.norm_mlp.weight"),
    Rule(r"layers\.(\d+)\.self_attn\.q_proj\.weight", r"blocks.\1.attention.queries_keys_values.weight"),
    Rule(r"layers\.(\d+)\.self_attn\.k_proj\.weight", r"blocks.\1.attention.queries_keys_values.weight"),
    Rule(r"layers\.(\d+)\.self_attn\.v_proj\.weight", r"blocks.\1.attention.queries_keys_values.weight"),
    Rule(r"layers\.(\d+)\.self_attn\.o_proj\.weight", r"blocks.\1.attention.output.weight"),
    Rule(r"layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight", r"blocks.\1.mlp.\2.weight"),
    Rule(r"norm\.weight", "norm.weight"),
    Rule(r"embed_tokens\.weight|lm_head\.weight|.*rotary_emb\.inv_freq", None),
]

_PREFIXES = {"gpt2": "transformer.", "llama": "model."}
_RULES = {"gpt2": _GPT2_RULES, "llama": _LLAMA_RULES}


def convert_hugging_face(state: dict[str, torch.Tensor], *, architecture: str) -> dict[str, torch.Tensor]:
    """A state dict of GPT2Model, GPT2LMHeadModel, LlamaModel or LlamaForCausalLM as one of our architecture's.

    The token embeddings are left out. Raises TiebenchError for a name that neither has.
    """
    return convert_state(state, rules=_RULES[architecture], prefix=_PREFIXES[architecture])


_TO_GPT2: list[Rule] = [
    Rule(r"positions", "wpe.weight"),
    Rule(r"blocks\.(\d+)\.norm_attention\.(weight|bias)", r"h.\1.ln_1.\2"),
    Rule(r"blocks\.(\d+)\.norm_mlp\.(weight|bias)", r"h.\1.ln_2.\2"),
    Rule(r"blocks\.(\d+)\.attention\.queries_keys_values\.(weight|bias)", r"h.\1.attn.c_attn.\2", transpose=True),
    Rule(r"blocks\.(\d+)\.attention\.output\.(weight|bias)", r"h.\1.attn.c_proj.\2", transpose=True),
    Rule(r"blocks\.(\d+)\.mlp\.up\.(weight|bias)", r"h.\1.mlp.c_fc.\2", transpose=True),
    Rule(r"blocks\.(\d+)\.mlp\.down\.(weight|bias)", r"h.\1.mlp.c_proj.\2", transpose=True),
    Rule(r"norm\.(weight|bias)", r"ln_f.\1"),
]

_TO_LLAMA: list[Rule] = [
    Rule(r"blocks\.(\d+)\.norm_attention\.weight", r"layers.\1.input_layernorm.weight"),
    Rule(r"blocks\.(\d+)\.norm_mlp\.weight", r"layers.\1.post_attention_layernorm.weight"),
    Rule(r"blocks\.(\d+)\.attention\.queries_keys_values\.weight", r"layers.\1.self_attn.qkv_proj.weight"),
    Rule(r"blocks\.(\d+)\.attention\.output\.weight", r"layers.\1.self_attn.o_proj.weight"),
    Rule(r"blocks\.(\d+)\.mlp\.(gate|up|down)\.weight", r"layers.\1.mlp.\2_proj.weight"),
    Rule(r"norm\.weight", "norm.weight"),
]

_EXPORT_RULES = {"gpt2": _TO_GPT2, "llama": _TO_LLAMA}
INPUT_NAMES = {"gpt2": "transformer.wte.weight", "llama": "model.embed_tokens.weight"}
OUTPUT_NAME = "lm_head.weight"


def to_hugging_face(state: dict[str, torch.Tensor], *, architecture: str) -> dict[str, torch.Tensor]:
    """The state dict of one of our architectures under the names of GPT2LMHeadModel or LlamaForCausalLM.

    The inverse of `convert_hugging_face`; token embeddings are no part of an architecture.
    """
    found: dict[str, torch.Tensor] = {}
    for name, values in state.items():
        position, renamed = _apply_rules(name, rules=_EXPORT_RULES[architecture])
        assert renamed is not None
        turned = values.t() if _EXPORT_RULES[architecture][position].transpose and values.ndim == 2 else values
        theirs = _PREFIXES[architecture] + renamed
        parts = zip("qkv", _split_attention(turned), strict=True) if "qkv_proj" in theirs else (("qkv", turned),)
        found |= {theirs.replace("qkv_proj", f"{part}_proj"): piece.contiguous() for part, piece in parts}
    return found


def _split_attention(weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries `(width, width)`, and keys and values `(kv_heads * head width, width)`, stacked until here."""
    width = weight.shape[1]
    rows = (weight.shape[0] - width) // 2
    return weight.split([width, rows, rows])
