"""What `tiebench bench` trains: named workloads on synthetic tokens, or any experiment on its own corpus.

A synthetic workload has a corpus's vocabulary size and no corpus: its ids are drawn from a Zipf-Mandelbrot law,
p(rank) ~ 1 / (rank + 2.7), because speed depends on how many different words a batch looks up, and on nothing else
about the text. `NAME-bf16` is the same trained and scored with products in bfloat16.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiebench.corpora.stream import ParallelStream, TokenStream
from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.bundled import list_configs
from tiebench.experiment.loading import load_experiment, resolve_document
from tiebench.experiment.merging import merge
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.yaml_file import Document

NUM_TOKENS = {"train": 300_000, "valid": 60_000}
ZIPF_SHIFT = 2.7
WORKLOAD_TIES = {"untied": {"tie": False}, "tied": {"tie": True}}


@dataclass(frozen=True)
class Workload:
    """A model at a vocabulary size and the tokens it reads: "train" and "valid"."""

    name: str
    run: RunSpec
    vocabulary_size: int
    streams: dict[str, TokenStream]


def describe_lstm(width: int) -> dict[str, Any]:
    """The two-layer LSTM of word_language_model (pytorch/examples): 20 x 35 tokens, dropout, SGD with clipping.

    It is scored in 10 rows, as there.
    """
    return {
        "architecture": {"type": "lstm", "layers": 2, "width": width, "dropout": 0.2, "init": {"uniform": 0.05}},
        "embedding": {"init": {"uniform": 0.1}, "output_bias": True},
        "training": {
            "epochs": 1000,
            "batch_size": 20,
            "window": 35,
            "optimizer": {"type": "sgd", "learning_rate": 1.0, "clip_norm": 0.25},
        },
        "evaluation": {"batch_size": 10},
    }


def describe_gpt(layers: int, *, width: int, heads: int, batch_size: int, window: int) -> dict[str, Any]:
    """A GPT-2 as nanoGPT trains it, without dropout: AdamW with clipping."""
    return {
        "architecture": {"type": "gpt2", "layers": layers, "width": width, "heads": heads, "positions": window},
        "embedding": {"init": {"normal": 0.02}},
        "training": {
            "epochs": 1000,
            "batch_size": batch_size,
            "window": window,
            "optimizer": {
                "type": "adamw",
                "learning_rate": 1e-3,
                "betas": [0.9, 0.95],
                "weight_decay": 0.1,
                "clip_norm": 1.0,
            },
        },
    }


SMALL_GPT = describe_gpt(4, width=256, heads=4, batch_size=8, window=256)
WORKLOADS: dict[str, tuple[int, dict[str, Any]]] = {
    "lstm-200-ptb": (10_000, describe_lstm(200)),
    "lstm-200-wikitext-2": (33_278, describe_lstm(200)),
    "lstm-650-wikitext-2": (33_278, describe_lstm(650)),
    "gpt-256-ptb": (10_000, SMALL_GPT),
    "gpt-256-wikitext-2": (33_278, SMALL_GPT),
    "lstm-650-ptb": (10_000, describe_lstm(650)),
    "lstm-1500-ptb": (10_000, describe_lstm(1500)),
    "gpt2-small": (50_257, describe_gpt(12, width=768, heads=12, batch_size=1, window=1024)),
}
HALF = "-bf16"
WORKLOADS |= {
    f"{name}{HALF}": (size, merge(block, {part: {"precision": "bf16"} for part in ("training", "evaluation")}))
    for name, (size, block) in WORKLOADS.items()
}
ON_CUDA: dict[str, dict[str, Any]] = {
    name: {"compile": True} for name, (_, block) in WORKLOADS.items() if block["architecture"]["type"] == "gpt2"
}
ON_CUDA["gpt2-small"] |= {"batch_size": 32, "precision": "bf16"}


def list_parts(names: list[str], *, device: str = "cpu") -> list[tuple[str, str]]:
    """The (workload, arm) pairs of some workloads or experiments; without names, those that take seconds on a CPU.

    Raises UsageError for a name that is neither.
    """
    small = [name for name in WORKLOADS if name != "gpt2-small" or device.startswith("cuda")]
    chosen = names or [name for name in small if not name.endswith(HALF)]
    return [(name, arm) for name in chosen for arm in _list_arms(name)]


def open_workload(name: str, *, arm: str, device: str = "cpu", data_dir: Path | None = None) -> Workload:
    """One arm of a workload with its tokens. An experiment's corpus is opened; a named workload needs none.

    Raises UsageError as `list_parts` does, TiebenchError for a corpus that cannot be found.
    """
    if name in WORKLOADS:
        size, _ = WORKLOADS[name]
        streams = {split: draw_stream(number, vocabulary_size=size) for split, number in NUM_TOKENS.items()}
        return Workload(name, describe_workload(name, arm=arm, device=device), size, streams)
    from tiebench.execution.matching import match_runs
    from tiebench.execution.run_data import load_data

    run = match_runs(load_experiment(name).list_runs(arms=[arm])[:1], data_dir=data_dir)[0]
    data = load_data(run, data_dir=data_dir)
    return Workload(name, run, data.vocabulary.size, data.streams)


def describe_workload(name: str, *, arm: str, device: str = "cpu") -> RunSpec:
    """The run of a named workload; its corpus is only a label."""
    _, block = WORKLOADS[name]
    training = block["training"] | (ON_CUDA.get(name, {}) if device.startswith("cuda") else {})
    data = {**block, "training": training, "name": name, "corpus": "ptb", "tie": False, "arms": WORKLOAD_TIES}
    return resolve_document(Document(f"workload {name}", data)).list_runs(arms=[arm])[0]


def draw_stream(num_tokens: int, *, vocabulary_size: int, sentence: int | None = None) -> TokenStream:
    """Independent ids, the small ones frequent; equal arguments give equal ids.

    With `sentence`, the text has sentences of that many tokens, and is its own translation.
    """
    weights = 1.0 / (np.arange(vocabulary_size) + 1 + ZIPF_SHIFT)
    draws = np.random.default_rng(num_tokens).random(num_tokens + 1)
    ids = np.searchsorted(np.cumsum(weights / weights.sum())[:-1], draws)
    if sentence is not None:
        ids = np.where(np.arange(len(ids)) % sentence, ids.clip(min=1), 0)
    stream = TokenStream(ids.astype(np.int32), num_tokens, num_tokens, num_bytes=0, num_unknown=0)
    return stream if sentence is None else ParallelStream(**vars(stream), source=stream)


def _list_arms(name: str) -> list[str]:
    if name in WORKLOADS:
        return list(WORKLOAD_TIES)
    if name in list_configs() or Path(name).suffix in (".yaml", ".yml"):
        return list(load_experiment(name).arms)
    hint = did_you_mean(name, [*WORKLOADS, *list_configs()])
    raise UsageError(f"no workload and no experiment is called '{name}'", hint)
