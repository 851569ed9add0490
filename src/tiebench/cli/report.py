"""`tiebench report`: what was found, on one HTML page that needs no network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebench.cli.options import NO_LIST, RESULTS, Results
from tiebench.cli.output import print_note
from tiebench.cli.workflow import check_results
from tiebench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from tiebench.results.record import Record
    from tiebench.results.store import Store


def report(
    experiments: Annotated[
        list[str], typer.Argument(metavar="EXPERIMENT", help="Experiments with finished runs; none: all of them.")
    ] = NO_LIST,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")] = Path(
        "report.html"
    ),
    results: Results = RESULTS,
) -> None:
    """Write what was found as one HTML page: the answer, its intervals, curves, claims. It needs no network."""
    from tiebench.claims.judging import judge_finished
    from tiebench.files import write_text
    from tiebench.reporting.report import load_bundle, render_report
    from tiebench.results.store import Store

    if output.suffix not in (".html", ".htm"):
        raise UsageError(
            f"the report is an HTML page, but {output} does not end in .html", "name it such as report.html"
        )
    load_bundle()  # says what is missing before anything is computed
    check_results(results)
    store = Store(results)
    records = _select_experiments(experiments, store=store)
    claims, papers = judge_finished(store, experiments=experiments)
    write_text(render_report(records, store=store, claims=claims, papers=papers), file=output)
    print_note(f"wrote {output}: {output.stat().st_size / 1e6:.1f} MB, {len(records)} runs; open it in a browser")


def _select_experiments(names: list[str], *, store: "Store") -> list["Record"]:
    """The records of these experiments, of all without names. Raises UsageError for one without finished runs."""
    records = store.records()
    known = sorted({record.experiment for record in records})
    for name in names:
        if name not in known:
            train = f"train it first: tiebench train {name}"
            hint = did_you_mean(name, known) if known else train
            raise UsageError(f"no finished runs of experiment '{name}' in {store.root}", hint)
    return [record for record in records if not names or record.experiment in names]
