"""The parameters, operations, memory and steps of a run, counted without training it."""

from dataclasses import dataclass
from pathlib import Path

from tiebench.execution.memory import estimate_memory
from tiebench.execution.run_data import load_data
from tiebench.experiment.run_spec import RunSpec
from tiebench.models.language_model import build_to_count, count_flops_per_token, count_parameters
from tiebench.results.record import Parameters
from tiebench.training.batches import build_batches
from tiebench.training.budget import plan_steps


@dataclass(frozen=True)
class ArmCount:
    """One arm. `memory_bytes` is what training takes at its peak, estimated (see `estimate_memory`); `num_tokens` are
    those that training asks for, `num_rows` those that it computes, padding included, and `num_left_out` those of the
    training text that an epoch does not read.
    """

    arm: str
    parameters: Parameters
    flops_per_token: int
    memory_bytes: int
    num_steps: int
    num_tokens: int
    num_rows: int
    num_left_out: int
    steps_per_epoch: int

    def row(self) -> tuple:
        """Arm, parameters by role, megaflops per token, mebibytes, steps."""
        counts = self.parameters.model_dump().values()
        return self.arm, *counts, self.flops_per_token / 1e6, self.memory_bytes / 2**20, self.num_steps


def count_arms(runs: list[RunSpec], *, data_dir: Path | None = None) -> list[ArmCount]:
    """Build every arm on the meta device and count it.

    Raises UsageError for an arm that cannot be built, TiebenchError for a corpus that cannot be found.
    """
    return [_count_arm(run, data_dir=data_dir) for run in {run.arm: run for run in runs}.values()]


def _count_arm(run: RunSpec, *, data_dir: Path | None) -> ArmCount:
    data = load_data(run, data_dir=data_dir)
    training = run.spec.training
    model = build_to_count(run.spec, vocabulary_size=data.vocabulary.size)
    model.embedding.sort_by_frequency(data.count_training)
    stream, recurrent = data.streams["train"], model.architecture.recurrent
    batches = build_batches(training, stream=stream, recurrent=recurrent, seed=run.seed)
    num_steps = plan_steps(training, steps_per_epoch=batches.steps_per_epoch)
    parameters = count_parameters(model)
    return ArmCount(
        arm=run.arm,
        parameters=parameters,
        flops_per_token=count_flops_per_token(model, context=training.window, objective=training.objective),
        memory_bytes=estimate_memory(run.spec, num_parameters=parameters.total, vocabulary_size=data.vocabulary.size),
        num_steps=num_steps,
        steps_per_epoch=batches.steps_per_epoch,
        num_tokens=batches.count_tokens(num_steps),
        num_rows=batches.count_rows(num_steps),
        num_left_out=stream.num_tokens - batches.tokens_per_epoch,
    )
