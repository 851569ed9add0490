"""The table of what `tiebench bench` measured."""

from tiebench.execution.bench import SpeedMeasurement, describe_setting
from tiebench.reporting.tables import Column, Table

SYNTHETIC = (
    "Rates are of the median step. Named workloads read synthetic ids (Zipf-Mandelbrot) of their corpus's vocabulary "
    "size; the ceiling is the median rate of the fastest of a few large matrix products, same process, threads and "
    "precision."
)


def tabulate_measurements(measurements: list[SpeedMeasurement]) -> Table:
    """One row per arm; fractions in percent of the measured ceiling."""
    columns = (
        Column("workload"),
        Column("arm"),
        Column("parameters", "count"),
        Column("train tokens/s", "number"),
        Column("% of ceiling", "number"),
        Column("evaluation tokens/s", "number"),
        Column("evaluation % of ceiling", "number"),
        Column("peak MiB", "number"),
        Column("ceiling GFLOP/s", "number"),
    )
    rows = tuple(
        (
            found.workload,
            found.arm,
            found.num_parameters,
            found.train_tokens_per_second,
            100 * found.train_fraction,
            found.evaluation_tokens_per_second,
            100 * found.evaluation_fraction,
            found.peak_memory_bytes / 2**20,
            found.ceiling_flops_per_second / 1e9,
        )
        for found in measurements
    )
    return Table("speed", columns, rows, caption=_caption(measurements), notes=(SYNTHETIC,))


def _caption(measurements: list[SpeedMeasurement]) -> str:
    setting = describe_setting(measurements[0].device, num_threads=measurements[0].num_threads)
    facts, threads = setting["hardware"], setting["hardware"]["threads"]
    return (
        f"{facts.get('gpu', facts['cpu'])}, {threads} thread{'s' if threads > 1 else ''}, "
        f"torch {setting['versions']['torch']}; allocator {facts['allocator']}."
    )
