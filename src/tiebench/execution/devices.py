"""Devices to plan for, which need not be here: what fits into their memory, and how fast they compute.

The speed is what `tiebench bench` measured on such a device, where it was run there (execution/kept_speeds.py), else a
stated share of the peak of its data sheet. Several devices share out the rows of a batch, and each holds the whole
model unless `training.sharding` cuts it; what they send to one another is not counted.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tiebench.errors import UsageError
from tiebench.execution.counting import ArmCount
from tiebench.execution.environment import name_cpu
from tiebench.execution.kept_speeds import KeptSpeed, read_speeds
from tiebench.execution.memory import estimate_memory, find_memory
from tiebench.execution.products import measure_products
from tiebench.execution.run_data import load_data
from tiebench.experiment.architecture_config import LSTMConfig
from tiebench.experiment.run_spec import RunSpec

UTILISATION = 0.4  # of the peak in bf16: 38 to 43 % on H100s (Grattafiori et al. 2024, The Llama 3 Herd, Table 4)
GIBIBYTE = 2**30
CPU = "cpu"


@dataclass(frozen=True)
class PlannedDevice:
    """`number` devices of a kind. Bytes of memory of each; operations per second at its peak, dense, by precision.

    `hardware` stands in the name that such a device gives itself. `kept` is what was measured on one.
    """

    name: str
    memory_bytes: int
    peaks: dict[str, float]
    source: str
    hardware: str
    utilisation: float = UTILISATION
    number: int = 1
    is_gpu: bool = True
    kept: tuple[KeptSpeed, ...] = field(default=())

    def predict_speed(self, precision: str, *, flops_per_token: int) -> float:
        """Operations per second of all of them, for a value of `training.precision` (`auto`: that of this kind)."""
        found = self.find_measurement(precision, flops_per_token=flops_per_token)
        one = found.flops_per_second if found else self.utilisation * self.peaks[self._resolve(precision)]
        return one * self.number

    def find_measurement(self, precision: str, *, flops_per_token: int) -> KeptSpeed | None:
        """The workload nearest in size of those measured in this precision, with the most threads; None without any."""
        alike = [each for each in self.kept if each.precision == self._resolve(precision)]
        most = max((each.num_threads for each in alike), default=0)
        alike = [each for each in alike if each.num_threads == most]
        return min(alike, key=lambda each: abs(math.log(each.flops_per_token / flops_per_token)), default=None)

    def describe_speed(self, precision: str, *, flops_per_token: int) -> str:
        """Where the speed comes from."""
        found = self.find_measurement(precision, flops_per_token=flops_per_token)
        if found is None:
            share = f"{self.utilisation:.0%} of " if self.utilisation < 1 else ""
            return f"at {share}{self.source}, estimated"
        return (
            f"at {found.flops_per_second / 1e9:,.0f} GFLOP/s, which {found.workload} ({found.arm}) reached in tiebench "
            f"bench on {found.measured[:10]}, {found.flops_per_second / found.ceiling_flops_per_second:.0%} of the "
            "fastest matrix product there"
        )

    def _resolve(self, precision: str) -> str:
        best = "bf16" if "bf16" in self.peaks else "fp32"
        return precision if precision in self.peaks else best


# Halved where the data sheet gives the peak with sparsity. fp32 is without TF32, which tiebench does not switch on.
DEVICES = {
    "a100": PlannedDevice(
        "A100 SXM 80 GB",
        80 * 10**9,
        {"fp32": 19.5e12, "bf16": 312e12},
        "the peak of the NVIDIA A100 80GB data sheet",
        "A100",
    ),
    "h100": PlannedDevice(
        "H100 SXM 80 GB",
        80 * 10**9,
        {"fp32": 67e12, "bf16": 989.5e12},
        "the peak of the NVIDIA H100 data sheet",
        "H100",
    ),
}


def find_device(name: str, *, number: int = 1) -> PlannedDevice:
    """`number` such devices; `cpu` is this machine's. Raises UsageError for a device of which nothing is known."""
    if name not in DEVICES and name != CPU:
        hint = f"Allowed: {', '.join([*DEVICES, CPU])}. Without --on, the time is that of one core of this machine."
        raise UsageError(f"--on {name}: nothing is known of this device", hint)
    device = _describe_cpu() if name == CPU else DEVICES[name]
    kept = tuple(each for each in read_speeds() if device.hardware in each.hardware)
    return replace(device, number=number, kept=kept)


def _describe_cpu() -> PlannedDevice:
    """This machine. Where nothing was measured, it is as fast as one matrix product after the other on every core."""
    cores, memory, product = os.cpu_count() or 1, find_memory(), measure_products()
    return PlannedDevice(
        f"{name_cpu()}, {cores} cores",
        memory or 2**63,
        {"fp32": cores * product},
        f"one matrix product after the other on {cores} cores, measured just now (tiebench bench tells more)",
        name_cpu(),
        utilisation=1.0,
        is_gpu=False,
    )


def share_out(
    runs: Sequence[RunSpec], counts: Sequence[ArmCount], *, device: PlannedDevice, data_dir: Path | None = None
) -> list[ArmCount]:
    """The counts with the memory that each of the devices needs. Raises UsageError for more devices than rows."""
    shared = []
    for run, count in zip(runs, counts, strict=True):
        rows = run.spec.training.batch_size
        if device.number > rows:
            raise UsageError(
                f"--devices {device.number}: a batch of arm {run.arm!r} has {rows} rows to share out",
                f"raise training.batch_size, or plan for at most {rows} devices",
            )
        shared.append(replace(count, memory_bytes=_estimate(run, count, device=device, data_dir=data_dir)))
    return shared


def require_fit(
    runs: Sequence[RunSpec], counts: Sequence[ArmCount], *, device: PlannedDevice, data_dir: Path | None = None
) -> None:
    """Raises UsageError, which says what would fit, where one of the devices cannot hold its part of training an arm.

    `counts` are those of `share_out`.
    """
    for run, count in zip(runs, counts, strict=True):
        if count.memory_bytes > device.memory_bytes:
            needed, there = (f"{size / GIBIBYTE:,.1f} GiB" for size in (count.memory_bytes, device.memory_bytes))
            message = f"arm {run.arm!r} needs about {needed} of memory, and a device ({device.name}) has {there}"
            raise UsageError(message, _suggest_fit(run, count, device=device, data_dir=data_dir))


def _suggest_fit(run: RunSpec, count: ArmCount, *, device: PlannedDevice, data_dir: Path | None) -> str:
    """The fewest micro-batches that fit; where none do, what the smallest of them needs, and what splitting would."""
    training = run.spec.training
    needed = count.memory_bytes
    for pieces in range(training.accumulate + 1, training.batch_size + 1):
        if training.batch_size % pieces == 0:
            cut = run.spec.model_copy(update={"training": training.model_copy(update={"accumulate": pieces})})
            needed = _estimate(replace(run, spec=cut), count, device=device, data_dir=data_dir)
            if needed <= device.memory_bytes:
                return f"It fits with --set training.accumulate={pieces}: about {needed / GIBIBYTE:,.1f} GiB."
    words = f"Even a batch cut into single rows needs about {needed / GIBIBYTE:,.1f} GiB on one device, "
    if device.number > 1 and not training.sharding:
        cut = run.spec.model_copy(update={"training": training.model_copy(update={"sharding": True})})
        split = _estimate(replace(run, spec=cut), count, device=device, data_dir=data_dir)
        words += f"since each holds the whole model (with --set training.sharding=true {split / GIBIBYTE:,.1f} GiB): "
    elif device.number > 1:
        words += f"though the model is cut over the {device.number}: "
    else:
        words += "and this plan is for one: "
    return f"{words}take a smaller architecture (layers, width), a smaller window or vocabulary."


def _estimate(run: RunSpec, count: ArmCount, *, device: PlannedDevice, data_dir: Path | None) -> int:
    body, parameters = run.spec.architecture, count.parameters
    in_groups = not isinstance(body, LSTMConfig) and body.share is None  # each block by itself (training/sharding.py)
    return estimate_memory(
        run.spec,
        num_parameters=count.parameters.total,
        vocabulary_size=load_data(run, data_dir=data_dir).vocabulary.size,
        num_devices=device.number,
        num_whole=parameters.total - parameters.architecture if in_groups else parameters.total,
        on_gpu=device.is_gpu,
    )
