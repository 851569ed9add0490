"""Learning curves: one line per arm, its mean over seeds, and a band from the lowest to the highest seed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.errors import UsageError, did_you_mean
from tiebench.files import open_atomic
from tiebench.reporting.render import format_number
from tiebench.results.curve import CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[CurvePoint]
Drawn = tuple[list[int], list[float], list[float], list[float]]

SUFFIXES = (".svg", ".png", ".pdf")
# Okabe & Ito's colours: told apart with any colour vision, and in this order also in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LOG_RATIO = 4


def plot_curves(
    curves: Mapping[str, Sequence[Curve]],
    *,
    file: Path,
    title: str,
    beside: "Callable[[Axes, dict[str, str]], None] | None" = None,
) -> Path:
    """Draw validation perplexity over tokens and write it as SVG, PNG or PDF. Returns the file.

    `curves` maps an arm to the curves of its seeds. Only points that every seed has reached are averaged. `beside`
    draws on a second pair of axes, with the colours of the arms. Raises UsageError for another suffix and when there is
    nothing to draw.
    """
    check_suffix(file)
    drawn = {arm: average_curves(seeds) for arm, seeds in curves.items()}
    drawn = {arm: points for arm, points in drawn.items() if points[0]}
    if not drawn:
        raise UsageError("no learning curve to draw", "train a run first: a curve has a point per evaluation")
    with_bands = any(len(seeds) > 1 for seeds in curves.values())
    return save_figure(_draw(drawn, title=title, with_bands=with_bands, beside=beside), file=file)


def check_suffix(file: Path) -> None:
    """Raises UsageError for a file that cannot be drawn; worth knowing before anything is trained."""
    if file.suffix not in SUFFIXES:
        raise UsageError(f"cannot draw a '{file.suffix}' file: {file}", did_you_mean(file.suffix, SUFFIXES))


def draw_panels(*, title: str, num_panels: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure of its own, without the global state of pyplot, and its panels side by side; it needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 if num_panels == 1 else 10.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(1, num_panels, place + 1) for place in range(num_panels)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    panels[0].set_title(title, loc="left", fontsize=12, fontweight="bold")
    return figure, panels


def save_figure(figure: "Figure", *, file: Path) -> Path:
    """Write it without dates and random names inside, so that the same figures make the same file. Returns the file."""
    import matplotlib

    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with open_atomic(file) as aside, matplotlib.rc_context({"svg.hashsalt": "tiebench"}):
        figure.savefig(aside, format=file.suffix[1:], dpi=160, metadata=dates.get(file.suffix))
    return file


def average_curves(seeds: Sequence[Curve]) -> Drawn:
    """Tokens, mean, lowest and highest perplexity at the evaluations that all seeds have."""
    by_seed = [{point.tokens: point.valid_perplexity for point in seed} for seed in seeds if seed]
    shared = sorted(set.intersection(*map(set, by_seed))) if by_seed else []
    columns = [[seed[tokens] for seed in by_seed] for tokens in shared]
    means = [sum(column) / len(column) for column in columns]
    return shared, means, [min(column) for column in columns], [max(column) for column in columns]


def _draw(
    drawn: dict[str, Drawn],
    *,
    title: str,
    with_bands: bool,
    beside: "Callable[[Axes, dict[str, str]], None] | None",
) -> "Figure":
    figure, panels = draw_panels(title=title, num_panels=1 if beside is None else 2)
    axes = panels[0]
    colours = {arm: COLOURS[place % len(COLOURS)] for place, arm in enumerate(drawn)}
    unit, unit_name = _token_unit(max(points[0][-1] for points in drawn.values()))
    for place, (arm, points) in enumerate(drawn.items()):
        _draw_arm(axes, arm, points, colour=colours[arm], dashed=place >= len(COLOURS), unit=unit)
    _style(axes, drawn, with_bands=with_bands)
    axes.set_xlabel(f"training tokens{unit_name}")
    if beside is not None:
        beside(panels[1], colours)
    return figure


def _draw_arm(axes: "Axes", arm: str, points: Drawn, *, colour: str, dashed: bool, unit: float) -> None:
    tokens, means, lows, highs = points
    across = [token / unit for token in tokens]
    axes.fill_between(across, lows, highs, color=colour, alpha=0.18, linewidth=0)
    label = f"{arm}  {format_number(min(means))}"
    style = "--" if dashed else "-"
    axes.plot(across, means, style, color=colour, linewidth=1.8, marker="o", markersize=3, label=label)


def style_perplexity(axes: "Axes", *, lowest: float, highest: float) -> None:
    """A vertical axis for perplexities in this range: logarithmic where it is wide."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    if highest > LOG_RATIO * lowest:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}" if highest - lowest > 5 else "{x:,.2f}"))


def _style(axes: "Axes", drawn: dict[str, Drawn], *, with_bands: bool) -> None:
    highest = max(max(points[3]) for points in drawn.values())
    lowest = min(min(points[2]) for points in drawn.values())
    style_perplexity(axes, lowest=lowest, highest=highest)
    axes.set_ylabel("validation perplexity" + (" (mean and range over seeds)" if with_bands else ""))
    axes.legend(frameon=False, title="arm, best", alignment="left")


def _token_unit(highest: int) -> tuple[float, str]:
    for unit, name in ((1e9, " (billions)"), (1e6, " (millions)"), (1e3, " (thousands)")):
        if highest >= 2 * unit:
            return unit, name
    return 1, ""
