"""What a run will be, found out without training it: parameters, operations, memory, steps."""

from dataclasses import dataclass
from pathlib import Path

from tiebench.execution.run_data import load_data
from tiebench.experiment.run_spec import RunSpec
from tiebench.losses.tiles import BUFFER_BYTES
from tiebench.models.language_model import build_on_meta, count_flops_per_token, count_parameters
from tiebench.results.record import Parameters
from tiebench.training.batches import Batches
from tiebench.training.trainer import plan_steps

BYTES = 4


@dataclass(frozen=True)
class ArmCount:
    """One arm. `memory_bytes` counts parameters, gradients, optimizer state and the score buffer in float32."""

    arm: str
    parameters: Parameters
    flops_per_token: int
    memory_bytes: int
    num_steps: int
    num_tokens: int

    def row(self) -> tuple:
        """Arm, parameters by role, megaflops per token, megabytes, steps."""
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
    model = build_on_meta(run.spec, vocabulary_size=data.vocabulary.size)
    contiguous = model.architecture.recurrent
    batches = Batches(data.streams["train"], training.batch_size, training.window, contiguous, run.seed)
    num_steps = plan_steps(training, steps_per_epoch=batches.steps_per_epoch)
    parameters = count_parameters(model)
    copies = 4 if training.optimizer.type == "adamw" else 3 if training.optimizer.momentum else 2
    num_scores = training.batch_size * training.window // training.accumulate * data.vocabulary.size
    return ArmCount(
        arm=run.arm,
        parameters=parameters,
        flops_per_token=count_flops_per_token(model, context=training.window, objective=training.objective),
        memory_bytes=BYTES * copies * parameters.total + min(BUFFER_BYTES, BYTES * num_scores),
        num_steps=num_steps,
        num_tokens=num_steps * training.batch_size * training.window,
    )
