"""What trials found: validation perplexity over each value that was tuned, a line per arm."""

from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.experiment.candidates import shorten_paths
from tiebench.experiment.tuning_config import is_number
from tiebench.reporting.plots import COLOURS, draw_panels, save_figure, style_perplexity
from tiebench.results.trials import TUNING_FILE, ArmTuning, TuningResult, average_trials, read_tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOT_FILE = "tuning.svg"

Best = dict[float, float | None]
"""Value to perplexity; None where it diverged."""


def refresh_tuning_plot(folder: Path) -> None:
    """Draw `tuning.svg` beside the `tuning.json` of an experiment, where there is one and it is newer."""
    figures, file = folder / TUNING_FILE, folder / PLOT_FILE
    if not figures.exists() or (file.exists() and file.stat().st_mtime >= figures.stat().st_mtime):
        return
    result = read_tuning(folder)
    if result is not None and find_axes(result):
        plot_tuning(result, file=file)


def find_axes(result: TuningResult) -> list[str]:
    """The tuned paths that have several numbers to be drawn over."""
    paths: dict[str, None] = {}
    for arm in result.arms.values():
        paths |= {path: None for path, tried in arm.tuned.grid.items() if len(tried) > 1 and all(map(is_number, tried))}
    return list(paths)


def plot_tuning(result: TuningResult, *, file: Path) -> Path:
    """A panel for each tuned value; where several were tuned, each point is the best over the others.

    What diverged has a cross at the top, the chosen value a ring. Returns the file.
    """
    names = shorten_paths(find_axes(result))
    figure, panels = draw_panels(title=f"{result.experiment}: trials", num_panels=len(names))
    for axes, (path, name) in zip(panels, names.items(), strict=True):
        best = {arm: find_best(found, path) for arm, found in result.arms.items()}
        for index, (arm, found) in enumerate(result.arms.items()):
            _draw_trials(axes, arm, best[arm], chosen=found.tuned.chosen[path], colour=COLOURS[index % len(COLOURS)])
        _style_axes(axes, list(best.values()), name=name)
    return save_figure(figure, file=file)


def find_best(found: ArmTuning, path: str) -> Best:
    """Value to the lowest validation perplexity with it; None where all its trials diverged."""
    best: Best = {}
    for values, perplexity in average_trials(found.trials):
        known = best.setdefault(values[path], perplexity)
        if perplexity is not None and (known is None or perplexity < known):
            best[values[path]] = perplexity
    return dict(sorted(best.items()))


def _draw_trials(axes: "Axes", arm: str, best: Best, *, chosen: float, colour: str) -> None:
    points = [(value, perplexity) for value, perplexity in best.items() if perplexity is not None]
    label = f"{arm}  {chosen:g}"
    axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.8, marker="o", markersize=4, label=label)
    axes.plot(chosen, dict(points)[chosen], marker="o", markersize=10, markerfacecolor="none", color=colour)
    diverged = [value for value, perplexity in best.items() if perplexity is None]
    across = axes.get_xaxis_transform()
    axes.plot(diverged, [0.97] * len(diverged), "x", color=colour, transform=across, clip_on=False)


def _style_axes(axes: "Axes", best: list[Best], *, name: str) -> None:
    from matplotlib.ticker import NullLocator

    values = sorted({value for found in best for value in found})
    perplexities = [perplexity for found in best for perplexity in found.values() if perplexity is not None]
    if values[0] > 0:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(name)
    axes.set_ylabel("validation perplexity")
    style_perplexity(axes, lowest=min(perplexities), highest=max(perplexities))
    axes.legend(frameon=False, title="arm, chosen", alignment="left")
