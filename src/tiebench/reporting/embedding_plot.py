"""A picture of trained embeddings: norms over training frequency, and the spectrum."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tiebench.comparison.frequency import name_decade
from tiebench.reporting.plots import COLOURS, check_suffix, draw_panels, save_figure

Norms = Sequence[tuple[int, float, float, float]]


def plot_embeddings(
    norms: Mapping[str, Norms], spectra: Mapping[str, Sequence[float]], *, file: Path, title: str
) -> Path:
    """Draw by embedding its norms, as (decade, mean, lower and upper quartile), where there are any, and its singular
    values, and write it as SVG, PNG or PDF. Returns the file. Raises UsageError for another suffix.
    """
    check_suffix(file)
    known = any(norms.values())
    figure, panels = draw_panels(title=title, num_panels=2 if known else 1)
    axes, spectrum = panels[0], panels[-1]
    if known:
        for colour, (name, parts) in zip(COLOURS, norms.items(), strict=False):
            decades, means, lows, highs = zip(*parts, strict=True)
            axes.fill_between(decades, lows, highs, color=colour, alpha=0.18, linewidth=0)
            axes.plot(decades, means, "o-", color=colour, label=name)
            axes.set_xticks(decades, [name_decade(decade) for decade in decades], rotation=30, ha="right")
        axes.set_xlabel("times that the word stands in the training text")
        axes.set_ylabel("norm of its row (mean and quartiles)")
        axes.legend(frameon=False)
    for colour, (name, values) in zip(COLOURS, spectra.items(), strict=False):
        spectrum.plot(range(1, len(values) + 1), values, color=colour, label=name)
    spectrum.set_yscale("log")
    spectrum.set_xlabel("singular value, largest first")
    spectrum.set_ylabel("its size")
    spectrum.legend(frameon=False)
    return save_figure(figure, file=file)
