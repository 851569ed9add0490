"""Records as a run would write them, with the figures that a test wants to be there."""

import math

import pytest

from tiebench.results.record import Record

SIZE, WIDTH, TOKENS, WORDS, BYTES = 10_000, 200, 82_430, 78_669, 449_945
BODY = 643_200


def count_parameters(tied):
    table = SIZE * WIDTH
    roles = {"input": 0, "output": 0, "shared": table} if tied else {"input": table, "output": table, "shared": 0}
    roles |= {"other": SIZE, "architecture": BODY}
    return roles | {"total": sum(roles.values())}


def describe_evaluation(split, *, perplexity, tokens=TOKENS, unknown=4_794):
    counts = {"tokens": tokens, "words": WORDS, "bytes": BYTES, "unknown": unknown}
    protocol = {"context": "carried state", "batch_size": 1}
    return {"split": split, "nll": math.log(perplexity) * tokens, **counts, "protocol": protocol}


def describe_record(arm="untied", seed=1, *, test=114.5, valid=120.7, training=38.0, changes=()):
    """A record's content; `changes` are (dotted path, value) pairs."""
    tied = arm.startswith("tied")
    content = {
        "schema_version": 2,
        "experiment": "ptb-lstm-small",
        "arm": arm,
        "seed": seed,
        "signature": "0badcafe" if tied else "deadbeef",
        "spec": {
            "corpus": {"type": "ptb"},
            "vocabulary": {"type": "words", "size": None},
            "architecture": {"type": "lstm", "layers": 2, "width": WIDTH, "dropout": 0.0},
            "embedding": {"width": None, "init": {"uniform": 0.1}, "output_bias": True, "output_projection": None},
            "tie": {"type": "tied" if tied else "untied"},
            "training": {
                "epochs": 13,
                "batch_size": 20,
                "window": 20,
                "optimizer": {"type": "sgd", "learning_rate": 1.0, "clip_norm": 5.0},
            },
            "evaluation": {"batch_size": 1},
        },
        "declared": ["tie"],
        "corpus": {
            "name": "ptb",
            "checksum": "sha256:12ab",
            "facts": {"license": "LDC"},
            "splits": {
                "train": {"tokens": 929_589, "words": 887_521, "bytes": 5_101_618, "unknown": 45_020},
                "test": {"tokens": TOKENS, "words": WORDS, "bytes": BYTES, "unknown": 4_794},
            },
        },
        "vocabulary": {"type": "words", "size": SIZE, "identity": "77aa"},
        "parameters": count_parameters(tied),
        "evaluations": {
            "valid": describe_evaluation("valid", perplexity=valid, tokens=73_760),
            "test": describe_evaluation("test", perplexity=test),
        },
        "training_perplexity": training,
        "checkpoint": {"step": 30_208, "epoch": 13.0},
        "usage": {
            "steps": 30_208,
            "tokens": 12_083_200,
            "train_seconds": 611.5,
            "evaluation_seconds": 12.25,
            "tokens_per_second": 19_760.0,
            "peak_memory_bytes": None,
            "flops_per_token": 7.9e6,
            "first_loss_nats": 9.2103,
        },
        "warnings": [],
        "provenance": {
            "command": "tiebench train ptb-lstm-small",
            "started": "2025-01-01T10:00:00Z",
            "finished": "2025-01-01T10:10:00Z",
            "commit": "0123456789abcdef",
            "dirty": False,
            "versions": {"torch": "2.13.0"},
            "hardware": {"device": "cpu", "cores": 2},
        },
    }
    for path, value in changes:
        *blocks, last = path.split(".")
        block = content
        for name in blocks:
            block = block[name]
        block[last] = value
    return content


@pytest.fixture
def make_record():
    """`make_record("tied", 2, test=112.4, changes=[("spec.training.epochs", 14)])`."""
    return lambda *arguments, **keywords: Record.model_validate(describe_record(*arguments, **keywords))


@pytest.fixture
def three_seeds(make_record):
    """Three seeds of two arms: the tied one is better in each."""
    untied = [
        make_record("untied", seed, test=test) for seed, test in zip((1, 2, 3), (114.0, 115.0, 114.6), strict=True)
    ]
    tied = [make_record("tied", seed, test=test) for seed, test in zip((1, 2, 3), (110.0, 110.4, 110.9), strict=True)]
    return {"untied": untied, "tied": tied}
