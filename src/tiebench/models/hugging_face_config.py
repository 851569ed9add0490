"""`config.json` of the Hugging Face format for a model of ours, and what that format has no key for."""

from typing import Any

from tiebench.architectures.llama import choose_mlp_width
from tiebench.errors import UsageError
from tiebench.experiment.architecture_config import GPT2Config, LlamaConfig
from tiebench.experiment.schema import ArmSpec
from tiebench.layers.dropout import choose_probability

DROPOUT = ("dropout", "dropout_embedding", "dropout_residual", "dropout_attention")
SAID = {
    "gpt2": {"type", "layers", "width", "heads", "positions", "mlp_width", "init_std", "norm_epsilon", *DROPOUT},
    "llama": {
        *("type", "layers", "width", "heads", "kv_heads", "mlp_width", "max_context", "rope_theta"),
        *("init_std", "norm_epsilon", *DROPOUT),
    },
}
ONLY_AT_THE_START = {"init", "output_init"}  # the weights are written, so how they began need not be


def describe_config(spec: ArmSpec, *, vocabulary_size: int, boundary: int) -> dict[str, Any]:
    """What `config.json` holds; `tie_word_embeddings` always. `boundary` is the id of `bos_token` and `eos_token`.

    Raises UsageError that names the key which the format cannot say: a model that is read back must compute the same.
    """
    refuse_unsaid(spec)
    common = {
        "tie_word_embeddings": spec.tie.type == "tied",
        "vocab_size": vocabulary_size,
        "bos_token_id": boundary,
        "eos_token_id": boundary,
        "dtype": "float32",
        "use_cache": True,
    }
    config = spec.architecture
    described = _describe_gpt2(config) if isinstance(config, GPT2Config) else _describe_llama(spec)
    return described | common


def describe_generation(*, boundary: int) -> dict[str, Any]:
    """What `generation_config.json` holds: text begins after a boundary, and ends at the next one."""
    return {"bos_token_id": boundary, "eos_token_id": boundary, "pad_token_id": boundary}


def count_context(spec: ArmSpec) -> int:
    """The most tokens that an exported model should be shown at once: as many as it takes or, where that is not
    bounded, as it was trained or scored with.
    """
    config = spec.architecture
    if isinstance(config, GPT2Config):
        return config.positions
    bound = config.max_context if isinstance(config, LlamaConfig) else None
    return bound or max(spec.training.window, spec.evaluation.context or 0)


def list_dropout_unsaid(spec: ArmSpec) -> list[str]:
    """The dropout that this format has no key for. It acts in training only, so the model computes the same."""
    unsaid = ["embedding.word_dropout"] if spec.embedding.word_dropout else []
    config = spec.architecture
    if isinstance(config, LlamaConfig):
        for key in ("dropout_embedding", "dropout_residual"):
            if choose_probability(getattr(config, key), default=config.dropout):
                unsaid.append(f"architecture.{key}")
    return unsaid


def refuse_unsaid(spec: ArmSpec) -> None:
    """Raises UsageError that names the first key which the format cannot say."""
    architecture, embedding = spec.architecture, spec.embedding
    if architecture.type not in SAID:
        _refuse("architecture.type", architecture.type)
    if spec.tie.type not in ("tied", "untied"):
        _refuse("tie.type", spec.tie.type)
    for key, field in type(architecture).model_fields.items():
        if key not in SAID[architecture.type] and getattr(architecture, key) != field.default:
            _refuse(f"architecture.{key}", getattr(architecture, key))
    for key, field in type(embedding).model_fields.items():
        value = getattr(embedding, key)
        same = value == field.default or (key == "width" and value == architecture.width) or _is_one(key, value)
        if not same and key not in {*ONLY_AT_THE_START, "word_dropout", "output_bias_init"}:
            _refuse(f"embedding.{key}", value)


def _is_one(key: str, value: Any) -> bool:
    return key in ("input_scale", "output_scale") and value == 1.0


def _refuse(key: str, value: Any) -> None:
    said = str(value).lower() if isinstance(value, bool) else str(value)
    raise UsageError(
        f"{key}: {said[:80]} has no equivalent in the Hugging Face format, and without it the model would differ",
        "it holds gpt2 and llama, tied or untied, without projection, scales and output bias",
    )


def _describe_gpt2(config: GPT2Config) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_positions": config.positions,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.mlp_width,
        "activation_function": "gelu_new",
        "embd_pdrop": choose_probability(config.dropout_embedding, default=config.dropout),
        "resid_pdrop": choose_probability(config.dropout_residual, default=config.dropout),
        "attn_pdrop": choose_probability(config.dropout_attention, default=config.dropout),
        "layer_norm_epsilon": config.norm_epsilon,
        "initializer_range": config.init_std,
    }


def _describe_llama(spec: ArmSpec) -> dict[str, Any]:
    """`rope_theta` is written both as older and as newer versions of transformers read it."""
    config = spec.architecture
    assert isinstance(config, LlamaConfig)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width or choose_mlp_width(config.width),
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.width // config.heads,
        "hidden_act": "silu",
        "max_position_embeddings": count_context(spec),
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": choose_probability(config.dropout_attention, default=config.dropout),
        "initializer_range": config.init_std,
    }
