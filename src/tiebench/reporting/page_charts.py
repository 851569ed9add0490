"""The report's charts as Vega-Lite specifications: plain data, drawn by the page itself."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tiebench.comparison.captions import name_metric
from tiebench.comparison.contrast import Contrast
from tiebench.comparison.difference import read_nll
from tiebench.comparison.pairing import ArmSummary, Comparison
from tiebench.reporting.plots import COLOURS, LOG_RATIO, Curve, average_curves
from tiebench.reporting.tables import ROLES
from tiebench.reporting.tuning_plot import find_best
from tiebench.results.selection import Arms
from tiebench.results.trials import TuningResult

Chart = dict[str, Any]


# Black, the last of the colours, is the ink of the page: it can be seen on a dark ground too.
ARM_COLOURS = [*COLOURS[:-1], "currentColor"]
BOTH, SEEDS, TEXT, LOOKING = "seeds and test text", "seeds alone", "test text alone", "seeds, looking often"
NO_INTERVAL = "nothing: no interval known"
SOURCE_COLOURS = {
    BOTH: "currentColor",
    LOOKING: "currentColor",
    SEEDS: COLOURS[0],
    TEXT: COLOURS[1],
    NO_INTERVAL: COLOURS[3],
}
ZOOM = {
    "name": "zoom",
    "select": {"type": "interval", "zoom": "wheel![event.altKey]", "clear": "dblclick"},
    "bind": "scales",
}


def chart_intervals(comparison: Comparison) -> Chart | None:
    """The change of each arm in percent with an interval for each source of variation; None where nothing is known."""
    rows = [row for contrast in comparison.contrasts for row in _list_intervals(contrast)]
    headlines = [contrast.headline for contrast in comparison.contrasts if contrast.headline]
    if not rows or not headlines:
        return None
    sources = [source for source in SOURCE_COLOURS if any(row["covers"] == source for row in rows)]
    metric = name_metric(headlines[0])
    by_arm = {"field": "arm", "type": "nominal", "title": None, "sort": _in_order(rows)}
    where = {"y": by_arm, "yOffset": {"field": "covers", "sort": sources}}
    colour = {"field": "covers", "type": "nominal", "title": "95 % interval over", "sort": sources}
    colour |= {"scale": {"domain": sources, "range": [SOURCE_COLOURS[source] for source in sources]}}
    shared = {**where, "color": colour, "tooltip": _tips("arm", "covers", "change:.2f", "low:.2f", "high:.2f")}
    axis = {"title": f"change of {metric} against {comparison.baseline}, %", "format": "+", "tickCount": 8}
    low, change = {"field": "low", "type": "quantitative"}, {"field": "change", "type": "quantitative"}
    layers = [
        {"mark": {"type": "rule", "strokeDash": [4, 4]}, "encoding": {"x": {"datum": 0}}},
        {
            "mark": {"type": "rule", "strokeWidth": 2.5},
            "encoding": {**shared, "x": {**low, "axis": axis}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {**shared, "x": {**change, "axis": axis}},
        },
    ]
    said = ", ".join(_say_interval(row) for row in rows if row["covers"] == sources[0])
    return _chart(
        rows,
        layers,
        description=f"Change of {metric} against {comparison.baseline}: {said}.",
        height=20 + 16 * len(rows),
    )


def chart_seeds(arms: Arms, comparison: Comparison) -> Chart | None:
    """Every seed of every arm as a dot, and the mean of the arm as a bar; None where no split is shared."""
    headline = next((contrast.headline for contrast in comparison.contrasts if contrast.headline), None)
    if headline is None:
        return None
    metric, rows = name_metric(headline), []
    for arm, records in arms.items():
        for record in records:
            nll = read_nll(record.evaluations[headline.split], unit=headline.unit)
            rows.append({"arm": arm, "seed": record.seed, "value": _as_metric(nll, unit=headline.unit)})
    spec = {
        "field": "value",
        "type": "quantitative",
        "scale": {"zero": False},
        "title": metric,
        "axis": {"tickCount": 8},
    }
    told = {"field": "value", "type": "quantitative", "aggregate": "mean"}
    by_arm = {"field": "arm", "type": "nominal", "title": None, "sort": list(arms)}
    colour = {**by_arm, "legend": None, "scale": _arm_scale(arms)}
    layers = [
        {
            "mark": {"type": "tick", "thickness": 2, "size": 26, "color": "currentColor"},
            "encoding": {"x": {**spec, **told}, "y": by_arm, "tooltip": [{**told, "format": ",.3f"}]},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"x": spec, "y": by_arm, "color": colour, "tooltip": _tips("arm", "seed", "value:,.3f")},
        },
    ]
    values = {arm: [f"{row['value']:.2f}" for row in rows if row["arm"] == arm] for arm in arms}
    said = "; ".join(f"{arm} {', '.join(found)}" for arm, found in values.items())
    return _chart(rows, layers, description=f"{metric} of every seed: {said}.", height=38 * len(arms))


def chart_curves(curves: Mapping[str, Sequence[Curve]]) -> Chart | None:
    """Validation perplexity over training tokens, the mean of each arm and a band over its seeds; None without any."""
    rows = []
    for arm, seeds in curves.items():
        for tokens, mean, low, high in zip(*average_curves(seeds), strict=True):
            rows.append({"arm": arm, "tokens": tokens, "mean": mean, "low": low, "high": high})
    if not rows:
        return None
    is_wide = max(row["high"] for row in rows) > LOG_RATIO * min(row["low"] for row in rows)
    scale = {"type": "log", "nice": False} if is_wide else {"zero": False}
    x = {
        "field": "tokens",
        "type": "quantitative",
        "title": "training tokens",
        "axis": {"format": "~s", "tickCount": 6},
    }
    y_axis = {"tickCount": 6, "format": ",~r"}
    y = {"type": "quantitative", "scale": scale, "title": "validation perplexity", "axis": y_axis}
    colour = {"field": "arm", "type": "nominal", "sort": list(curves), "title": "arm", "scale": _arm_scale(curves)}
    tips = _tips("arm", "tokens:,", "mean:,.2f", "low:,.2f", "high:,.2f")
    band = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}
    line = {"x": x, "y": {**y, "field": "mean"}, "color": colour}
    layers = [
        {"mark": {"type": "area", "opacity": 0.2, "clip": True}, "encoding": band},
        {"mark": {"type": "line", "strokeWidth": 2, "clip": True}, "encoding": line, "params": [ZOOM]},
        {
            "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1, "clip": True},
            "encoding": {**line, "tooltip": tips},
        },
    ]
    best = {arm: min(row["mean"] for row in rows if row["arm"] == arm) for arm in dict.fromkeys(_in_order(rows))}
    said = ", ".join(f"{arm} {value:.2f}" for arm, value in best.items())
    return _chart(rows, layers, description=f"Learning curves; best mean validation perplexity: {said}.", height=300)


def chart_trials(result: TuningResult, path: str, *, name: str) -> Chart | None:
    """Validation perplexity over a value that was tuned, a line per arm; None where all trials diverged.

    Where several values were tuned, each point is the best over the others.
    """
    best = {arm: find_best(found, path) for arm, found in result.arms.items()}
    rows = [
        {"arm": arm, "value": value, "perplexity": perplexity, "chosen": value == result.arms[arm].tuned.chosen[path]}
        for arm, found in best.items()
        for value, perplexity in found.items()
        if perplexity is not None
    ]
    if not rows:
        return None
    is_log = min(row["value"] for row in rows) > 0
    x = {"field": "value", "type": "quantitative", "title": name, "scale": {"type": "log" if is_log else "linear"}}
    y = {"field": "perplexity", "type": "quantitative", "title": "validation perplexity", "scale": {"zero": False}}
    colour = {"field": "arm", "type": "nominal", "sort": list(best), "title": "arm", "scale": _arm_scale(best)}
    size = {"condition": {"test": "datum.chosen", "value": 160}, "value": 40}
    encoding = {"x": x | {"axis": {"values": sorted({row["value"] for row in rows})}}, "y": y, "color": colour}
    tips = _tips("arm", "value", "perplexity:,.2f", "chosen")
    layers = [
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": encoding},
        {
            "mark": {"type": "point", "filled": True, "opacity": 1},
            "encoding": {**encoding, "size": size, "tooltip": tips},
        },
    ]
    said = ", ".join(f"{arm} {found.tuned.chosen[path]:g}" for arm, found in result.arms.items())
    return _chart(rows, layers, description=f"Trials over {name}; chosen: {said}.", height=240)


def chart_parameters(summaries: Sequence[ArmSummary]) -> Chart:
    """How many parameters each arm has in each role, as bars end to end."""
    roles = ROLES[:-1]
    counts = {summary.arm: summary.parameters for summary in summaries}
    rows = [
        {"arm": arm, "role": role, "parameters": getattr(found, role), "place": place}
        for arm, found in counts.items()
        for place, role in enumerate(roles)
        if getattr(found, role)
    ]
    shown = [role for role in roles if any(row["role"] == role for row in rows)]
    colours = [COLOURS[:-1][roles.index(role)] for role in shown]
    encoding = {
        "x": {"field": "parameters", "type": "quantitative", "axis": {"format": "~s", "tickCount": 6}},
        "y": {"field": "arm", "type": "nominal", "title": None, "sort": list(counts)},
        "color": {"field": "role", "type": "nominal", "sort": shown, "scale": {"domain": shown, "range": colours}},
        "order": {"field": "place"},
        "tooltip": _tips("arm", "role", "parameters:,"),
    }
    said = ", ".join(f"{arm} {found.total:,}" for arm, found in counts.items())
    layers = [{"mark": {"type": "bar", "height": {"band": 0.7}}, "encoding": encoding}]
    return _chart(rows, layers, description=f"Parameters by role; in all: {said}.", height=34 * len(counts))


def chart_frequency(comparison: Comparison) -> Chart | None:
    """The change in nats per token by how often the target stood in training; None where that is not known."""
    known = {contrast.arm: contrast.by_frequency for contrast in comparison.contrasts if contrast.by_frequency}
    rows = [
        {"arm": arm, "seen": each.seen, "decade": each.decade, "targets": each.num_tokens}
        | {"change": each.difference, "low": each.low, "high": each.high}
        for arm, bins in known.items()
        for each in bins
    ]
    if not rows:
        return None
    names = list(dict.fromkeys(row["seen"] for row in sorted(rows, key=lambda row: row["decade"])))
    title = "times that the target stands in training"
    colours = _arm_scale({summary.arm: summary for summary in comparison.arms})  # an arm has one colour on all charts
    scale = {"domain": list(known), "range": [colours["range"][colours["domain"].index(arm)] for arm in known]}
    shared = {
        "x": {"field": "seen", "type": "ordinal", "sort": names, "title": title, "axis": {"labelAngle": -35}},
        "xOffset": {"field": "arm", "sort": list(known)},
        "color": {"field": "arm", "type": "nominal", "sort": list(known), "scale": scale},
        "tooltip": _tips("arm", "seen", "targets:,", "change:+.4f", "low:+.4f", "high:+.4f"),
    }
    axis = {"title": f"nats per token against {comparison.baseline}"}
    low, change = {"field": "low", "type": "quantitative"}, {"field": "change", "type": "quantitative"}
    layers = [
        {"mark": {"type": "rule", "strokeDash": [4, 4]}, "encoding": {"y": {"datum": 0}}},
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {**shared, "y": {**low, "axis": axis}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {**shared, "y": {**change, "axis": axis}},
        },
    ]
    said = "; ".join(f"{row['arm']}, {row['seen']}: {row['change']:+.3f}" for row in rows)
    return _chart(rows, layers, description=f"Change by training frequency of the target: {said}.", height=260)


def _chart(rows: list[dict[str, Any]], layers: list[Chart], *, description: str, height: int) -> Chart:
    """As wide as the page, `height` pixels high."""
    size = {"width": "container", "height": height, "autosize": {"type": "fit-x", "contains": "padding"}}
    return {"description": description, "data": {"values": rows}, "layer": layers, **size}


def _list_intervals(contrast: Contrast) -> list[dict[str, Any]]:
    """A row for each interval of a contrast; one without ends where none is known."""
    headline = contrast.headline
    if headline is None:
        return []
    intervals = {
        source: (headline.in_percent(found.low), headline.in_percent(found.high))
        for source, found in ((SEEDS, headline.seeds), (TEXT, headline.text))
        if found is not None
    }
    if contrast.decision is not None and contrast.interval_percent is not None:
        intervals = {LOOKING: contrast.interval_percent, **intervals}
    elif len(headline.covers) > 1 and contrast.interval_percent is not None:
        intervals = {BOTH: contrast.interval_percent, **intervals}
    point = {"arm": contrast.arm, "change": headline.percent}
    rows = [{**point, "covers": source, "low": low, "high": high} for source, (low, high) in intervals.items()]
    return rows or [{**point, "covers": NO_INTERVAL, "low": headline.percent, "high": headline.percent}]


def _say_interval(row: Mapping[str, Any]) -> str:
    return f"{row['arm']} {row['change']:+.1f} % [{row['low']:+.1f}, {row['high']:+.1f}]"


def _as_metric(nll: float, *, unit: str) -> float:
    """Perplexity from nats per token, bits from nats per byte."""
    return math.exp(nll) if unit == "token" else nll / math.log(2)


def _arm_scale(arms: Mapping[str, Any]) -> dict[str, list[str]]:
    names = list(arms)
    return {"domain": names, "range": [ARM_COLOURS[place % len(ARM_COLOURS)] for place in range(len(names))]}


def _in_order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in rows))


def _tips(*names: str) -> list[dict[str, str]]:
    """What is shown when a mark is hovered: `field` or `field:format`."""
    tips = []
    for name in names:
        field, _, shape = name.partition(":")
        tips.append({"field": field, "type": "quantitative", "format": shape} if shape else {"field": field})
    return tips
