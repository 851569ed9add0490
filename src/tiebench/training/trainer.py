"""The training loop: batches in, a learning curve and the best weights out, able to stop and go on at any step."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiebench.corpora.stream import TokenStream
from tiebench.errors import Diverged
from tiebench.experiment.run_spec import RunSpec
from tiebench.models.generators import open_generator
from tiebench.models.language_model import LanguageModel, compile_encode
from tiebench.models.sentence_pairs import SentencePairs
from tiebench.results.curve import CurvePoint, write_curve
from tiebench.training.batches import build_batches
from tiebench.training.budget import plan_evaluations, plan_steps
from tiebench.training.callbacks import Callback
from tiebench.training.checkpoints import read_checkpoint, take_form_of, write_checkpoint, write_weights
from tiebench.training.evaluation import MAX_NLL, Score, score_stream
from tiebench.training.gradient_shares import EVERY_STEPS, add_gradients, measure_ends, take_share
from tiebench.training.objective import choose_scale, compute_loss, compute_penalty
from tiebench.training.optimizers import Optimizer, build_optimizer
from tiebench.training.precision import choose_precision
from tiebench.training.ranks import ALONE, Ranks
from tiebench.training.recurrent_states import detach_states, move_states
from tiebench.training.resuming import check_checkpoint, describe_last, refuse_damage, share_threads
from tiebench.training.schedules import scale_learning_rate
from tiebench.training.sharding import is_sharded, load_tensors, put_together
from tiebench.training.signals import Interrupted, catch_signals, read_clock
from tiebench.training.step_graph import choose_update
from tiebench.training.train_state import TrainState
from tiebench.training.untying import plan_untying, untie

CHECKPOINT_SECONDS = 60.0
SURPRISING_FIRST_LOSS = 1.3
READ_EVERY_STEPS = {"cpu": 1}
READ_EVERY_STEPS_ELSEWHERE = 50


class Trainer:
    """One run's training. `fit` returns when the budget is spent or validation stopped improving.

    Raises Interrupted after a checkpoint on Ctrl-C, SIGTERM or SIGHUP, Diverged when the loss is NaN or infinite.
    """

    def __init__(
        self,
        run: RunSpec,
        model: LanguageModel,
        *,
        streams: dict[str, TokenStream],
        folder: Path,
        callback: Callback,
        text: dict[str, str] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """`text` says which corpus and vocabulary the streams were made from; a checkpoint of others is refused.

        With several `ranks`, each has a trainer, and all do the same; the first alone writes.
        """
        self.run, self.model, self.folder, self.callback = run, model, folder, callback
        self.text, self.ranks = text or {}, ranks
        self.training, self.streams = run.spec.training, streams
        self.device = next(model.parameters()).device
        self.batches = build_batches(
            self.training,
            stream=streams["train"],
            recurrent=model.architecture.recurrent,
            seed=run.seed,
            device=self.device,
        )
        self.num_steps = plan_steps(self.training, steps_per_epoch=self.batches.steps_per_epoch)
        self.untie_step = plan_untying(run.spec.tie, num_steps=self.num_steps)
        self.dropout_generator = open_generator(run.seed, "dropout", device=self.device)
        model.set_dropout_generator(self.dropout_generator, rows=ranks.rows)
        self._use_optimizer(build_optimizer(model, self.training.optimizer))
        self.state = TrainState()
        self.recurrent_states: list[Any] = [None] * self.training.accumulate
        self.unread_nll: list[Tensor] = []
        self.mean_nll: float | None = None
        self.kept_score: Score | None = None  # of the validation split, where this process scored what was kept
        self.interrupted = False
        self._resume()
        if self.state.precision is None:  # a run that goes on elsewhere keeps what it began with
            self.state.precision, remark = choose_precision(self.training.precision, device=self.device)
            if remark:
                callback.say(f"{run.name}: {remark}")

    @property
    def evaluate_every(self) -> int:
        return plan_evaluations(self.training, num_steps=self.num_steps, steps_per_epoch=self.batches.steps_per_epoch)

    def fit(self) -> TrainState:
        """Train to the end of the budget."""
        self.model.train()
        self._announce()
        saved_at = read_clock()
        with catch_signals(self.interrupt):
            while True:
                if self._owes_evaluation():
                    self._evaluate()
                    self.save()
                    saved_at = read_clock()
                if self.state.step >= self.num_steps or self._has_lost_patience():
                    return self.state
                started = read_clock()
                self.train_step()
                self.state.train_seconds += read_clock() - started
                is_due = self.ranks.is_first and read_clock() - saved_at > CHECKPOINT_SECONDS
                self.interrupted, is_due = self.ranks.agree(self.interrupted, is_due)
                if self.interrupted or is_due:
                    self.save()
                    saved_at = read_clock()
                self.stop_if_interrupted()

    def train_step(self) -> Tensor:
        """One update: read a batch, forward, backward, clip, move. Returns the batch's summed nats, a scalar.

        Raises Diverged when the loss is NaN or infinite.
        """
        step = self.state.step
        if self.model.architecture.recurrent and self.batches.starts_epoch(step):
            self.recurrent_states = [None] * self.training.accumulate
        if step == self.untie_step:
            self._untie()
        inputs, targets = self.batches.read(step)
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        learning_rate = self._choose_learning_rate(step)
        nll, self.recurrent_states = self.update(inputs, targets, self.recurrent_states, learning_rate)
        self._count(nll, num_tokens=self.batches.count_targets(targets))
        return nll

    def _untie(self) -> None:
        self._use_optimizer(untie(self.model, self.optimizer, self.run))
        share = self.state.step / self.num_steps
        self.callback.say(f"{self.run.name}: untied at step {self.state.step:,} ({share:.0%} of training)")

    def _use_optimizer(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        if self.training.measure_gradients and self.model.embedding.lookups is None:
            self.model.embedding.lookups = []
        self.encode = compile_encode(self.model) if self.training.compile else self.model.encode
        self.model.embedding.workspace.compiled = self.training.compile
        self.update = choose_update(
            self._update,
            model=self.model,
            optimizer=optimizer,
            training=self.training,
            generator=self.dropout_generator,
            is_alone=self.ranks is ALONE,
            say=lambda what: self.callback.say(f"{self.run.name}: {what}"),
        )

    def _update(
        self, inputs: Tensor | SentencePairs, targets: Tensor, states: list[Any], learning_rate: float
    ) -> tuple[Tensor, list[Any]]:
        """Move the parameters by a batch; returns its summed nats and the recurrent states after it."""
        self.optimizer.zero_grad()
        nll, states = self._accumulate_gradients(inputs, targets, states)
        if self.training.measure_gradients and self.state.step % EVERY_STEPS == 0:
            add_gradients(self.state, measure_ends(self.model.embedding))
        self.optimizer.step(learning_rate)
        return nll, states

    def _accumulate_gradients(
        self, inputs: Tensor | SentencePairs, targets: Tensor, states: list[Any]
    ) -> tuple[Tensor, list[Any]]:
        """Leave the whole batch's gradient in the parameters; returns its summed nats, and the states of this rank."""
        scale = choose_scale(self.training, num_tokens=self.batches.count_targets(targets))
        parts = zip(inputs.chunk(self.training.accumulate), targets.chunk(self.training.accumulate), strict=True)
        total, after = torch.zeros((), device=self.device), []
        for (part, wanted), before in zip(parts, states, strict=True):
            part, wanted = self.ranks.take_rows(part, wanted)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.state.precision == "bf16"):
                hidden, state = self.encode(part, before)
                loss, nats = compute_loss(self.model, hidden, wanted, objective=self.training.objective, scale=scale)
            loss.backward()
            after.append(detach_states(state))
            total += nats
        if not is_sharded(self.optimizer.parameters[0]):  # else the backward pass did it
            self.ranks.add_gradients(self.optimizer.parameters)
        self.ranks.gather_lookups(self.model.embedding.lookups)
        penalty = compute_penalty(self.model, self.training)
        if penalty is not None:
            penalty.backward()
        return self.ranks.add(total), after

    def _choose_learning_rate(self, step: int) -> float:
        factor = scale_learning_rate(
            self.training.schedule,
            step=step,
            num_steps=self.num_steps,
            steps_per_epoch=self.batches.steps_per_epoch,
            num_plateaus=self.state.num_plateaus,
        )
        return self.training.optimizer.learning_rate * factor

    def _count(self, nats: Tensor, *, num_tokens: int) -> None:
        """Count a step. On a GPU the losses are read many steps at a time, so that no step waits for the one before."""
        state = self.state
        state.step += 1
        state.tokens += num_tokens
        state.tokens_since_evaluation += num_tokens
        self.unread_nll.append(nats)
        every = READ_EVERY_STEPS.get(self.device.type, READ_EVERY_STEPS_ELSEWHERE)
        if state.step == 1 or state.step % every == 0:
            self._read_nll()
        self.callback.advance(num_tokens, nll_per_token=self.mean_nll)

    def _read_nll(self) -> None:
        """Add the losses that are still on the device to the state; give up at the first that is NaN or infinite."""
        if not self.unread_nll:
            return
        first_step = self.state.step - len(self.unread_nll) + 1
        for offset, nats in enumerate(torch.stack(self.unread_nll).tolist()):
            if not math.isfinite(nats):
                self._give_up(first_step + offset, f"the loss became {nats}")
            self.state.nll_since_evaluation += nats
        self.unread_nll.clear()
        self.mean_nll = self.state.nll_since_evaluation / self.state.tokens_since_evaluation
        if self.state.first_loss_nats is None:
            self.state.first_loss_nats = self.state.nll_since_evaluation / self.state.tokens

    def _give_up(self, step: int, what: str) -> None:
        epoch = step / self.batches.steps_per_epoch
        raise Diverged(
            f"{self.run.name}: {what} at step {step} (epoch {epoch:.2f}); {describe_last(self.folder)}",
            "lower training.optimizer.learning_rate or set training.optimizer.clip_norm, then train with --force",
        )

    def _owes_evaluation(self) -> bool:
        step = self.state.step
        due = step % self.evaluate_every == 0 or step == self.num_steps
        return step > self.state.evaluated_step and due

    def _has_lost_patience(self) -> bool:
        stopping = self.training.early_stopping
        return stopping is not None and self.state.evaluations_without_gain >= stopping.patience

    def _evaluate(self) -> None:
        """Score the validation split, keep the weights if they are the best so far, extend the curve."""
        started, state = read_clock(), self.state
        self._read_nll()  # waits for the steps that a GPU has still to make
        state.train_seconds += read_clock() - started
        started = read_clock()
        stream = self.streams["valid"]
        self.callback.start_stage("valid", total_tokens=stream.num_tokens)
        options = {"advance": self._advance_evaluation, "ranks": self.ranks}
        score = score_stream(self.model, stream, spec=self.run.spec.for_split("valid"), **options)
        perplexity = self.ranks.announce(score.perplexity)
        if not math.isfinite(perplexity):
            self._give_up(state.step, f"the validation perplexity became {perplexity}")
        train_nll = state.nll_since_evaluation / state.tokens_since_evaluation
        learning_rate = self._choose_learning_rate(state.step - 1)  # before a plateau is counted
        gained = state.kept_step == 0 or perplexity < state.best_perplexity
        if gained:
            state.best_perplexity, state.evaluations_without_gain = perplexity, 0
        else:
            state.num_plateaus += 1
            state.evaluations_without_gain += 1
        if gained or self.run.spec.evaluation.checkpoint == "last":
            state.kept_step, self.kept_score = state.step, score
            state.kept_training_perplexity = math.exp(train_nll) if train_nll <= MAX_NLL else None
            tensors = put_together(self.model.state_dict())
            state.kept_digest = None  # others do not know it
            if self.ranks.is_first:
                state.kept_digest = write_weights(tensors, self.folder, signature=self.run.signature)
        state.evaluation_seconds += read_clock() - started
        self._extend_curve(perplexity, train_nll, learning_rate)

    def _extend_curve(self, perplexity: float, train_nll: float, learning_rate: float) -> None:
        state = self.state
        point = CurvePoint(
            step=state.step,
            epoch=state.step / self.batches.steps_per_epoch,
            tokens=state.tokens,
            seconds=state.train_seconds + state.evaluation_seconds,
            learning_rate=learning_rate,
            train_nll_per_token=train_nll,
            valid_perplexity=perplexity,
            gradient=take_share(state),
        )
        state.curve.append(point)
        state.evaluated_step = state.step
        state.nll_since_evaluation, state.tokens_since_evaluation = 0.0, 0
        if self.ranks.is_first:
            write_curve(state.curve, self.folder)
        self.callback.report_evaluation(point)
        self._announce()

    def _advance_evaluation(self, num_tokens: int) -> None:
        """An evaluation changes nothing, so an interrupted one is simply made again: save what was before it."""
        read_clock()
        self.callback.advance(num_tokens)
        (self.interrupted,) = self.ranks.agree(self.interrupted)
        if self.interrupted:
            self.save()
            self.stop_if_interrupted()

    def _announce(self) -> None:
        left = self.batches.count_tokens(self.num_steps) - self.batches.count_tokens(self.state.step)
        total = self.state.tokens + left
        self.callback.start_stage("train", total_tokens=total, done_tokens=self.state.tokens)

    def save(self) -> None:
        """Write a checkpoint, from which any number of ranks may go on.

        Raises Diverged when the loss is NaN or infinite.
        """
        self._read_nll()
        state = {
            "signature": self.run.signature,
            "text": self.text,
            "model": put_together(self.model.state_dict()),
            "optimizer": put_together(self.optimizer.state_dict()),
            "recurrent_states": self.ranks.gather_states(self.recurrent_states),
            "dropout": self.dropout_generator.get_state(),
            "num_threads": torch.get_num_threads(),
            "train_state": self.state.model_dump(),
        }
        if self.ranks.is_first:
            write_checkpoint(state, self.folder)
        self.ranks.wait()  # it is there before any rank ends

    def _resume(self) -> None:
        state = read_checkpoint(self.folder)
        if state is None:
            return
        check_checkpoint(state, run=self.run, text=self.text, folder=self.folder)
        with refuse_damage(self.folder):
            take_form_of(self.model, state["model"])
            self._use_optimizer(build_optimizer(self.model, self.training.optimizer))
            load_tensors(self.model, state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.recurrent_states = move_states(self.ranks.take_states(state["recurrent_states"]), self.device)
            self.dropout_generator.set_state(state["dropout"])
            self.state = TrainState.model_validate(state["train_state"])
        self.callback.say(f"{self.run.name}: going on from step {self.state.step:,} of {self.num_steps:,}")
        share_threads(self.run, before=state["num_threads"], say=self.callback.say)

    def interrupt(self) -> None:
        """Ask for a checkpoint and the end of training, as soon as possible."""
        self.interrupted = True

    def stop_if_interrupted(self) -> None:
        """Raises Interrupted when a signal came; the checkpoint must be there already."""
        if self.interrupted:
            raise Interrupted(f"{self.run.name} was checkpointed at step {self.state.step:,}")
