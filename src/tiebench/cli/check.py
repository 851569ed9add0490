"""`tiebench check`: validate an experiment without training it."""

import typer

from tiebench.cli.options import NO_LIST, ArmNames, AsJson, Config, DataDir, Overrides
from tiebench.cli.output import print_counts, print_json, print_table, show_value


def check(
    config: Config,
    overrides: Overrides = NO_LIST,
    arms: ArmNames = NO_LIST,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Validate an experiment: build every arm without memory, count it, and show in what the arms differ."""
    from tiebench.comparison.pairing import difference_table
    from tiebench.execution.counting import count_arms
    from tiebench.execution.matching import match_runs
    from tiebench.experiment.loading import load_experiment

    experiment = load_experiment(config, overrides=overrides)
    runs = match_runs(experiment.list_runs(arms=arms, seeds=[experiment.seeds[0]]), data_dir=data_dir)
    counts = count_arms(runs, data_dir=data_dir)
    differences = difference_table({run.arm: run.resolved for run in runs}) if len(runs) > 1 else []
    if as_json:
        rows = [{"path": path, **values} for path, values in differences]
        remarks = {run.arm: list(run.remarks) for run in runs if run.remarks}
        content = {"experiment": experiment.name, "arms": [vars(found) for found in counts], "differences": rows}
        print_json(content | {"remarks": remarks})
        return
    from tiebench.reporting.tables import Column, Table

    print_counts(counts, title=experiment.name, caption=experiment.description)
    if differences:
        columns = (Column("what differs"), *(Column(run.arm) for run in runs))
        rows = tuple((path, *(show_value(values.get(run.arm)) for run in runs)) for path, values in differences)
        print_table(Table("arms", columns, rows))
    for run in runs:
        for remark in run.remarks:
            typer.echo(f"{run.arm}: {remark}")
    typer.echo(
        f"{len(experiment.arms)} arms x {len(experiment.seeds)} seeds. Nothing is wrong with {experiment.source}."
    )
