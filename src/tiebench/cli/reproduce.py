"""`tiebench reproduce`: check a paper's claims: published beside measured."""

import functools
from dataclasses import replace
from typing import Annotated

import typer

from tiebench.cli.completion import complete_paper
from tiebench.cli.options import (
    NO_LIST,
    RESULTS,
    AsJson,
    DataDir,
    Device,
    EngineName,
    Format,
    Jobs,
    Overrides,
    Quiet,
    Results,
    Seeds,
    Track,
    Wait,
)
from tiebench.cli.output import print_claims, print_costs, print_note
from tiebench.cli.workflow import check_output, choose_format, complete_runs, gather_settings, tune_experiment


def reproduce(
    paper: Annotated[
        str,
        typer.Argument(help="A paper (tiebench list claims), a file of claims, or all.", autocompletion=complete_paper),
    ],
    only: Annotated[
        list[str], typer.Option("--only", metavar="NAME", help="Only this claim, table or figure; may be repeated.")
    ] = NO_LIST,
    overrides: Overrides = NO_LIST,
    seeds: Seeds = NO_LIST,
    device: Device = "auto",
    results: Results = RESULTS,
    data_dir: DataDir = None,
    jobs: Jobs = "auto",
    engine: EngineName = None,
    wait: Wait = False,
    track: Track = NO_LIST,
    no_train: Annotated[bool, typer.Option("--no-train", help="Judge by the finished runs; train none.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost on this machine.")] = False,
    format: Format = "text",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check a paper's claims: train missing runs, then print published beside measured, with a verdict on each."""
    from tiebench.analysis.measuring import complete_measurements, list_missing_studies
    from tiebench.claims.evidence import Evidence, plan_papers
    from tiebench.claims.papers import load_papers
    from tiebench.claims.verdicts import judge_papers

    format = choose_format(format, as_json=as_json)
    check_output(format)
    settings = gather_settings(
        results, device=device, data_dir=data_dir, force=False, wait=wait, track=track, engine=engine
    )
    waiting = {"jobs": jobs, "quiet": quiet or not no_train, "train": False}  # missing trials are made further down
    papers = load_papers(paper, only=only)
    plans = plan_papers(papers, only=only, seeds=seeds, overrides=overrides)
    plans = {
        name: replace(plan, experiment=tune_experiment(plan.experiment, list(plan.arms), settings=settings, **waiting))
        for name, plan in plans.items()
    }
    evidence = Evidence(settings.store, plans, tuple(seeds))
    if dry_run or not no_train:
        from tiebench.analysis.subspace_study import count_study
        from tiebench.execution.costs import estimate_costs, estimate_missing_trials, list_uncountable

        missing = list_missing_studies(papers, evidence=evidence, only=only)
        studies = [count_study(subject, seed=seed) for _, subject, seed in missing]
        runs = [run for plan in plans.values() for run in plan.runs]
        asked = [(plan.experiment, plan.arms) for plan in plans.values()]
        others = [*estimate_missing_trials(asked, settings=settings), *studies]
        costs = estimate_costs(runs, settings=settings, others=others, timed=dry_run or not quiet)
        if dry_run or (not quiet and any(cost.num_runs for cost in costs)):
            print_costs(costs, device=device, format=format, only_cost=dry_run)
        if dry_run:
            return
        uncountable = list_uncountable(costs)
        for name, plan in list(plans.items()):
            if plan.experiment.name in uncountable:
                continue
            arms = list(plan.arms)
            experiment = tune_experiment(plan.experiment, arms, settings=settings, jobs=jobs, quiet=quiet)
            plans[name] = replace(plan, experiment=experiment)  # `evidence` reads this dict
            complete_runs(experiment, plans[name].runs, settings=settings, jobs=jobs, quiet=quiet)
        evidence.kept.clear()
    if overrides and (num_others := evidence.count_others()):
        print_note(
            f"finished runs with another recipe than --set asks for: {num_others}; to train it, add --results DIR"
        )
    say = (lambda message: None) if quiet else functools.partial(typer.echo, err=True)
    complete_measurements(papers, evidence=evidence, only=only, say=say, train=not no_train, data_dir=data_dir)
    print_claims(judge_papers(papers, evidence=evidence, only=only), papers, format=format)
