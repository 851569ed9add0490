"""Whether the config of a checkpoint describes the architecture that an arm asks for; nothing is computed here."""

from pathlib import Path
from typing import Any

from tiebench.architectures.llama import choose_mlp_width
from tiebench.errors import UsageError
from tiebench.experiment.architecture_config import GPT2Config, LlamaConfig
from tiebench.experiment.schema import ArmSpec
from tiebench.models.hugging_face_config import refuse_unsaid

# Our key, theirs, and what a class of transformers takes where config.json does not say.
GPT2_KEYS = (
    ("layers", "n_layer", 12),
    ("width", "n_embd", 768),
    ("heads", "n_head", 12),
    ("positions", "n_positions", 1024),
    ("mlp_width", "n_inner", None),
    ("norm_epsilon", "layer_norm_epsilon", 1e-5),
)
LLAMA_KEYS = (
    ("layers", "num_hidden_layers", 32),
    ("width", "hidden_size", 4096),
    ("heads", "num_attention_heads", 32),
    ("kv_heads", "num_key_value_heads", None),
    ("mlp_width", "intermediate_size", 11008),
    ("norm_epsilon", "rms_norm_eps", 1e-6),
    ("rope_theta", "rope_theta", 10_000.0),
)
# What our architectures compute, where the format has a choice; the first value is the default of its class.
COMPUTED = {
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "llama": {
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "rope_scaling": (None,),
        "pretraining_tp": (1,),
    },
}


def check_architecture(spec: ArmSpec, config: dict[str, Any], *, file: Path) -> None:
    """Raises UsageError that names the first key in which arm and checkpoint differ, and both values.

    `config` is the content of `file`. Where the checkpoint's model computes what ours does not, the error names the key
    of the file; where the format has no key for what ours computes, it names our key.
    """
    refuse_unsaid(spec)
    body = spec.architecture
    if config.get("model_type") != body.type:
        raise _explain_difference("type", body.type, file=file, theirs="model_type", found=config.get("model_type"))
    _check_computed(config, computed=COMPUTED[body.type], file=file)
    if isinstance(body, GPT2Config):
        keys = GPT2_KEYS
        wanted = body.model_dump() | {"mlp_width": body.mlp_width or 4 * body.width}
        filled = {"n_inner": 4 * config.get("n_embd", 768)} if config.get("n_inner") is None else {}
    else:
        assert isinstance(body, LlamaConfig)
        config = _flatten_rope(config, file=file)
        keys, heads = LLAMA_KEYS, config.get("num_attention_heads", 32)
        wanted = body.model_dump() | {
            "mlp_width": body.mlp_width or choose_mlp_width(body.width),
            "kv_heads": body.kv_heads or body.heads,
        }
        filled = {"num_key_value_heads": heads} if config.get("num_key_value_heads") is None else {}
    for ours, theirs, default in keys:
        found = filled.get(theirs, config.get(theirs, default))
        if wanted[ours] != found:
            raise _explain_difference(ours, wanted[ours], file=file, theirs=theirs, found=found)
    own_width = config.get("head_dim")
    if own_width not in (None, body.width // body.heads):
        raise _explain_choice("head_dim", own_width, allowed=body.width // body.heads, file=file)


def _check_computed(config: dict[str, Any], *, computed: dict[str, tuple], file: Path) -> None:
    for key, allowed in computed.items():
        found = config.get(key, allowed[0])
        if found not in allowed:
            raise _explain_choice(key, found, allowed=allowed[0], file=file)


def _flatten_rope(config: dict[str, Any], *, file: Path) -> dict[str, Any]:
    """Newer versions of transformers write `rope_parameters: {rope_theta, rope_type}`."""
    block = config.get("rope_parameters")
    if not isinstance(block, dict):
        return config
    if block.get("rope_type", "default") != "default":
        raise _explain_choice("rope_parameters.rope_type", block["rope_type"], allowed="default", file=file)
    return config | ({"rope_theta": block["rope_theta"]} if "rope_theta" in block else {})


def _explain_difference(ours: str, asked: Any, *, file: Path, theirs: str, found: Any) -> UsageError:
    return UsageError(
        f"architecture.{ours} is {asked}, but the checkpoint has {theirs} {str(found)[:80]} ({file})",
        f"write architecture.{ours}: {str(found)[:80]}, or take another checkpoint",
    )


def _explain_choice(key: str, found: Any, *, allowed: Any, file: Path) -> UsageError:
    return UsageError(
        f"{file}: {key} is {str(found)[:80]}, and a model here computes with {allowed}", "take another checkpoint"
    )
