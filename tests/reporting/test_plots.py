import subprocess
import sys
from functools import partial

import pytest
from matplotlib.figure import Figure

from tiebench.comparison.pairing import compare_arms
from tiebench.errors import UsageError
from tiebench.reporting.plots import plot_curves
from tiebench.reporting.price_table import draw_prices
from tiebench.results.curve import CurvePoint


def make_curve(*perplexities):
    return [
        CurvePoint(step=n, epoch=float(n), tokens=n * 929_589, seconds=1.0, learning_rate=1.0, valid_perplexity=found)
        for n, found in enumerate(perplexities, start=1)
    ]


CURVES = {
    "untied": [make_curve(300.0, 180.0, 121.0), make_curve(310.0, 190.0, 123.0)],
    "tied": [make_curve(290.0, 170.0, 117.5), make_curve(280.0, 174.0)],
}


@pytest.mark.parametrize(("suffix", "opening"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_suffix_chooses_the_format(tmp_path, suffix, opening):
    file = plot_curves(CURVES, file=tmp_path / f"curves{suffix}", title="ptb-lstm-small")
    assert file.read_bytes().startswith(opening)
    assert list(tmp_path.iterdir()) == [file]


def test_the_same_curves_make_the_same_file(tmp_path):
    once, twice = (plot_curves(CURVES, file=tmp_path / name, title="ptb") for name in ("once.svg", "twice.svg"))
    assert once.read_bytes() == twice.read_bytes()


def test_the_legend_tells_arms_and_their_best(tmp_path):
    page = plot_curves(CURVES, file=tmp_path / "curves.svg", title="ptb-lstm-small").read_text()
    for label in ("untied  122.0", "tied  172.0", "ptb-lstm-small", "training tokens (millions)", "range over seeds"):
        assert f"<!-- {label}" in page or label in page, label


def test_perplexity_over_parameters_is_drawn_beside(tmp_path, three_seeds):
    comparison = compare_arms(three_seeds, token_nll=lambda record: None)
    beside = partial(draw_prices, comparison=comparison)
    page = plot_curves(CURVES, file=tmp_path / "curves.svg", title="ptb", beside=beside).read_text()
    for label in ("parameters (millions)", "change of perplexity from untied (%)", "training tokens (millions)"):
        assert label in page, label
    alone = plot_curves(CURVES, file=tmp_path / "alone.svg", title="ptb").read_text()
    assert "parameters (millions)" not in alone


def test_each_arm_is_a_point_at_its_parameters_with_its_interval(three_seeds):
    axes = Figure().add_subplot()
    comparison = compare_arms(three_seeds, token_nll=lambda record: None)
    draw_prices(axes, {"tied": "#000000"}, comparison=comparison)
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    headline = comparison.contrasts[0].headline
    assert ([4.6532], [0.0]) in lines and ([2.6532], [headline.percent]) in lines
    assert ([2.6532, 2.6532], list(headline.percent_interval)) in lines


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot draw a '.gif' file"):
        plot_curves(CURVES, file=tmp_path / "curves.gif", title="ptb")


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(UsageError, match="no learning curve"):
        plot_curves({"tied": [[]]}, file=tmp_path / "curves.png", title="ptb")
    assert list(tmp_path.iterdir()) == []


def test_the_results_load_neither_torch_nor_what_draws():
    modules = [
        "results.record",
        "results.store",
        "comparison.pairing",
        "reporting.tables",
        "reporting.render",
        "reporting.pages",
        "reporting.plots",
    ]
    imports = "; ".join(f"import tiebench.{name}" for name in modules)
    heavy = "{'torch', 'numpy', 'scipy', 'rich', 'tabulate', 'matplotlib', 'filelock'}"
    program = f"import sys; {imports}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
