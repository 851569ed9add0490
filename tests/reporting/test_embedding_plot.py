from xml.etree import ElementTree

import pytest

from tiebench.errors import UsageError
from tiebench.reporting.embedding_plot import plot_embeddings

NORMS = {"input": [(1, 0.4, 0.3, 0.5), (2, 0.6, 0.5, 0.8)], "output": [(1, 1.4, 1.3, 1.5), (2, 1.6, 1.5, 1.8)]}
SPECTRA = {"input": [3.0, 2.0, 1.0], "output": [3.0, 1.0, 0.1]}


def test_norms_and_spectra_are_drawn_side_by_side_or_spectra_alone(tmp_path):
    both = plot_embeddings(NORMS, SPECTRA, file=tmp_path / "both.svg", title="a run")
    alone = plot_embeddings({"input": [], "output": []}, SPECTRA, file=tmp_path / "alone.svg", title="a run")
    panels = [
        sum(element.get("id", "").startswith("axes_") for element in ElementTree.parse(file).iter())
        for file in (both, alone)
    ]
    assert panels == [2, 1]


def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"'\.gif'"):
        plot_embeddings(NORMS, SPECTRA, file=tmp_path / "norms.gif", title="a run")
