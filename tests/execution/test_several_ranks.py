"""One run over two ranks finds what one process finds: real processes on this machine, started by torchrun."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tiebench.execution.run import execute_run
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback
from tiebench.training.checkpoints import CHECKPOINT_FILE, read_checkpoint
from tiebench.training.signals import Interrupted

STEPS, EVALUATE_EVERY, BATCH, WINDOW = 12, 4, 4, 10
LONG_STEPS = 1_500  # of which some are left when a signal arrives, also on a machine that does more
PATIENCE_SECONDS = 900  # for a machine that does other things too
TRAINING = {
    "steps": STEPS,
    "evaluate_every": EVALUATE_EVERY,
    "batch_size": BATCH,
    "window": WINDOW,
    "optimizer": {"type": "adamw", "learning_rate": 0.003, "clip_norm": 1.0},
}
SGD = {"optimizer": {"type": "sgd", "learning_rate": 1.0}}
MOMENTUM = {"optimizer": {**SGD["optimizer"], "momentum": 0.5, "learning_rate": 0.1}}
SHARDED = {"sharding": True}
LSTM = {"type": "lstm", "layers": 2, "width": 16, "dropout": 0.3}
GPT2 = {"type": "gpt2", "layers": 2, "width": 16, "heads": 2, "positions": 32, "dropout": 0.1}
LLAMA = {"type": "llama", "layers": 2, "width": 16, "heads": 2, "dropout": 0.1}
PER_GATE = {"variational": True, "masks": "per_gate"}
PENALISED = {"output_projection": {"penalty": 0.1}}
MEASURED = {"measure_gradients": True, "optimizer": {**TRAINING["optimizer"], "clip_lookups": "unsummed"}}
LONG = {"steps": LONG_STEPS, "evaluate_every": 50}
ARMS = {
    "lstm-untied": {"training": SGD},
    "lstm-tied": {"tie": True, "embedding": PENALISED, "training": {"accumulate": 2}},
    "lstm-per-gate": {"tie": True, "architecture": PER_GATE, "embedding": {"word_dropout": 0.2}},
    "lstm-late": {"tie": {"type": "untied-late", "at": 0.5}},
    "lstm-tied-sharded": {"tie": True, "embedding": PENALISED, "training": {"accumulate": 2, **SHARDED}},
    "gpt2-untied": {"architecture": GPT2},
    "gpt2-tied": {"architecture": GPT2, "tie": True, "training": MEASURED},
    "gpt2-tied-sharded": {"architecture": GPT2, "tie": True, "training": SHARDED},
    "llama-tied": {"architecture": LLAMA, "tie": True},
    "llama-bands": {"architecture": LLAMA, "embedding": {"adaptive": {"cutoffs": [20, 300], "factor": 2}}},
    "llama-untied-sharded": {"architecture": LLAMA, "training": {**MOMENTUM, **SHARDED}},
    "llama-shared-sharded": {"architecture": {**LLAMA, "share": "all"}, "training": SHARDED},
}
LONG_ARMS = {"long": {"training": LONG}, "long-sharded": {"tie": True, "training": {**LONG, **SHARDED}}}
GOING_ON = ("lstm-tied", "lstm-tied-sharded", "gpt2-tied-sharded", "llama-untied-sharded")


class StopAtFirstEvaluation(Callback):
    def report_evaluation(self, point) -> None:
        if point.step == EVALUATE_EVERY:
            signal.raise_signal(signal.SIGTERM)


def list_runs(config: Path) -> dict:
    return {run.arm: run for run in load_experiment(config).list_runs()}


def train_alone(run, results: Path, *, device: str = "cpu", callback: Callback | None = None):
    settings = Settings(store=Store(results), device=device, num_threads=1)
    return execute_run(run, settings=settings, callback=callback)


def start_ranks(
    config: Path,
    results: Path,
    *options: str,
    program: tuple[str, ...] = ("-m", "tiebench"),
    num_ranks: int = 2,
    device: str = "cpu",
) -> subprocess.Popen:
    """Ranks on this machine, which talk over the loopback interface, as a process that is not waited for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks)]
    command = [*launcher, "--master-addr", "127.0.0.1", "--master-port", str(port), *program, "train", str(config)]
    command += ["--results", str(results), "--device", device, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def find_rank(launcher: int, rank: int) -> int:
    """The process of a rank."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise LookupError(f"rank {rank} is not among the processes of {launcher}")


def wait_for_checkpoint(process: subprocess.Popen, folder: Path) -> None:
    while not (folder / CHECKPOINT_FILE).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def compared(tiny_corpus, tmp_path_factory):
    """Every arm by one process in `alone` and by two in `ranks`, where some go on from a checkpoint of one process."""
    import yaml

    folder = tmp_path_factory.mktemp("ranks")
    experiment = {"corpus": dict(tiny_corpus), "architecture": LSTM, "embedding": {"init": {"uniform": 0.1}}}
    arms = {name: {"tie": False, **arm} for name, arm in (ARMS | LONG_ARMS).items()}
    experiment |= {"training": TRAINING, "seeds": [1], "arms": arms}
    (folder / "ranks.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False), "utf-8")
    runs = list_runs(folder / "ranks.yaml")
    for run in runs.values():
        train_alone(run, folder / "alone")
    for arm in GOING_ON:
        with pytest.raises(Interrupted):
            train_alone(runs[arm], folder / "ranks", callback=StopAtFirstEvaluation())
    process = start_ranks(folder / "ranks.yaml", folder / "ranks", *(f"--arm={arm}" for arm in ARMS))
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    return folder, runs, said


def assert_same(run, one: Store, other: Store) -> None:
    """Two records agree in what they are of, and to rounding in every figure.

    A gradient sums over the tokens of a batch. In another order, a sum of n numbers differs by at most n * 2**-24 of
    the sum of their magnitudes, and the differences of all steps add up.
    """
    tolerance = run.spec.training.steps * BATCH * WINDOW * 2**-24
    folders = [store.folder(run.experiment, run.arm, run.seed) for store in (one, other)]
    found, wanted = (store.read(folder) for store, folder in zip((one, other), folders, strict=True))
    assert found is not None and wanted is not None
    assert (found.signature, found.parameters, found.corpus) == (wanted.signature, wanted.parameters, wanted.corpus)
    assert found.checkpoint == wanted.checkpoint and found.usage.tokens == wanted.usage.tokens
    for split, evaluation in wanted.evaluations.items():
        assert found.evaluations[split].nll == pytest.approx(evaluation.nll, rel=tolerance)
    nll = [np.load(folder / "test-nll.npy") for folder in folders]
    np.testing.assert_allclose(*nll, rtol=0, atol=tolerance * nll[1].max())
    curves = [store.curve(record) for store, record in ((one, found), (other, wanted))]
    assert [point.step for point in curves[0]] == [point.step for point in curves[1]]
    for ours, theirs in zip(*curves, strict=True):
        assert ours.train_nll_per_token == pytest.approx(theirs.train_nll_per_token, rel=tolerance)
        if theirs.gradient is not None:
            assert ours.gradient.input_norm == pytest.approx(theirs.gradient.input_norm, rel=10 * tolerance)
            assert ours.gradient.output_norm == pytest.approx(theirs.gradient.output_norm, rel=10 * tolerance)


@pytest.mark.parametrize("arm", ARMS)
def test_the_record_of_two_ranks_is_that_of_one_process(compared, arm):
    folder, runs, _ = compared
    assert_same(runs[arm], Store(folder / "ranks"), Store(folder / "alone"))


@pytest.mark.parametrize("arm", GOING_ON)
def test_two_ranks_go_on_where_one_process_was_interrupted(compared, arm):
    _, runs, said = compared
    assert f"{runs[arm].name}: going on from step {EVALUATE_EVERY + 1} of {STEPS}" in said


def test_the_record_says_how_many_ranks_there_were_and_how_they_were_started(compared):
    folder, runs, _ = compared
    store = Store(folder / "ranks")
    for run in (runs[arm] for arm in ARMS):
        record = store.read(store.folder(run.experiment, run.arm, run.seed))
        assert record is not None and record.provenance.hardware["ranks"] == 2
        assert record.provenance.command.startswith("torchrun --nproc-per-node 2 -m tiebench train ")


def test_a_tied_matrix_is_stored_once_however_it_was_trained(compared):
    folder, runs, _ = compared
    for arm in ("gpt2-tied-sharded", "lstm-tied-sharded", "llama-tied"):
        weights = load_file(folder / "ranks" / runs[arm].name / "weights.safetensors")
        alone = load_file(folder / "alone" / runs[arm].name / "weights.safetensors")
        assert [name for name in weights if name in ("embedding.shared", "embedding.input", "embedding.output")] == [
            "embedding.shared"
        ]
        assert {name: each.shape for name, each in weights.items()} == {n: each.shape for n, each in alone.items()}


def test_one_process_goes_on_where_two_ranks_were_told_to_end(compared):
    """The ranks are told as torchrun tells them when it is told, but nobody kills them after its 30 seconds."""
    folder, runs, _ = compared
    run = runs["long-sharded"]
    place = folder / "told" / run.name
    process = start_ranks(folder / "ranks.yaml", folder / "told", "--arm", run.arm)
    wait_for_checkpoint(process, place)
    for told in [find_rank(process.pid, rank) for rank in (0, 1)]:
        os.kill(told, signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode != 0 and f"{run.name} was checkpointed at step" in said
    kept = read_checkpoint(place)
    assert kept is not None and 0 < kept["train_state"]["step"] < LONG_STEPS
    train_alone(run, folder / "told")
    assert_same(run, Store(folder / "told"), Store(folder / "alone"))


def test_a_rank_that_is_killed_ends_the_run_which_one_process_finishes(compared):
    folder, runs, _ = compared
    run = runs["long"]
    place = folder / "killed" / run.name
    process = start_ranks(folder / "ranks.yaml", folder / "killed", "--arm", run.arm)
    wait_for_checkpoint(process, place)
    os.kill(find_rank(process.pid, 1), signal.SIGKILL)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode != 0
    assert f"{run.name}: another rank ended without a word" in said
    assert (place / CHECKPOINT_FILE).exists() and not (place / "heartbeat.json").exists()
    train_alone(run, folder / "killed")
    assert_same(run, Store(folder / "killed"), Store(folder / "alone"))


def test_what_one_rank_says_before_it_fails_is_the_message_of_the_command(compared):
    folder, runs, _ = compared
    program = (str(Path(__file__).with_name("failing_rank.py")),)
    process = start_ranks(folder / "ranks.yaml", folder / "failed", "--arm", "gpt2-tied", program=program)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode != 0
    assert f"error: {runs['gpt2-tied'].name}, rank 1: this rank has had enough\nhint: give it a rest\n" in said
    assert not (folder / "failed" / runs["gpt2-tied"].name / "record.json").exists()


@pytest.mark.gpu
def test_a_rank_on_a_gpu_finds_what_a_process_on_it_finds(compared):
    """With nccl, whole and cut: one rank is what one GPU has room for."""
    folder, runs, _ = compared
    arms = ("lstm-tied", "lstm-tied-sharded", "gpt2-untied", "llama-untied-sharded")
    for arm in arms:
        train_alone(runs[arm], folder / "gpu-alone", device="cuda")
    options = {"num_ranks": 1, "device": "cuda"}
    process = start_ranks(folder / "ranks.yaml", folder / "gpu", *(f"--arm={arm}" for arm in arms), **options)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    for arm in arms:
        assert_same(runs[arm], Store(folder / "gpu"), Store(folder / "gpu-alone"))
