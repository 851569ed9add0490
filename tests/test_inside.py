"""The page on trained embeddings holds what `inspect` and `quantise` say of each run."""

import json
import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "inside.py"


def test_the_page_holds_every_embedding_and_every_rounding_of_each_run(trained_once, tmp_path):
    runs = [trained_once / "results" / "tiny" / arm / "seed-1" for arm in ("untied", "tied")]
    runpy.run_path(str(SCRIPT))["write_results"](runs, data_dir=None, folder=tmp_path)
    found = json.loads((tmp_path / "inside.json").read_text("utf-8"))
    assert [list(each["matrices"]) for each in found["inspected"]] == [["input", "output"], ["tied"]]
    roundings = [(each["arm"], each["embedding"], each["bits"]) for each in found["quantised"]]
    assert roundings == [
        ("untied", "none", None),
        *[("untied", part, bits) for bits in (8, 6, 4) for part in ("input", "output", "both")],
        ("tied", "none", None),
        *[("tied", "tied", bits) for bits in (8, 6, 4)],
    ]
    text = (tmp_path / "inside.md").read_text("utf-8")
    for each in found["quantised"]:
        assert f" {each['num_bytes']:,} |" in text
    for measures in (matrix for each in found["inspected"] for matrix in each["matrices"].values()):
        assert f"{measures['isoscore']:.3f}" in text
    assert str(trained_once) not in text and str(trained_once) not in json.dumps(found)
