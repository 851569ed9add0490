"""What `tiebench bench` measured, kept in the cache folder, so that plans can go by it (`check --on`)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tiebench.execution.bench import SpeedMeasurement
from tiebench.execution.environment import utc_now
from tiebench.experiment.block import Block
from tiebench.files import cache_folder, write_text

FILE = "bench.json"


class KeptSpeed(Block):
    """How fast one workload trained: operations per second reached, and those of the fastest matrix product beside it.

    `hardware` is the name of the GPU, or of the processor.
    """

    hardware: str
    workload: str
    arm: str
    precision: str
    num_threads: int
    flops_per_token: int
    flops_per_second: float
    ceiling_flops_per_second: float
    measured: str

    @property
    def key(self) -> tuple[str | int, ...]:
        """What a later measurement replaces."""
        return self.hardware, self.workload, self.arm, self.precision, self.num_threads


def keep_speeds(found: Sequence[SpeedMeasurement], *, setting: dict[str, Any]) -> Path:
    """Add measurements of one machine, each in the place of an older one of its kind. Returns the file."""
    facts = setting["hardware"]
    new = [
        KeptSpeed(
            hardware=str(facts.get("gpu", facts["cpu"])),
            workload=each.workload,
            arm=each.arm,
            precision=each.precision,
            num_threads=each.num_threads,
            flops_per_token=each.flops_per_token,
            flops_per_second=each.train_tokens_per_second * each.flops_per_token,
            ceiling_flops_per_second=each.ceiling_flops_per_second,
            measured=utc_now(),
        )
        for each in found
    ]
    merged = {each.key: each for each in [*read_speeds(), *new]}
    file = cache_folder() / FILE
    write_text(json.dumps([each.model_dump() for each in merged.values()], indent=1) + "\n", file=file)
    return file


def read_speeds() -> list[KeptSpeed]:
    """All that was measured and kept; nothing where nothing was, or where the file is damaged: it can be made again."""
    try:
        return TypeAdapter(list[KeptSpeed]).validate_json((cache_folder() / FILE).read_text("utf-8"))
    except (OSError, ValueError, ValidationError):
        return []
