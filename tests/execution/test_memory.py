"""The estimate of memory lies near what runs were measured to take."""

from pathlib import Path

import pytest

from tiebench.execution.memory import RUNTIME_BYTES, estimate_memory, find_memory
from tiebench.results.record import read_record

RECORDS = [
    record
    for file in sorted((Path(__file__).parents[2] / "results").glob("*/*/seed-1/record.json"))
    # a process that makes one run after the other keeps the memory that earlier ones took
    if "--jobs 1" not in (record := read_record(file.parent)).provenance.command
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.experiment}/{record.arm}")
def test_published_records_peaked_near_it(record):
    """Within a quarter: what the allocator keeps and what a checkpoint copies is not modelled."""
    found = estimate_memory(record.spec, num_parameters=record.parameters.total, vocabulary_size=record.vocabulary.size)
    assert 0.75 < found / record.usage.peak_memory_bytes < 1.25


@pytest.mark.parametrize("architecture", ["lstm", "gpt2", "llama"])
def test_every_part_counts(architecture, make_arm, make_block):
    def estimate(num_parameters=1_000, vocabulary_size=100, **changes):
        training = {
            "steps": 1,
            "batch_size": 8,
            "window": 16,
            "optimizer": {"type": "sgd", "learning_rate": 1.0},
            **changes.pop("training", {}),
        }
        spec = make_arm(architecture=make_block(architecture, **changes), training=training)
        return estimate_memory(spec, num_parameters=num_parameters, vocabulary_size=vocabulary_size)

    plain = estimate()
    assert plain > RUNTIME_BYTES
    assert estimate(num_parameters=2_000) - plain == 2 * 4 * 1_000, "a parameter and its gradient"
    adamw = {"type": "adamw", "learning_rate": 1.0}
    assert estimate(training={"optimizer": adamw}) - plain == 2 * 4 * 1_000, "two averages of each"
    assert estimate(vocabulary_size=200) - plain == 4 * 100 * 8 * 16, "a score for each word and token"
    activations = plain - RUNTIME_BYTES - 2 * 4 * 1_000 - 4 * 100 * 8 * 16
    assert estimate(layers=3) - plain > activations, "layers keep what they were given"
    assert estimate(training={"accumulate": 4}) < plain, "a micro-batch at a time"


def test_there_is_some_memory_here():
    found = find_memory()
    assert found is None or found > 2**28
