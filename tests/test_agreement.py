"""The page on the synthetic sweep is made from its figures and holds every one of them."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "agreement.py"


@pytest.fixture
def sweep() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agreement", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_point(words, agreement):
    change = 0.05 - 0.08 * agreement
    spreads = {"untied": 0.2, "tied": 0.2 + change}
    return {
        "words": words,
        "agreement": agreement,
        "seeds": [2, 3],
        "excess_nats": {arm: {"mean": mean, "deviation": 0.01, "num_seeds": 2} for arm, mean in spreads.items()},
        "change": {"nats": change, "low": change - 0.01, "high": change + 0.01, "p": 0.01},
        "outcome": "worse" if change > 0 else "better",
    }


def test_the_page_and_the_picture_hold_every_point(sweep, tmp_path):
    points = [
        make_point(words, agreement) for words, agreements in sweep.AGREEMENTS.items() for agreement in agreements
    ]
    sweep.write_results(points, started="2026-01-01T00:00:00+00:00", folder=tmp_path)
    content = json.loads((tmp_path / "agreement.json").read_text("utf-8"))
    assert content["points"] == points and content["provenance"]["versions"]
    text = (tmp_path / "agreement.md").read_text("utf-8")
    for words, agreements in sweep.AGREEMENTS.items():
        assert text.count(f"\n| {words:,} |") == len(agreements) >= 3
    assert "| 1,000 | 1 | 0.2000 | 0.1700 | -0.0300 [-0.0400, -0.0200] |" in text
    assert ElementTree.parse(tmp_path / "agreement.svg").getroot().tag.endswith("svg")


def test_a_point_is_a_comparison_on_the_text_of_its_agreement(sweep, tmp_path, monkeypatch):
    """A run of a second: the bundled file with a small text and model."""
    text = (SCRIPT.parents[1] / "configs" / "synthetic.yaml").read_text("utf-8")
    for old, new in (("width: 64", "width: 8"), ("tokens: 60_000", "tokens: 1000"), ("epochs: 8", "epochs: 1")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "synthetic.yaml").write_text(text.replace("seeds: [2, 3, 4]", "seeds: [1]"), "utf-8")
    monkeypatch.setattr(sweep, "ROOT", tmp_path)
    found = sweep.measure_point(words=20, agreement=0.25, runs=tmp_path / "runs", jobs="1")
    assert (found["words"], found["agreement"], found["seeds"]) == (20, 0.25, [1])
    untied, tied = (found["excess_nats"][arm]["mean"] for arm in ("untied", "tied"))
    assert untied > 0 and tied > 0, "no model is better than the source"
    assert found["change"]["nats"] == pytest.approx(tied - untied)
