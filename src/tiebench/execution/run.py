"""One run from its spec to its record: prepared, trained, scored once on the test split, written down last."""

import math
import os
import platform
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from filelock import FileLock, Timeout

from tiebench.corpora.corpus import Corpus, open_corpus
from tiebench.corpora.stream import TokenStream, open_streams
from tiebench.corpora.vocabulary import Vocabulary, fit_vocabulary, save_vocabulary
from tiebench.errors import TiebenchError, UsageError
from tiebench.experiment.run_spec import RunSpec
from tiebench.results import record as records
from tiebench.files import write_text
from tiebench.results.record import Parameters, Record
from tiebench.results.store import LOCK_FILE
from tiebench.execution import environment
from tiebench.training.checkpoints import read_weights, remove_checkpoint
from tiebench.training.evaluation import Score, describe_score, score_stream
from tiebench.models.language_model import (
    LanguageModel,
    build_model,
    build_on_meta,
    count_flops_per_token,
    count_parameters,
    initialise_model,
)
from tiebench.training.callbacks import Observer
from tiebench.execution.settings import Settings, find_finished
from tiebench.training.trainer import SURPRISING_FIRST_LOSS, Progress, Trainer

SPEC_FILE = "spec.yaml"
VOCABULARY_FILE = "vocabulary.json"
HOLDER_FILE = ".holder"


@dataclass(frozen=True)
class Material:
    """What a run reads: the corpus, its vocabulary and the three streams."""

    corpus: Corpus
    vocabulary: Vocabulary
    streams: dict[str, TokenStream] = field(repr=False)


def prepare_material(run: RunSpec, *, data_dir: Path | None = None) -> Material:
    """Open the corpus, fit or find its vocabulary, open the streams. Raises TiebenchError with what is missing."""
    corpus = open_corpus(run.spec.corpus, data_dir=data_dir)
    vocabulary = fit_vocabulary(run.spec.vocabulary, corpus=corpus)
    return Material(corpus, vocabulary, open_streams(corpus, vocabulary=vocabulary))


def check_run(run: RunSpec, *, material: Material) -> tuple[Parameters, int]:
    """Build the model without memory: its parameters by role and its training FLOPs per token."""
    model = build_on_meta(run.spec, vocabulary_size=material.vocabulary.size)
    return count_parameters(model), count_flops_per_token(model, context=run.spec.training.window)


def execute_run(run: RunSpec, *, settings: Settings, observer: Observer | None = None) -> Record:
    """Train and score one run, or return the record that is there already.

    Raises TiebenchError when another process is at this run, the corpus is missing or has changed, or the loss is no
    number any more; Interrupted after a checkpoint on Ctrl-C or SIGTERM.
    """
    life = live_run(run, settings=settings, observer=observer or Observer())
    with environment.keeping_threads(), closing(life):
        while True:
            try:
                next(life).fit()
            except StopIteration as end:
                return end.value


def live_run(run: RunSpec, *, settings: Settings, observer: Observer) -> Generator[Trainer, None, Record]:
    """The life of a run: it hands out its trainer to be fitted by whoever asks, and then ends with its record.

    It holds its folder meanwhile, until it is done or closed. One that is there already hands out nothing.
    """
    found = find_finished(run, settings=settings)
    if found is None:
        folder = settings.store.folder(run.experiment, run.arm, run.seed)
        with hold_folder(folder, run=run):
            found = find_finished(run, settings=settings)  # by another process, in the meantime
            if found is None:
                _clear_folder(folder, run=run, force=settings.force)
                record = yield from _train(run, folder=folder, settings=settings, observer=observer)
                remove_checkpoint(folder)
                observer.finish_run(record, reused=False)
                return record
    observer.finish_run(found, reused=True)
    return found


def open_model(run_record: Record, folder: Path) -> LanguageModel:
    """The trained model of a finished run, on the CPU, with its best weights."""
    from tiebench.experiment.schema import ArmSpec

    spec = ArmSpec.model_validate(run_record.spec)
    model = build_model(spec, vocabulary_size=run_record.vocabulary.size)
    read_weights(model, folder)
    return model.eval()


@contextmanager
def hold_folder(folder: Path, *, run: RunSpec) -> Iterator[None]:
    """Two processes never write one run. Raises TiebenchError that says who holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    holder = folder / HOLDER_FILE
    try:
        lock.acquire()
    except Timeout:
        who = holder.read_text("utf-8").strip() if holder.exists() else "another process"
        raise TiebenchError(f"{run.name} is being trained by {who}", "wait for it, or use --results DIR") from None
    try:
        write_text(f"process {os.getpid()} on {platform.node()}\n", file=holder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _train(
    run: RunSpec, *, folder: Path, settings: Settings, observer: Observer
) -> Generator[Trainer, None, Record]:
    """Hand out the trainer; when it was fitted, score the weights that were kept and write the record."""
    started, allocator = environment.tell_time(), environment.tune_allocator()
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    device = environment.choose_device(settings.device)
    material = prepare_material(run, data_dir=settings.data_dir)
    environment.restart_peak_memory(device)
    model = build_model(run.spec, vocabulary_size=material.vocabulary.size)
    initialise_model(model, seed=run.seed)
    model.to(device)
    parameters = count_parameters(model)
    observer.start_run(run, parameters=parameters)
    save_vocabulary(material.vocabulary, folder / VOCABULARY_FILE)
    trainer = Trainer(run, model, streams=material.streams, folder=folder, observer=observer)
    yield trainer
    progress = trainer.progress
    read_weights(model, folder)
    scores = _score_splits(trainer, material)
    record = Record(
        experiment=run.experiment,
        arm=run.arm,
        seed=run.seed,
        signature=run.signature,
        spec=run.resolved,
        declared=list(run.declared),
        corpus=_describe_corpus(material),
        vocabulary=records.VocabularyFacts(
            type=run.spec.vocabulary.type, size=material.vocabulary.size, identity=material.vocabulary.identity
        ),
        parameters=parameters,
        evaluations={
            split: describe_score(score, split=split, stream=material.streams[split])
            for split, score in scores.items()
        },
        training_perplexity=progress.best_training_perplexity,
        best=records.Best(step=progress.best_step, epoch=progress.best_step / trainer.batches.steps_per_epoch),
        cost=_describe_cost(progress, model, run=run, device=device),
        warnings=list_warnings(progress, vocabulary_size=material.vocabulary.size),
        provenance=environment.describe_provenance(
            started=started, device=device, allocator=allocator, num_packed=progress.num_packed
        ),
    )
    records.write_token_nats(scores["test"].token_nats, folder)
    records.write_record(record, folder)
    return record


def _score_splits(trainer: Trainer, material: Material) -> dict[str, Score]:
    """The weights that were kept on each split, a full pass each; the test split is scored here and nowhere else."""
    run, observer, scores = trainer.run, trainer.observer, {}

    def advance(num_tokens: int) -> None:
        observer.advance(num_tokens)
        trainer.stop_if_interrupted()

    for split in ("train", "valid", "test") if run.spec.evaluation.train else ("valid", "test"):
        stream = material.streams[split]
        observer.start_stage(split, total_tokens=stream.num_tokens)
        scores[split] = score_stream(trainer.model, stream, spec=run.spec, advance=advance)
    return scores


def list_warnings(progress: Progress, *, vocabulary_size: int) -> list[str]:
    """What a reader of the record should know before trusting its figures."""
    first, uniform = progress.first_loss_nats, math.log(vocabulary_size)
    if first is None or first <= SURPRISING_FIRST_LOSS * uniform:
        return []
    return [
        f"the first loss was {first:.1f} nats, where guessing gives {uniform:.1f}: "
        "the output table probably starts too large (lexicon.init, lexicon.output_scale)"
    ]


def _describe_corpus(material: Material) -> records.CorpusFacts:
    return records.CorpusFacts(
        name=material.corpus.name,
        checksum=material.corpus.checksum,
        facts=material.corpus.facts,
        splits={
            split: records.SplitFacts(
                tokens=stream.num_tokens, words=stream.num_words, bytes=stream.num_bytes, unknown=stream.num_unknown
            )
            for split, stream in material.streams.items()
        },
    )


def _describe_cost(progress: Progress, model: LanguageModel, *, run: RunSpec, device: torch.device) -> records.Cost:
    return records.Cost(
        steps=progress.step,
        tokens=progress.tokens,
        train_seconds=progress.train_seconds,
        evaluation_seconds=progress.evaluation_seconds,
        tokens_per_second=progress.tokens / progress.train_seconds if progress.train_seconds else None,
        peak_memory_bytes=environment.measure_peak_memory(device),
        flops_per_token=count_flops_per_token(model, context=run.spec.training.window),
        first_loss_nats=progress.first_loss_nats,
    )


def _clear_folder(folder: Path, *, run: RunSpec, force: bool) -> None:
    """Begin with what this run itself left behind; what another spec left is refused, or removed with --force."""
    file = folder / SPEC_FILE
    signature = yaml.safe_load(file.read_text("utf-8"))["signature"] if file.exists() else None
    if signature is not None and signature != run.signature and not force:
        raise UsageError(
            f"{folder} holds an unfinished run of another spec ({signature}, not {run.signature})",
            "keep both with --results DIR, or replace the old one with --force",
        )
    if force:
        for name in (records.RECORD_FILE, records.CURVE_FILE, records.TOKEN_NATS_FILE):
            (folder / name).unlink(missing_ok=True)
        remove_checkpoint(folder)
    content = {"signature": run.signature, "experiment": run.experiment, "arm": run.arm, "seed": run.seed}
    if run.altered:
        content["altered"] = list(run.altered)
    write_text(yaml.safe_dump({**content, "spec": run.resolved}, sort_keys=False), file=file)
