"""The loop: its budgets, its memory of the best, when it stops; and step by step the training of a plain loop."""

import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from precision import BFLOAT16_ROUNDING, bound_error
from torch._dynamo.utils import counters
from torch.nn import functional as F

from tiebench.corpora.opening import open_corpus
from tiebench.execution.run import execute_run, load_data, open_model
from tiebench.execution.run_data import reload_data
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.experiment.training_config import TrainingConfig
from tiebench.models.language_model import build_model, initialise_model
from tiebench.results.curve import read_curve
from tiebench.results.record import read_record
from tiebench.results.store import Store
from tiebench.training import trainer as trainer_module
from tiebench.training.budget import plan_steps
from tiebench.training.callbacks import Callback
from tiebench.training.checkpoints import read_weights
from tiebench.training.evaluation import score_stream
from tiebench.training.trainer import Trainer

pytestmark = pytest.mark.numeric
BATCH, WINDOW = 4, 10
# Roundings of a gradient: a sum over the tokens of a step, and over a vocabulary of less than 300 words, of vectors
# that stand on sums over the width of 16, a few in a row.
NUM_ROUNDINGS = BATCH * WINDOW + 300 + 8 * 16
BUDGET = {"batch_size": BATCH, "window": WINDOW}
SGD = {"type": "sgd", "learning_rate": 1.0, "clip_norm": 0.5}
STANDING_STILL = {"type": "sgd", "learning_rate": 1e-12}
NUM_STEPS = 24  # in an epoch of the tiny corpus


@pytest.fixture
def load_run(write_experiment):
    """The only run of an experiment with one arm."""

    def load(*, training: dict, tie: bool = True, **blocks):
        (run,) = load_experiment(
            write_experiment(arms=None, tie=tie, training={**BUDGET, **training}, **blocks)
        ).list_runs()
        return run

    return load


@pytest.fixture
def train(load_run, tmp_path):
    """Train one arm; returns its record and its curve."""

    def run_through(*, callback: Callback | None = None, **blocks):
        run = load_run(**blocks)
        store = Store(tmp_path / "results")
        record = execute_run(run, settings=Settings(store=store, device="cpu"), callback=callback)
        return record, store.curve(record)

    return run_through


@pytest.fixture
def open_trainer(load_run, tmp_path):
    """A trainer that has not begun."""

    def open_one(**blocks) -> Trainer:
        run = load_run(**blocks)
        data = load_data(run)
        model = build_model(run.spec, vocabulary_size=data.vocabulary.size)
        initialise_model(model, seed=run.seed)
        return Trainer(run, model, streams=data.streams, folder=tmp_path / "fresh", callback=Callback())

    return open_one


def list_weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in trainer.model.named_parameters()}


def assert_moved_as(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], *, start: dict[str, torch.Tensor]
) -> None:
    """The same but for rounding; steps and terms may have cancelled to a fourth in the weight that moved furthest."""
    furthest = max(float((tensor - start[name]).abs().max()) for name, tensor in expected.items())
    for name, tensor in expected.items():
        limit = bound_error(NUM_ROUNDINGS, size=4 * furthest)
        torch.testing.assert_close(
            found[name], tensor, rtol=0.0, atol=limit, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_validation_may_have_rows_of_its_own(train):
    record, curve = train(training={"epochs": 1, "optimizer": SGD}, evaluation={"valid_batch_size": 3, "train": True})
    rows = {split: found.protocol["batch_size"] for split, found in record.evaluations.items()}
    assert rows == {"train": 1, "valid": 3, "test": 1}
    assert curve[-1].valid_perplexity == pytest.approx(record.evaluations["valid"].perplexity, rel=1e-12), (
        "while training too"
    )


# Against a plain loop


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_training_is_that_of_a_plain_loop(tie, open_trainer, tmp_path):
    """Two epochs of an LSTM in plain torch: rows, carried states, Zaremba's schedule, clipping, SGD."""
    schedule = {"type": "step", "hold_epochs": 1, "factor": 0.5}
    trainer = open_trainer(
        tie=tie,
        training={
            "epochs": 2,
            "optimizer": SGD,
            "schedule": schedule,
            "reduction": "window_sum",
            "random_offset": False,
        },
    )
    weights = {name: torch.nn.Parameter(tensor) for name, tensor in list_weights(trainer).items()}
    body = torch.nn.LSTM(16, 16, batch_first=True)
    for name in list(body._parameters):
        body._parameters[name] = weights[f"architecture.layers.0.{name}"]
    looked_up = weights["embedding.shared" if tie else "embedding.input"]
    scoring = weights["embedding.shared" if tie else "embedding.output"]
    optimizer = torch.optim.SGD(weights.values(), lr=1.0)
    ids = torch.from_numpy(trainer.streams["train"].ids.astype("int64"))
    columns = (len(ids) - 1) // BATCH
    rows = torch.stack([ids[row * columns : (row + 1) * columns + 1] for row in range(BATCH)])
    num_steps, nats, moved = 0, 0.0, {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for epoch in range(2):
        state = None
        for start in range(0, columns, WINDOW):
            piece = rows[:, start : min(start + WINDOW, columns) + 1]
            hidden, (memory, cell) = body(looked_up[piece[:, :-1]], state)
            state = memory.detach(), cell.detach()
            loss = (
                F.cross_entropy((hidden @ scoring.t()).flatten(0, 1), piece[:, 1:].flatten(), reduction="sum") / BATCH
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(weights.values()), 0.5)
            optimizer.param_groups[0]["lr"] = (1.0, 0.5)[epoch]
            optimizer.step()
            for name, weight in weights.items():
                moved[name] += (1.0, 0.5)[epoch] * weight.grad.abs()
            num_steps += 1
            nats += loss.item() * BATCH if epoch == 1 else 0.0
    progress = trainer.fit()
    assert progress.step == num_steps == 2 * NUM_STEPS
    wanted = nats / (BATCH * columns)
    assert progress.curve[1].train_nll_per_token == pytest.approx(wanted, rel=bound_error(NUM_ROUNDINGS))
    for name, tensor in list_weights(trainer).items():
        limit = bound_error(NUM_ROUNDINGS, size=4 * float(moved[name].max()))  # what moved it may cancel to a fourth
        torch.testing.assert_close(
            tensor, weights[name].detach(), rtol=0.0, atol=limit, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("objective", ["cross_entropy", "augmented"])
@pytest.mark.parametrize("reduction", ["token_mean", "window_sum"])
@pytest.mark.parametrize("architecture", ["lstm", "gpt2"])
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_micro_batches_leave_the_training_as_it_is(tie, architecture, reduction, objective, open_trainer, make_block):
    found = []
    for accumulate in (1, 2, 4):
        training = {
            "steps": 3,
            "optimizer": SGD,
            "accumulate": accumulate,
            "reduction": reduction,
            "objective": {"type": objective},
        }
        embedding = {"init": {"uniform": 0.1}, "output_bias": True, "output_projection": {"penalty": 0.1}}
        trainer = open_trainer(tie=tie, architecture=make_block(architecture), embedding=embedding, training=training)
        for _ in range(3):
            trainer.train_step()
        found.append((list_weights(trainer), trainer.state.nll_since_evaluation))
    start = list_weights(
        open_trainer(tie=tie, architecture=make_block(architecture), embedding=embedding, training=training)
    )
    for weights, nats in found[1:]:
        assert nats == pytest.approx(found[0][1], rel=bound_error(NUM_ROUNDINGS))
        assert_moved_as(weights, found[0][0], start=start)
    assert not torch.equal(found[0][0]["embedding.output_bias"], start["embedding.output_bias"])


# Budgets


@pytest.mark.parametrize(
    ("budget", "num_steps"),
    [({"epochs": 3}, 3 * 24), ({"steps": 7}, 7), ({"tokens": 200}, 5), ({"tokens": 201}, 6), ({"tokens": 1}, 1)],
)
def test_a_budget_is_a_number_of_steps(budget, num_steps):
    assert (
        plan_steps(TrainingConfig.model_validate({**BUDGET, **budget, "optimizer": SGD}), steps_per_epoch=24)
        == num_steps
    )


def test_the_last_step_is_always_evaluated(train):
    record, curve = train(training={"steps": 7, "evaluate_every": 3, "optimizer": SGD})
    assert [point.step for point in curve] == [3, 6, 7]
    assert record.usage.steps == 7 and record.usage.tokens == 7 * BATCH * WINDOW
    assert [point.epoch for point in curve] == pytest.approx([3 / NUM_STEPS, 6 / NUM_STEPS, 7 / NUM_STEPS])


def test_early_stopping_counts_evaluations_without_gain(train):
    record, curve = train(training={"epochs": 9, "early_stopping": {"patience": 2}, "optimizer": STANDING_STILL})
    assert [point.step for point in curve] == [NUM_STEPS, 2 * NUM_STEPS, 3 * NUM_STEPS]
    assert record.checkpoint.step == NUM_STEPS and record.usage.steps == 3 * NUM_STEPS


def test_a_plateau_divides_the_rate_of_the_steps_that_follow(train):
    _, curve = train(
        training={"epochs": 4, "optimizer": STANDING_STILL, "schedule": {"type": "plateau", "factor": 0.25}}
    )
    rates = [point.learning_rate / 1e-12 for point in curve]
    assert rates == pytest.approx([1.0, 1.0, 0.25, 0.0625]), "the rate that the steps before the evaluation had"


# What is kept and written down


class Listening(Callback):
    """Remembers the stages of a run and the tokens of each."""

    def __init__(self) -> None:
        self.stages: list[list] = []

    def start_stage(self, name, *, total_tokens, done_tokens=0) -> None:
        self.stages.append([name, total_tokens, done_tokens])

    def advance(self, num_tokens, *, nll_per_token=None) -> None:
        self.stages[-1][2] += num_tokens


def test_the_best_weights_are_scored_and_the_test_split_once(train, tmp_path):
    callback = Listening()
    optimizer = {"type": "adamw", "learning_rate": 0.05}  # learns the little text by heart
    record, curve = train(training={"epochs": 8, "evaluate_every": 12, "optimizer": optimizer}, callback=callback)
    best = min(curve, key=lambda point: point.valid_perplexity)
    assert best.step < curve[-1].step, "the best is not simply the last"
    assert record.checkpoint.step == best.step
    assert record.evaluations["valid"].perplexity == pytest.approx(best.valid_perplexity, rel=1e-9)
    assert record.training_perplexity == pytest.approx(math.exp(best.train_nll_per_token))
    stages = [stage for stage, *_ in callback.stages]
    assert stages.count("test") == 1 and stages.count("valid") == len(curve), "what was scored is not scored again"
    assert all(done == total for stage, total, done in callback.stages if stage != "train")
    folder = Store(tmp_path / "results").folder_of(record)
    model = open_model(record, folder)
    assert not model.training
    read_weights(model, folder)
    stream = reload_data(record, folder).streams["valid"]
    again = score_stream(model, stream, spec=record.spec.for_split("valid"))
    assert again.nll == record.evaluations["valid"].nll, "to the bit"


def test_the_record_says_what_was_read_and_what_it_took(train, tmp_path):
    record, curve = train(training={"epochs": 2, "optimizer": SGD}, evaluation={"train": True})
    corpus = open_corpus(record.spec.corpus)
    assert record.corpus.checksum == corpus.checksum
    assert set(record.evaluations) == {"train", "valid", "test"}
    for split, found in record.evaluations.items():
        text = corpus.files[split].read_text("utf-8")
        assert found.tokens == len(text.split()) + text.count("\n") == record.corpus.splits[split].tokens
        assert found.words == len(text.split()) and found.bytes == len(text.encode())
    assert record.usage.first_loss_nats == pytest.approx(math.log(record.vocabulary.size), rel=0.05)
    assert record.warnings == []
    assert record.usage.tokens == sum(1 for _ in range(2)) * (record.corpus.splits["train"].tokens // BATCH) * BATCH
    folder = Store(tmp_path / "results").folder_of(record)
    assert read_record(folder) == record and read_curve(folder) == curve


def test_a_surprising_first_loss_is_a_warning(train):
    record, _ = train(training={"steps": 1, "optimizer": SGD}, embedding={"init": {"uniform": 30.0}})
    assert len(record.warnings) == 1 and "embedding.init" in record.warnings[0]


def test_equal_seeds_equal_runs_and_other_seeds_other_ones(train, make_block):
    blocks = {"architecture": make_block("lstm", dropout=0.4), "training": {"steps": 5, "optimizer": SGD}}
    first, again, other = (
        train(**blocks, name=name, seeds=[seed])[0].evaluations["test"].nll
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other


def test_bfloat16_trains_to_about_the_same(train):
    full, rounded = (
        train(training={"epochs": 2, "optimizer": SGD, "precision": precision}, name=precision)[0]
        .evaluations["test"]
        .perplexity
        for precision in ("fp32", "bf16")
    )
    # scores are below 3, and three times rounded: hidden vector, weight and score
    limit = bound_error(3, size=3.0, rounding=BFLOAT16_ROUNDING)
    assert math.log(rounded) == pytest.approx(math.log(full), abs=limit) and rounded != full


# Compiled


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++, and there is none")
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_compiled_training_is_the_training(tie, open_trainer, make_block):
    found = []
    for compiled in (False, True):
        training = {"steps": 3, "optimizer": SGD, "compile": compiled}
        trainer = open_trainer(tie=tie, architecture=make_block("gpt2"), training=training)
        start = list_weights(trainer)
        torch._dynamo.reset(), counters.clear()
        for _ in range(3):
            trainer.train_step()
        found.append((list_weights(trainer), trainer.state.nll_since_evaluation))
        assert (counters["stats"]["unique_graphs"] > 0) == compiled
    (plain, nats), (weights, compiled_nats) = found
    assert compiled_nats == pytest.approx(nats, rel=bound_error(NUM_ROUNDINGS))
    assert_moved_as(weights, plain, start=start)


def test_where_torch_cannot_compile_it_says_what_to_do(write_experiment, make_block, tmp_path):
    training = {"steps": 1, "optimizer": SGD, "compile": True, **BUDGET}
    config = write_experiment(arms=None, tie=True, architecture=make_block("gpt2"), training=training)
    (tmp_path / "bin").mkdir()
    nothing = {"PATH": str(tmp_path / "bin"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    command = [sys.executable, "-m", "tiebench", "train", str(config), "--results", str(tmp_path / "results")]
    answer = subprocess.run(command, env=os.environ | nothing, capture_output=True, text=True, check=False)
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    assert "error: training.compile: torch cannot compile this model here: " in answer.stderr
    assert "install them, or train with --set training.compile=false" in answer.stderr


# What a screen is told


def test_a_loss_that_is_shown_is_of_the_steps_whose_losses_were_read(open_trainer, monkeypatch):
    """On a GPU losses are read many steps at a time; the steps since then count neither above nor below the line."""
    shown = {}
    for every in (1, 4):
        monkeypatch.setitem(trainer_module.READ_EVERY_STEPS, "cpu", every)
        trainer = open_trainer(training={"steps": 9, "optimizer": SGD})
        seen = []
        trainer.callback.advance = lambda number, *, nll_per_token, seen=seen: seen.append(nll_per_token)
        for _ in range(9):
            trainer.train_step()
        shown[every] = seen
    assert shown[4] == [shown[1][0]] * 3 + [shown[1][3]] * 4 + [shown[1][7]] * 2
