"""lm-evaluation-harness reads an exported model, offline, and finds the bits per byte that tiebench found."""

import json
import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tiebench.corpora.vocabulary import UNKNOWN
from tiebench.execution.exporting import export_run
from tiebench.execution.run import execute_run
from tiebench.execution.settings import Settings
from tiebench.experiment.corpus_config import SPLITS
from tiebench.experiment.loading import load_experiment
from tiebench.reporting.model_card import write_model_card
from tiebench.results.store import Store

TASKS = Path(__file__).parents[2] / "examples" / "lm-eval"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("lm_eval") is None, reason='needs lm-eval: pip install "tiebench[lm-eval]"'),
    pytest.mark.skipif(not TASKS.is_dir(), reason="needs the examples of a checkout"),
]
OPTIMIZER = {"type": "adamw", "learning_rate": 0.02}
ARCHITECTURES = {
    "gpt2": {"type": "gpt2", "layers": 1, "width": 16, "heads": 2, "positions": 24},
    "llama": {"type": "llama", "layers": 1, "width": 16, "heads": 2, "max_context": 24},
}


@pytest.mark.parametrize(
    ("architecture", "tied", "vocabulary"),
    [("gpt2", True, {"type": "bpe", "size": 300}), ("llama", False, {"type": "bytes"})],
    ids=["gpt2-tied-bpe", "llama-untied-bytes"],
)
def test_bits_per_byte_are_the_same(architecture, tied, vocabulary, tiny_corpus, tmp_path):
    texts = {split: Path(tiny_corpus[split]).read_text("utf-8") for split in SPLITS}
    for split, text in texts.items():  # where words are lost, there are no bits per byte
        (tmp_path / f"{split}.txt").write_text(text.replace(UNKNOWN, "rare"), "utf-8")
    experiment = {
        "corpus": {"type": "text"} | {split: f"{split}.txt" for split in SPLITS},
        "architecture": ARCHITECTURES[architecture],
        "vocabulary": vocabulary,
        "training": {"epochs": 1, "batch_size": 4, "window": 16, "optimizer": OPTIMIZER},
        "evaluation": {"context": 24},
        "tie": tied,
    }
    config = tmp_path / "only.yaml"
    config.write_text(yaml.safe_dump(experiment), "utf-8")
    (run,) = load_experiment(config).list_runs()
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    expected = execute_run(run, settings=settings).evaluations["test"].bits_per_byte
    folder = settings.store.folder(run.experiment, run.arm, run.seed)
    export_run(folder, to=tmp_path / "model", write_card=partial(write_model_card, unsaid=[]))
    found = run_harness(tmp_path)["results"]["tiebench_text"]["bits_per_byte,none"]
    assert expected is not None and 1 < expected < 8
    assert found == pytest.approx(expected, rel=1e-5)


def run_harness(folder):
    """What `lm_eval` writes about the model in `folder`, as the example says to call it; nothing may be downloaded."""
    typed = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", "pretrained=model", "--device", "cpu"]
    typed += ["--include_path", str(TASKS), "--tasks", "tiebench_text", "--output_path", "found"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    environment = {**os.environ, **offline}
    answer = subprocess.run(typed, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-3000:]
    (file,) = (folder / "found").rglob("results*.json")
    return json.loads(file.read_text("utf-8"))
