"""lm-evaluation-harness reads an exported model, offline, and finds the bits per byte that tiebench found."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tiebench.corpora.vocabulary import UNKNOWN
from tiebench.errors import TiebenchError
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


LSTMS = {
    "lstm-untied-bpe": (False, {"type": "bpe", "size": 300}, {}),
    "lstm-tied-bytes-in-rows": (True, {"type": "bytes"}, {"batch_size": 3}),
}


@pytest.mark.parametrize(("tied", "vocabulary", "evaluation"), LSTMS.values(), ids=list(LSTMS))
def test_the_python_interface_gives_an_lstm_the_bits_per_byte_of_its_record(
    tied, vocabulary, evaluation, write_experiment, tmp_path, monkeypatch
):
    folder, record = train_lstm(write_experiment, tmp_path, tied=tied, vocabulary=vocabulary, evaluation=evaluation)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import lm_eval
    from lm_eval.tasks import TaskManager

    from tiebench.execution.harness import HarnessModel

    shutil.copy(record.spec.corpus.test, tmp_path / "test.txt")
    monkeypatch.chdir(tmp_path)
    tasks = TaskManager(include_path=str(TASKS))
    answer = lm_eval.simple_evaluate(model=HarnessModel(folder), tasks=["tiebench_text"], task_manager=tasks)
    found = answer["results"]["tiebench_text"]["bits_per_byte,none"]
    expected = record.evaluations["test"].bits_per_byte
    assert expected is not None and 1 < expected < 8
    assert found == pytest.approx(expected, rel=1e-9), "the same computation"


def train_lstm(write_experiment, tmp_path, *, tied, vocabulary, evaluation=None):
    """The folder and the record of an LSTM; no word of its text is lost."""
    (run,) = load_experiment(
        write_experiment(tie=tied, vocabulary=vocabulary, evaluation=evaluation or {}, arms=None)
    ).list_runs()
    corpus = run.spec.corpus
    for split in SPLITS:
        text = Path(getattr(corpus, split)).read_text("utf-8").replace(UNKNOWN, "rare")
        (tmp_path / f"own-{split}.txt").write_text(text, "utf-8")
    files = {split: str(tmp_path / f"own-{split}.txt") for split in SPLITS}
    spec = run.spec.model_copy(update={"corpus": corpus.model_copy(update=files)})
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    record = execute_run(replace(run, spec=spec), settings=settings)
    return settings.store.folder_of(record), record


@pytest.mark.parametrize("architecture", ["lstm", "gpt2"])
def test_continuations_add_up_to_the_whole_text(architecture, write_experiment, tmp_path):
    from lm_eval.api.instance import Instance

    from tiebench.execution.harness import HarnessModel

    body = {"type": "lstm", "layers": 1, "width": 16} if architecture == "lstm" else ARCHITECTURES["gpt2"]
    training = {"epochs": 1, "batch_size": 4, "window": 16, "optimizer": OPTIMIZER}
    blocks = {"architecture": body, "training": training, "vocabulary": {"type": "bytes"}, "tie": True, "arms": None}
    (run,) = load_experiment(write_experiment(**blocks)).list_runs()
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    model = HarnessModel(settings.store.folder_of(execute_run(run, settings=settings)))

    def ask(*pairs):
        return model.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs])

    parts = ask(("", "the"), ("the", " re"), ("the re", "st\n"))
    (rolling,) = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("the rest\n",), 0)])
    assert sum(nats for nats, _ in parts) == pytest.approx(rolling, rel=1e-5)
    (moved,), (given,) = ask(("the ", "re")), ask(("the", " re"))
    assert moved == given, "white space begins what follows"
    answers = ask(*(("the", bytes([byte]).decode()) for byte in range(128)))
    likeliest = max(range(128), key=lambda byte: answers[byte][0])
    assert [byte for byte, (_, greedy) in enumerate(answers) if greedy] == [likeliest]
    assert ask(("the", "")) == [(0.0, True)] and model.score_text("") == 0.0
    if architecture == "gpt2":
        with pytest.raises(TiebenchError, match="an answer has 30 tokens, and the model sees 24 at once"):
            ask(("the", "x" * 30))
        assert ask(("x" * 50, "y"))[0][0] < 0, "what it cannot see is left out"


def test_a_text_whose_words_are_lost_has_no_likelihood(write_experiment, tmp_path):
    from tiebench.execution.harness import HarnessModel

    folder, record = train_lstm(write_experiment, tmp_path, tied=True, vocabulary={"type": "words"})
    model = HarnessModel(folder)
    assert record.vocabulary.type == "words" and model.score_text("the\n") < 0
    with pytest.raises(TiebenchError, match=r"has words that the vocabulary of .* does not have \(1\)"):
        model.score_text("the xyzzy\n")


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
