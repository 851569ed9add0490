"""`tiebench compare`: compare arms over their seeds; missing runs are trained first.

How seeds are looked at (`--seeds-as`, `--margin`, `--allow`) is an option and no key of an experiment file: it belongs
to one look at finished runs, which may be of several experiments or named as folders, and changes no run.
"""

from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from tiebench.cli.completion import complete_config
from tiebench.cli.options import (
    NO_LIST,
    RESULTS,
    AsJson,
    DataDir,
    Device,
    EngineName,
    Force,
    Format,
    Jobs,
    Overrides,
    Quiet,
    Results,
    Seeds,
    Track,
    Wait,
)
from tiebench.cli.output import print_comparisons, print_note
from tiebench.cli.until_decided import add_seeds
from tiebench.cli.workflow import (
    announce_quickstart,
    check_output,
    choose_format,
    gather_settings,
    keep_seeds,
    suggest_next,
    train_arms,
)
from tiebench.errors import TiebenchError, UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from tiebench.comparison.pairing import Comparison
    from tiebench.execution.settings import Settings
    from tiebench.results.record import Record


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ARM",
            help="Arms or run folders; by default all of --config. The first is the baseline; of two, the untied one.",
        ),
    ] = NO_LIST,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG", help="The experiment; its missing runs are trained.", autocompletion=complete_config
        ),
    ] = None,
    overrides: Overrides = NO_LIST,
    seeds: Seeds = NO_LIST,
    device: Device = "auto",
    results: Results = RESULTS,
    data_dir: DataDir = None,
    force: Force = False,
    jobs: Jobs = "auto",
    engine: EngineName = None,
    wait: Wait = False,
    track: Track = NO_LIST,
    no_train: Annotated[bool, typer.Option("--no-train", help="Compare finished runs; train none.")] = False,
    allow: Annotated[
        list[str], typer.Option("--allow", metavar="KEY", help="Compare although this key differs; may be repeated.")
    ] = NO_LIST,
    seeds_as: Annotated[
        str,
        typer.Option(
            "--seeds-as", metavar="RULE", help="Test over seeds: welch, pooled or paired; choose before you look."
        ),
    ] = "welch",
    margin: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Test equivalence too: within this change, such as 1%.")
    ] = None,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="Add seeds to two arms until the comparison is decided.")
    ] = False,
    max_seeds: Annotated[
        int, typer.Option("--max-seeds", metavar="N", min=2, help="At most this many seeds per arm.")
    ] = 20,
    format: Format = "text",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the learning curves: FILE.svg, .png or .pdf.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare arms over their seeds; missing runs are trained first. Without runs, the quickstart is trained."""
    from tiebench.execution.engine_config import check_jobs

    format = choose_format(format, as_json=as_json)
    check_output(format, plot=plot)
    percent = read_margin(margin)
    check_rule(seeds_as, until_decided=until_decided)
    check_jobs(jobs)
    settings = gather_settings(
        results, device=device, data_dir=data_dir, force=force, wait=wait, track=track, engine=engine
    )
    are_folders = any(len(Path(name).parts) > 1 for name in names)  # no arm has such a name
    is_first = config is None and not (no_train or are_folders or settings.store.has_records())
    if len(names) < 2 and (names or (config is None and not is_first)):
        named = f"only '{names[0]}' was named" if names else "no arm was named"
        raise UsageError(named, "name at least two arms (tiebench compare tied untied), or --config CONFIG")
    if config is None and (overrides or force or until_decided):
        what = "--set, --force and --until-decided train"
        raise UsageError(f"{what}, and no experiment was named", "say which: --config CONFIG")
    if no_train and force:
        raise UsageError("--no-train and --force exclude each other", "choose one")
    if is_first:
        config = announce_quickstart(names, quiet=quiet)
    judging: dict[str, Any] = {"seed_rule": seeds_as, "margin": percent, "allow": allow}
    if config is not None and until_decided:
        arms, judging["decision"] = add_seeds(
            config,
            names,
            overrides,
            seeds,
            settings=settings,
            jobs=jobs,
            margin=percent,
            max_seeds=max_seeds,
            allow=allow,
            train=not no_train,
            quiet=quiet,
        )
        groups = [arms]
    elif config is not None:
        options = {"settings": settings, "jobs": jobs, "quiet": quiet, "train": not no_train, "allow": allow}
        groups = [train_arms(config, names, overrides, seeds, **options)]
    else:
        groups = _select(names, settings=settings, allow=allow)
        if len(groups) > 1 and not quiet and format == "text":
            print_note(
                f"{len(groups)} experiments have these arms, the answer of each last; for one of them: --config CONFIG"
            )
    if seeds:
        groups = [keep_seeds(group, seeds) for group in groups]
    if plot is not None and len(groups) > 1:
        found = ", ".join(next(iter(group.values()))[0].experiment for group in groups)
        raise UsageError(f"--plot draws one experiment, and there are {len(groups)}: {found}", "choose with --config")
    compared = _judge_and_print(groups, judging, settings=settings, format=format, plot=plot)
    if config is not None and format == "text" and not (no_train or quiet):
        open_question = any(contrast.outcome == "undecided" for found in compared for contrast in found.contrasts)
        more = f"tiebench compare {' '.join(groups[0])} --config {quote(config)} --until-decided"
        first = [more] if open_question and len(groups[0]) == 2 and not (until_decided or overrides) else []
        suggest_next([record for arm in groups[0].values() for record in arm], settings=settings, first=first)


def read_margin(text: str | None) -> float | None:
    """`1%` or `1` as percent. Raises UsageError for anything else than an amount between 0 and 100."""
    if text is None:
        return None
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent < 100:
        raise UsageError(f"--margin {text} is no margin", "give a change in percent, such as 1%")
    return percent


def check_rule(rule: str, *, until_decided: bool) -> None:
    """Raises UsageError for an unknown rule, and for paired seeds where looks are taken at unpaired ones."""
    from tiebench.comparison.sources import SeedRule

    if rule not in get_args(SeedRule):
        raise UsageError(f"--seeds-as {rule} is unknown", did_you_mean(rule, get_args(SeedRule)))
    if until_decided and rule == "paired":
        raise UsageError("--until-decided looks at unpaired seeds", "leave --seeds-as paired out")


def _select(names: list[str], *, settings: Any, allow: list[str]) -> list[dict[str, list["Record"]]]:
    from tiebench.results.selection import explain_nothing, select_arms

    groups = select_arms(names, store=settings.store, allow=allow)
    if not groups:
        raise explain_nothing(names, store=settings.store)
    return groups


def _judge_and_print(
    groups: list[dict[str, list["Record"]]], judging: dict[str, Any], *, settings: Any, format: str, plot: Path | None
) -> list["Comparison"]:
    from tiebench.comparison.looking import find_looks_below
    from tiebench.comparison.pairing import compare_arms
    from tiebench.results.selection import put_baseline_first

    store = settings.store
    groups = [put_baseline_first(group) for group in groups]
    single = any(len(records) == 1 for group in groups for records in group.values())
    others = store.records() if single else ()
    decades = partial(_find_decades, settings=settings)
    read: dict[str, Any] = {
        "token_nll": store.token_nll,
        "curve": store.curve,
        "decades": decades,
        "bleu_counts": store.bleu_counts,
        "looks": find_looks_below(store.root),
    }
    comparisons = [compare_arms(group, **read, others=others, **judging) for group in groups]
    print_comparisons(comparisons, groups, settings=settings, format=format, plot=plot)
    return comparisons


def _find_decades(record: "Record", *, settings: "Settings") -> "np.ndarray | None":
    """How often each target of the test split stands in training, as the run kept it or else from the corpus; None,
    with a note, where neither is there.
    """
    kept = settings.store.target_decades(record)
    if kept is not None:
        return kept
    from tiebench.execution.run_data import recount_test_decades

    try:
        return recount_test_decades(record, store=settings.store, data_dir=settings.data_dir)
    except TiebenchError as error:
        print_note(f"who gains by training frequency is not known: {error.message}")
        return None
