"""Devices that need not be here: what fits into their memory, and how fast they multiply at a stated utilisation."""

from dataclasses import dataclass
from pathlib import Path

from tiebench.errors import UsageError
from tiebench.execution.counting import ArmCount
from tiebench.execution.memory import estimate_memory
from tiebench.execution.run_data import load_data
from tiebench.experiment.run_spec import RunSpec

UTILISATION = 0.4  # of the peak in bf16: 38 to 43 % on H100s (Grattafiori et al. 2024, The Llama 3 Herd, Table 4)
GIBIBYTE = 2**30


@dataclass(frozen=True)
class PlannedDevice:
    """A device by its data sheet. Bytes of memory; operations per second at its peak, dense, by precision."""

    name: str
    memory_bytes: int
    peaks: dict[str, float]
    source: str

    def predict_speed(self, precision: str) -> float:
        """Operations per second for a value of `training.precision`, of which `auto` is bf16 on these devices."""
        return UTILISATION * self.peaks["fp32" if precision == "fp32" else "bf16"]


# Halved where the data sheet gives the peak with sparsity. fp32 is without TF32, which tiebench does not switch on.
DEVICES = {
    "a100": PlannedDevice(
        "A100 SXM 80 GB", 80 * 10**9, {"fp32": 19.5e12, "bf16": 312e12}, "NVIDIA A100 80GB data sheet"
    ),
    "h100": PlannedDevice("H100 SXM 80 GB", 80 * 10**9, {"fp32": 67e12, "bf16": 989.5e12}, "NVIDIA H100 data sheet"),
}


def find_device(name: str) -> PlannedDevice:
    """Raises UsageError for a device of which nothing is known."""
    if name not in DEVICES:
        hint = f"Allowed: {', '.join(DEVICES)}. Without --on, the time is that of this machine."
        raise UsageError(f"--on {name}: nothing is known of this device", hint)
    return DEVICES[name]


def require_fit(
    runs: list[RunSpec], counts: list[ArmCount], *, device: PlannedDevice, data_dir: Path | None = None
) -> None:
    """Raises UsageError, which says what would fit, where one device cannot hold the training of an arm."""
    for run, count in zip(runs, counts, strict=True):
        if count.memory_bytes > device.memory_bytes:
            needed, there = (f"{size / GIBIBYTE:,.1f} GiB" for size in (count.memory_bytes, device.memory_bytes))
            message = f"arm {run.arm!r} needs about {needed} of memory, and a device ({device.name}) has {there}"
            raise UsageError(message, _suggest_fit(run, count, device=device, data_dir=data_dir))


def _suggest_fit(run: RunSpec, count: ArmCount, *, device: PlannedDevice, data_dir: Path | None) -> str:
    """The fewest micro-batches that fit; where none do, what the smallest of them needs."""
    training, size = run.spec.training, load_data(run, data_dir=data_dir).vocabulary.size
    needed = count.memory_bytes
    for pieces in range(training.accumulate + 1, training.batch_size + 1):
        if training.batch_size % pieces == 0:
            cut = run.spec.model_copy(update={"training": training.model_copy(update={"accumulate": pieces})})
            needed = estimate_memory(cut, num_parameters=count.parameters.total, vocabulary_size=size)
            if needed <= device.memory_bytes:
                return f"It fits with --set training.accumulate={pieces}: about {needed / GIBIBYTE:,.1f} GiB."
    return (
        f"Even a batch cut into single rows needs about {needed / GIBIBYTE:,.1f} GiB on one device, and this plan is "
        "for one: take a smaller architecture (layers, width), a smaller window or vocabulary."
    )
