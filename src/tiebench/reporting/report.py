"""The report: what was found, on one self-contained HTML page that a reader understands without the tool.

The page is put together from what the comparison, the claims and the records say; nothing is computed here. Charts are
Vega-Lite specifications, drawn by Vega's own program, which is written into the page (`vl-convert-python` brings it).
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import Any

import tiebench
from tiebench.claims.papers import PaperClaims
from tiebench.claims.verdicts import ClaimResult
from tiebench.comparison.looking import find_looks_below
from tiebench.comparison.pairing import Comparison, compare_arms, difference_table, group_by_arm
from tiebench.errors import UsageError
from tiebench.experiment.candidates import shorten_paths
from tiebench.reporting.claims_table import claims_table, verdicts_table
from tiebench.reporting.frequency_table import frequency_table
from tiebench.reporting.glossary import list_terms
from tiebench.reporting.page_charts import (
    chart_curves,
    chart_frequency,
    chart_intervals,
    chart_parameters,
    chart_seeds,
    chart_trials,
)
from tiebench.reporting.page_parts import (
    build_details,
    build_figure,
    build_notes,
    build_table,
    escape_html,
    make_anchor,
)
from tiebench.reporting.pages import group_by_experiment
from tiebench.reporting.tables import Column, Table, comparison_table, list_answers, runs_table
from tiebench.reporting.translation_table import translation_table
from tiebench.reporting.tuning_plot import find_axes
from tiebench.results.measurements import Measurement, is_current, read_measurements
from tiebench.results.record import Record
from tiebench.results.selection import Arms
from tiebench.results.store import Store
from tiebench.results.trials import read_tuning

PAGE = Path(__file__).with_name("page")
TITLE = "Tie the embeddings, or not?"
CURVE_COLUMNS = ("mean over seeds", "lowest seed", "highest seed")
MOST_CURVE_ROWS = 300


@dataclass
class _Page:
    """What a page is made of while it is being written: its sections, the answers above them, the columns used."""

    sections: list[str] = field(default_factory=list)
    contents: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[str, list[str]]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)

    def add_section(self, title: str, parts: Sequence[str]) -> None:
        anchor = make_anchor(title)
        self.contents.append((anchor, title))
        body = "\n".join(part for part in parts if part)
        heading = f'<h2 id="{anchor}-title">{escape_html(title)}</h2>'
        self.sections.append(f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n{heading}\n{body}\n</section>')

    def table(self, table: Table) -> str:
        """The table as HTML; its columns will be explained."""
        self.columns += [column.name for column in table.columns]
        return build_table(table)


def render_report(
    records: Sequence[Record],
    *,
    store: Store,
    claims: Sequence[ClaimResult] = (),
    papers: Sequence[PaperClaims] = (),
) -> str:
    """The page on these records of `store`, with a section for each experiment and one for the claims that were run.

    The same records give the same page. Raises UsageError without records, and where `vl-convert-python` is missing.
    """
    if not records:
        raise UsageError(f"no finished runs in {store.root}", "train some first: tiebench train CONFIG")
    bundle = load_bundle()
    page = _Page()
    for name, found in group_by_experiment(records).items():
        _add_experiment(page, name, found, store=store)
    if claims:
        _add_claims(page, list(claims), papers=list(papers))
    _add_origins(page, records)
    terms = "".join(
        f"<dt>{escape_html(name)}</dt><dd>{escape_html(text)}</dd>" for name, text in list_terms(page.columns)
    )
    page.add_section("What the columns mean", [f"<dl>{terms}</dl>"])
    return _fill_template(page, bundle=bundle)


def load_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one program. Raises UsageError where `vl-convert-python` is not installed."""
    try:
        import vl_convert
    except ImportError as error:
        hint = "pip install 'tiebench[report]'"
        raise UsageError(
            "the report's charts need the package vl-convert-python, which is not installed", hint
        ) from error
    program = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue] (its stub misses the default)
    return program.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _add_experiment(page: _Page, name: str, records: Sequence[Record], *, store: Store) -> None:
    arms = group_by_arm(records)
    charts = _draw_curves(page, arms, store=store)
    try:
        if len(arms) < 2:
            raise UsageError(f"there is one arm alone, {next(iter(arms))}: nothing to compare with", "")
        comparison = compare_arms(
            arms,
            token_nll=store.token_nll,
            curve=store.curve,
            decades=store.target_decades,
            bleu_counts=store.bleu_counts,
            others=store.records(),
            looks=find_looks_below(store.root),
        )
    except UsageError as reason:
        page.answers.append((name, [f"Not compared: {reason.message}."]))
        parts = [f"<p>These runs were not compared: {escape_html(reason.message)}.</p>"]
    else:
        page.answers.append((name, list_answers(comparison)))
        parts = _tell_comparison(page, arms, comparison)
        charts = [_draw_seeds(arms, comparison), *charts, _draw_parameters(comparison)]
        translated = translation_table(comparison)
        charts += [page.table(translated)] if translated else []
        charts += _tell_frequency(page, comparison)
    charts += _chart_trials(store.root / name)
    runs = page.table(replace(runs_table(records), title=f"{name}: runs by arm", num_keys=2))
    parts += [
        *charts,
        _tell_measurements(page, records, folder=store.root / name),
        build_details("All figures by arm", runs),
    ]
    page.add_section(name, parts)


def _tell_comparison(page: _Page, arms: Arms, comparison: Comparison) -> list[str]:
    """The answer, the intervals, the table with its notes, and what was held equal."""
    table, answers = comparison_table(comparison), list_answers(comparison)
    notes = table.notes[: -len(answers)]
    chart = chart_intervals(comparison)
    caption = "Left of the dashed line the perplexity is lower than that of the baseline, which is better."
    specs = {arm: found[0].spec.model_dump(mode="json") for arm, found in arms.items()}
    differing = [(key, *(_spell(values.get(arm)) for arm in specs)) for key, values in difference_table(specs)]
    columns = (Column("key"), *map(Column, specs))
    return [
        f'<div class="answer">{"".join(f"<p>{escape_html(answer)}</p>" for answer in answers)}</div>',
        build_figure(chart, title="How sure is the difference?", caption=caption) if chart else "",
        page.table(replace(table, notes=())),
        build_details("How these figures were made", build_notes(notes)),
        "<h3>What was held equal, and what differs</h3>",
        f"<p>{escape_html(comparison.caption)}</p>",
        page.table(Table(f"{comparison.experiment}: what differs between arms", columns, tuple(differing))),
    ]


def _draw_seeds(arms: Arms, comparison: Comparison) -> str:
    chart = chart_seeds(arms, comparison)
    caption = "A dot is one training run, the bar is the mean of the arm. Left is better."
    return build_figure(chart, title="Every seed", caption=caption) if chart else ""


def _chart_trials(folder: Path) -> list[str]:
    """What was tried for each arm before its runs, a chart for each value that was tuned."""
    result = read_tuning(folder)
    if result is None:
        return []
    names = shorten_paths(find_axes(result))
    charts = {name: chart_trials(result, path, name=name) for path, name in names.items()}
    caption = "Each arm was trained with its best value, the larger dot. Lower is better."
    return [
        build_figure(chart, title=f"Trials: {name}", caption=caption)
        for name, chart in charts.items()
        if chart is not None
    ]


def _draw_curves(page: _Page, arms: Arms, *, store: Store) -> list[str]:
    """The chart, and its figures as a table, for who cannot see, hover or zoom it."""
    chart = chart_curves({arm: [store.curve(record) for record in found] for arm, found in arms.items()})
    if chart is None:
        return []
    caption = "Mean over seeds; the band reaches from the lowest to the highest seed. Lower is better."
    points = chart["data"]["values"]
    points = points[:: -(-len(points) // MOST_CURVE_ROWS)]
    columns = (Column("arm"), Column("training tokens", "count"), *(Column(name, "number") for name in CURVE_COLUMNS))
    rows = tuple((each["arm"], int(each["tokens"]), each["mean"], each["low"], each["high"]) for each in points)
    figures = page.table(Table("Learning curves: validation perplexity", columns, rows))
    return [
        build_figure(chart, title="Learning curves", caption=caption, has_zoom=True),
        build_details("The figures of the learning curves", figures),
    ]


def _draw_parameters(comparison: Comparison) -> str:
    caption = "A tied model has one shared matrix where an untied one has an input and an output embedding."
    return build_figure(chart_parameters(comparison.arms), title="Where the parameters are", caption=caption)


def _tell_frequency(page: _Page, comparison: Comparison) -> list[str]:
    chart, table = chart_frequency(comparison), frequency_table(comparison)
    if chart is None or table is None:
        return []
    figures = page.table(replace(table, caption=""))
    return [
        build_figure(chart, title="Who gains: rare or frequent words?", caption=table.caption),
        build_details("The figures of this chart", figures),
    ]


def _tell_measurements(page: _Page, records: Sequence[Record], *, folder: Path) -> str:
    """What was measured on the trained embeddings of these very runs, such as isotropy and neighbours."""
    found = [each for each in read_measurements(folder) if is_current(each, list(records))]
    if not found:
        return ""
    columns = (Column("measure"), Column("of"), Column("seed", "count"), Column("value", "number"))
    table = Table("Measured on the trained embeddings", columns, tuple(map(_describe_measurement, found)), num_keys=2)
    return build_details(table.title, page.table(table))


def _describe_measurement(found: Measurement) -> tuple[Any, ...]:
    return found.measure, found.of, found.seed, found.value


def _add_claims(page: _Page, claims: list[ClaimResult], *, papers: list[PaperClaims]) -> None:
    table = claims_table(claims, papers=papers)
    verdicts = verdicts_table(claims)
    page.add_section(
        "Published beside measured",
        [
            f"<p>{escape_html(verdicts.caption)}</p>",
            page.table(replace(table, notes=(), num_keys=2 if table.columns[0].name == "paper" else 1)),
            build_details("What the verdicts mean, and which claims were not run", build_notes(table.notes)),
        ],
    )


def _add_origins(page: _Page, records: Sequence[Record]) -> None:
    """The commands behind the figures, each once, and the machines and texts that they are about."""
    machines = list(dict.fromkeys(map(_describe_machine, records)))
    ways: dict[tuple[str, ...], int] = {}
    for record in records:
        found = record.provenance
        state = " with uncommitted changes" if found.dirty else ""
        commit = f"{found.commit[:12]}{state}" if found.commit else "not known"
        way = (record.experiment, found.command, commit, str(machines.index(_describe_machine(record)) + 1))
        ways[way] = ways.get(way, 0) + 1
    columns = (Column("runs", "count"), *map(Column, ("experiment", "command", "commit", "machine")))
    rows = tuple((number, *way) for way, number in ways.items())
    table = Table("Commands and machines behind the figures", columns, rows, num_keys=0)
    texts = {(record.corpus.name, record.corpus.checksum, _list_facts(record.corpus.facts)) for record in records}
    notes = [f"Machine {place + 1}: {told}" for place, told in enumerate(machines)]
    notes += [f"Text {name}: checksum {checksum}. {facts}".strip() for name, checksum, facts in sorted(texts)]
    page.add_section("Where the figures come from", [page.table(table), build_notes(notes)])


def _describe_machine(record: Record) -> str:
    return f"{_list_facts(record.provenance.hardware)}; {_list_facts(record.provenance.versions)}"


def _list_facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _spell(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fill_template(page: _Page, *, bundle: str) -> str:
    program = (PAGE / "page.js").read_text("utf-8")
    contents = "\n".join(f'<li><a href="#{anchor}">{escape_html(title)}</a></li>' for anchor, title in page.contents)
    answers = [
        f'<p><a class="where" href="#{make_anchor(name)}">{escape_html(name)}</a></p>'
        + "".join(f"<p>{escape_html(sentence)}</p>" for sentence in sentences)
        for name, sentences in page.answers
    ]
    answer = (
        f'<section id="answer" aria-label="The answer"><div class="answer">{"".join(answers)}</div></section>'
        if len(answers) > 1
        else '<div id="answer"></div>'
    )
    return Template((PAGE / "page.html").read_text("utf-8")).substitute(
        title=TITLE,
        style=(PAGE / "page.css").read_text("utf-8"),
        script_hashes=" ".join(map(_hash_script, (bundle, program))),
        contents=contents,
        body="\n".join([answer, *page.sections]),
        version=escape_html(tiebench.__version__),
        bundle=bundle,
        program=program,
    )


def _hash_script(script: str) -> str:
    """The digest by which the page's content security policy admits the script, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')}'"
