"""The training loop: batches in, a learning curve and the best weights out, able to stop and go on at any step."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiebench.corpora.stream import TokenStream
from tiebench.errors import TiebenchError
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import CurvePoint, write_curve
from tiebench.training.batches import Batches
from tiebench.training.checkpoints import read_checkpoint, write_checkpoint, write_weights
from tiebench.training.evaluation import MOST_NATS, score_stream
from tiebench.training.signals import Interrupted, noticing_signals
from tiebench.models.language_model import LanguageModel, compile_encode
from tiebench.training.objective import choose_scale, compute_loss, compute_penalty
from tiebench.training.callbacks import Observer
from tiebench.training.optimizers import build_optimizer
from tiebench.training.schedules import scale_learning_rate
from tiebench.models.generators import open_stream

CHECKPOINT_SECONDS = 60.0
SURPRISING_FIRST_LOSS = 1.3
READ_EVERY_STEPS = {"cpu": 1}
READ_EVERY_STEPS_ELSEWHERE = 50


@dataclass
class Progress:
    """Everything about how far a run is that is not a tensor."""

    step: int = 0
    evaluated_step: int = 0
    best_step: int = 0
    best_perplexity: float = math.inf
    best_training_perplexity: float | None = None
    num_plateaus: int = 0
    evaluations_without_gain: int = 0
    tokens: int = 0
    nats_since_evaluation: float = 0.0
    tokens_since_evaluation: int = 0
    first_loss_nats: float | None = None
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    num_packed: int | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """One run's training. `fit` returns when the budget is spent or validation stopped improving.

    Raises Interrupted after a checkpoint on Ctrl-C or SIGTERM, TiebenchError when the loss is no number any more.
    """

    def __init__(
        self,
        run: RunSpec,
        model: LanguageModel,
        *,
        streams: dict[str, TokenStream],
        folder: Path,
        observer: Observer,
    ) -> None:
        self.run, self.model, self.folder, self.observer = run, model, folder, observer
        self.training = run.spec.training
        self.streams = streams
        self.device = next(model.parameters()).device
        self.batches = Batches(
            stream=streams["train"],
            batch_size=self.training.batch_size,
            window=self.training.window,
            contiguous=model.architecture.recurrent,
            seed=run.seed,
            device=self.device,
        )
        self.num_steps = plan_steps(self.training, steps_per_epoch=self.batches.steps_per_epoch)
        self.optimizer = build_optimizer(model, self.training.optimizer)
        self.dropout_stream = open_stream(run.seed, "dropout", device=self.device)
        model.set_dropout_stream(self.dropout_stream)
        self.encode = compile_encode(model) if self.training.compile else model.encode
        self.progress = Progress()
        self.states: list[Any] = [None] * self.training.accumulate
        self.unread_nats: list[Tensor] = []
        self.mean_nats: float | None = None
        self.interrupted = False
        self._resume()

    @property
    def evaluate_every(self) -> int:
        return self.training.evaluate_every or self.batches.steps_per_epoch

    def fit(self) -> Progress:
        """Train to the end of the budget."""
        with noticing_signals(self.interrupt):
            for _ in self.list_steps():
                started = time.perf_counter()
                self._step()
                self.progress.train_seconds += time.perf_counter() - started
        return self.progress

    def list_steps(self) -> Iterator[int]:
        """The number of each step when it is due; whoever asks makes it, alone or with other runs, and asks again.

        What lies between the steps is seen to here: evaluations, checkpoints, the end. Raises what `fit` raises.
        """
        self.model.train()
        self._announce()
        last_saved = time.perf_counter()
        while True:
            if self._owes_evaluation():
                self._evaluate()
                self.save()
                last_saved = time.perf_counter()
            if self.progress.step >= self.num_steps or self._has_lost_patience():
                return
            yield self.progress.step
            if self.interrupted or time.perf_counter() - last_saved > CHECKPOINT_SECONDS:
                self.save()
                last_saved = time.perf_counter()
            self.stop_if_interrupted()

    def _step(self) -> None:
        """One update: read, forward, backward, clip, move."""
        inputs, targets = self.begin_step()
        nats = self._accumulate_gradients(inputs, targets)
        self.end_step(nats, num_tokens=targets.numel())

    def begin_step(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the next step, each `(batch, time)` on the device; the gradients are forgotten."""
        step = self.progress.step
        if self.model.architecture.recurrent and self.batches.starts_epoch(step):
            self.states = [None] * self.training.accumulate
        inputs, targets = self.batches.read(step)
        self.optimizer.zero_grad()
        return inputs.to(self.device), targets.to(self.device)

    def end_step(self, nats: Tensor, *, num_tokens: int) -> None:
        """Clip and move by the gradients that are there, and book a batch of that many summed nats.

        Raises TiebenchError when the loss is no number.
        """
        self.optimizer.step(self._choose_learning_rate(self.progress.step))
        self._count(nats, num_tokens=num_tokens)

    def _accumulate_gradients(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Leave the batch's gradient in the parameters; returns its summed nats."""
        scale = choose_scale(self.training, num_tokens=targets.numel())
        parts = zip(inputs.chunk(self.training.accumulate), targets.chunk(self.training.accumulate), strict=True)
        total = torch.zeros((), device=self.device)
        for index, (part, wanted) in enumerate(parts):
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.training.precision == "bf16"):
                hidden, state = self.encode(part, self.states[index])
                loss, nats = compute_loss(
                    self.model, hidden, wanted, objective=self.training.objective, scale=scale
                )
            loss.backward()
            self.states[index] = _detach(state)
            total += nats
        penalty = compute_penalty(self.model, self.training)
        if penalty is not None:
            penalty.backward()
        return total

    def _choose_learning_rate(self, step: int) -> float:
        factor = scale_learning_rate(
            self.training.schedule,
            step=step,
            num_steps=self.num_steps,
            steps_per_epoch=self.batches.steps_per_epoch,
            num_plateaus=self.progress.num_plateaus,
        )
        return self.training.optimizer.learning_rate * factor

    def _count(self, nats: Tensor, *, num_tokens: int) -> None:
        """Book a step. On a GPU the losses are read many steps at a time, so that no step waits for the one before."""
        progress = self.progress
        progress.step += 1
        progress.tokens += num_tokens
        progress.tokens_since_evaluation += num_tokens
        self.unread_nats.append(nats)
        every = READ_EVERY_STEPS.get(self.device.type, READ_EVERY_STEPS_ELSEWHERE)
        if progress.step == 1 or progress.step % every == 0:
            self._read_nats()
        self.observer.advance(num_tokens, nats_per_token=self.mean_nats)

    def _read_nats(self) -> None:
        """Add the losses that are still on the device to the books; stop at the first that is no number."""
        if not self.unread_nats:
            return
        first_step = self.progress.step - len(self.unread_nats) + 1
        for offset, nats in enumerate(torch.stack(self.unread_nats).tolist()):
            if not math.isfinite(nats):
                self._give_up(first_step + offset, f"the loss became {nats}")
            self.progress.nats_since_evaluation += nats
        self.unread_nats.clear()
        self.mean_nats = self.progress.nats_since_evaluation / self.progress.tokens_since_evaluation
        if self.progress.first_loss_nats is None:
            self.progress.first_loss_nats = self.progress.nats_since_evaluation / self.progress.tokens

    def _give_up(self, step: int, what: str) -> None:
        epoch = step / self.batches.steps_per_epoch
        kept = read_checkpoint(self.folder)
        last = f"the last good checkpoint is of step {kept['progress']['step']}" if kept else "there is no checkpoint yet"
        raise TiebenchError(
            f"{self.run.name}: {what} at step {step} (epoch {epoch:.2f}); {last} in {self.folder}",
            "lower training.optimizer.learning_rate or set training.optimizer.clip_norm, then train with --force",
        )

    def _owes_evaluation(self) -> bool:
        step = self.progress.step
        due = step % self.evaluate_every == 0 or step == self.num_steps
        return step > self.progress.evaluated_step and due

    def _has_lost_patience(self) -> bool:
        stopping = self.training.early_stopping
        return stopping is not None and self.progress.evaluations_without_gain >= stopping.patience

    def _evaluate(self) -> None:
        """Score the validation split, keep the weights if they are the best so far, extend the curve."""
        started, progress = time.perf_counter(), self.progress
        self._read_nats()  # waits for the steps that a GPU has still to make
        progress.train_seconds += time.perf_counter() - started
        started = time.perf_counter()
        stream = self.streams["valid"]
        self.observer.start_stage("valid", total_tokens=stream.num_tokens)
        score = score_stream(self.model, stream, spec=self.run.spec, advance=self._advance_evaluation)
        if not math.isfinite(score.perplexity):
            self._give_up(progress.step, f"the validation perplexity became {score.perplexity}")
        train_nats = progress.nats_since_evaluation / progress.tokens_since_evaluation
        learning_rate = self._choose_learning_rate(progress.step - 1)  # before a plateau is counted
        gained = progress.best_step == 0 or score.perplexity < progress.best_perplexity
        if gained:
            progress.best_perplexity, progress.evaluations_without_gain = score.perplexity, 0
        else:
            progress.num_plateaus += 1
            progress.evaluations_without_gain += 1
        if gained or self.run.spec.evaluation.checkpoint == "last":
            progress.best_step = progress.step
            progress.best_training_perplexity = math.exp(train_nats) if train_nats <= MOST_NATS else None
            write_weights(self.model, self.folder, signature=self.run.signature)
        progress.evaluation_seconds += time.perf_counter() - started
        self._extend_curve(score.perplexity, train_nats, learning_rate)

    def _extend_curve(self, perplexity: float, train_nats: float, learning_rate: float) -> None:
        progress = self.progress
        point = CurvePoint(
            step=progress.step,
            epoch=progress.step / self.batches.steps_per_epoch,
            tokens=progress.tokens,
            seconds=progress.train_seconds + progress.evaluation_seconds,
            learning_rate=learning_rate,
            train_nats_per_token=train_nats,
            valid_perplexity=perplexity,
        )
        progress.curve.append(point.model_dump(mode="json"))
        progress.evaluated_step = progress.step
        progress.nats_since_evaluation, progress.tokens_since_evaluation = 0.0, 0
        write_curve([CurvePoint(**entry) for entry in progress.curve], self.folder)
        self.observer.report_evaluation(point)
        self._announce()

    def _advance_evaluation(self, num_tokens: int) -> None:
        """An evaluation changes nothing, so an interrupted one is simply made again: save what was before it."""
        self.observer.advance(num_tokens)
        if self.interrupted:
            self.save()
            self.stop_if_interrupted()

    def _announce(self) -> None:
        per_step = self.training.batch_size * self.training.window
        total = self.progress.tokens + (self.num_steps - self.progress.step) * per_step
        self.observer.start_stage("train", total_tokens=total, done_tokens=self.progress.tokens)

    def save(self) -> None:
        """Write a checkpoint. Raises TiebenchError when the loss is no number."""
        self._read_nats()
        state = {
            "signature": self.run.signature,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "states": self.states,
            "dropout": self.dropout_stream.get_state(),
            "num_threads": torch.get_num_threads(),
            "progress": asdict(self.progress),
        }
        write_checkpoint(state, self.folder)

    def _resume(self) -> None:
        state = read_checkpoint(self.folder)
        if state is None:
            return
        if state["signature"] != self.run.signature:
            raise TiebenchError(
                f"{self.folder} holds a checkpoint of another run ({state['signature']}, not {self.run.signature})",
                "train with --force to begin again, or with --results to keep both",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.states = _move(state["states"], self.device)
        self.dropout_stream.set_state(state["dropout"])
        self.progress = Progress(**state["progress"])
        torch.set_num_threads(state["num_threads"])  # another number would round differently
        self.observer.say(f"{self.run.name}: going on from step {self.progress.step:,} of {self.num_steps:,}")

    def interrupt(self) -> None:
        """Ask for a checkpoint and an end, as soon as it can be."""
        self.interrupted = True

    def stop_if_interrupted(self) -> None:
        """Raises Interrupted when a signal came; the checkpoint must be there already."""
        if self.interrupted:
            raise Interrupted(f"{self.run.name} was checkpointed at step {self.progress.step:,}")


def plan_steps(training: Any, *, steps_per_epoch: int) -> int:
    """The budget as a number of updates."""
    if training.epochs is not None:
        return training.epochs * steps_per_epoch
    if training.steps is not None:
        return training.steps
    return -(-training.tokens // (training.batch_size * training.window))


def _detach(state: Any) -> Any:
    """Cut the graph at the end of a window: truncated backpropagation through time."""
    if isinstance(state, Tensor):
        return state.detach()
    return [_detach(part) for part in state] if isinstance(state, list | tuple) else state


def _move(state: Any, device: torch.device) -> Any:
    if isinstance(state, Tensor):
        return state.to(device)
    return [_move(part, device) for part in state] if isinstance(state, list | tuple) else state
