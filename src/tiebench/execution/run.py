"""One run from its spec to its record: prepared, trained, scored once on the test split, written down last."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tiebench.corpora.frequencies import find_target_decades
from tiebench.corpora.reading import read_lines
from tiebench.corpora.stream import ParallelStream
from tiebench.corpora.vocabulary import save_vocabulary
from tiebench.errors import Diverged, TiebenchError
from tiebench.execution import environment
from tiebench.execution.failures import explain_failures
from tiebench.execution.finished import find_finished
from tiebench.execution.heartbeat import keep_heartbeat
from tiebench.execution.initial_checkpoint import open_checkpoint
from tiebench.execution.matching import match_runs
from tiebench.execution.run_data import RunData, load_data
from tiebench.execution.run_facts import describe_corpus, describe_usage
from tiebench.execution.run_folder import (
    OwnershipCallback,
    finish_replacing,
    lock_run_dir,
    prepare_folder,
    remove_failed,
    remove_leftovers,
)
from tiebench.execution.settings import Settings
from tiebench.execution.translating import check_sacrebleu, choose_search, score_translations, translate_lines
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.schema import TRANSLATED
from tiebench.files import compute_digest
from tiebench.locks import HeldLock
from tiebench.models.language_model import (
    LanguageModel,
    build_model,
    count_parameters,
    initialise_model,
)
from tiebench.models.pretrained import load_pretrained
from tiebench.results import record as records
from tiebench.results.curve import write_curve
from tiebench.results.record import VOCABULARY_FILE, WEIGHTS_FILE, Record
from tiebench.results.target_decades import write_target_decades
from tiebench.results.token_nll import write_token_nll
from tiebench.results.translation import Translation
from tiebench.results.translation_files import write_bleu_counts, write_translations
from tiebench.training.callbacks import Callback, CallbackList
from tiebench.training.checkpoints import CHECKPOINT_FILE, read_weights, remove_checkpoint
from tiebench.training.evaluation import Score, describe_score, score_stream
from tiebench.training.ranks import ALONE, Ranks
from tiebench.training.sharding import shard_model
from tiebench.training.train_state import TrainState
from tiebench.training.trainer import SURPRISING_FIRST_LOSS, Trainer

Begin = Callable[[RunSpec, Path, Settings], Ranks]
BESIDE = ("valid", "test")


def execute_run(
    run: RunSpec, *, settings: Settings, callback: Callback | None = None, begin: Begin | None = None
) -> Record:
    """Train and score one run, or return the record that is there already.

    With several ranks this is for the first, and `begin(run, folder, settings)` lets the others join it.
    Raises TiebenchError when another process trains this run, the corpus is missing or has changed, or the loss becomes
    NaN or infinite; Interrupted after a checkpoint on Ctrl-C, SIGTERM or SIGHUP.
    """
    callback = callback or Callback()
    (run,) = match_runs([run], data_dir=settings.data_dir)
    with environment.keep_torch_settings():
        found = find_finished(run, settings=settings)
        if found is not None:
            callback.finish_run(found, reused=True)
            return found
        if not run.is_trial:
            check_sacrebleu(run.spec)
        folder = settings.store.folder(run.experiment, run.arm, run.seed)
        with (
            explain_failures(run, data_dir=settings.data_dir),
            lock_run_dir(folder, run=run, wait=settings.wait, say=callback.say) as lock,
            keep_heartbeat(folder, run=run, callback=callback) as told,
        ):
            finish_replacing(folder)
            found = find_finished(run, settings=settings)  # by another process, in the meantime
            options = {"settings": settings, "callback": told, "lock": lock, "begin": begin}
            record = found or _make_record(run, folder=folder, **options)
        callback.finish_run(record, reused=found is not None)
        return record


def join_run(run: RunSpec, *, folder: Path, settings: Settings, ranks: Ranks) -> None:
    """What a rank that is not the first does of a run in `folder`: its share of training and scoring. Writes nothing.

    Raises what `execute_run` does.
    """
    with environment.keep_torch_settings(), explain_failures(run, data_dir=settings.data_dir):
        data = load_data(run, data_dir=settings.data_dir)
        model = begin_model(run, data=data, data_dir=settings.data_dir)
        device = _place_model(model, run=run, settings=settings, ranks=ranks)
        options = {"folder": folder, "settings": settings, "callback": Callback(), "ranks": ranks}
        _fit_and_score(_open_trainer(run, model, data=data, **options), data)
        ranks.find_highest(environment.measure_peak_memory(device))


def open_model(run_record: Record, folder: Path) -> LanguageModel:
    """The trained model of a finished run, on the CPU, with its best weights."""
    model = build_model(run_record.spec, vocabulary_size=run_record.vocabulary.size)
    read_weights(model, folder, digest=run_record.provenance.files.get(WEIGHTS_FILE), signature=run_record.signature)
    return model.eval()


def begin_model(run: RunSpec, *, data: RunData, data_dir: Path | None = None) -> LanguageModel:
    """The model before its first step, on the CPU: filled at random, or from the checkpoint that the run goes on from.

    Raises TiebenchError where that checkpoint is missing or does not fit the model.
    """
    model = build_model(run.spec, vocabulary_size=data.vocabulary.size)
    initialise_model(model, seed=run.seed)
    model.embedding.sort_by_frequency(data.count_training)
    if run.spec.initialise_from is not None:
        load_pretrained(model, run.spec, open_checkpoint(run, data_dir=data_dir))
    return model


def _make_record(
    run: RunSpec, *, folder: Path, settings: Settings, callback: Callback, lock: HeldLock, begin: Begin | None
) -> Record:
    """Train in the run's folder, or aside while an old record stands there."""
    callback = CallbackList([OwnershipCallback(run, lock=lock), callback])
    try:
        place = prepare_folder(folder, run=run, force=settings.force)
        ranks = begin(run, place, settings) if begin else ALONE
        record = _train(run, folder=place, settings=settings, callback=callback, ranks=ranks)
    except BaseException:
        if lock.is_held():
            remove_failed(folder)
        raise
    finish_replacing(folder)
    remove_leftovers(folder)
    return record


def _train(run: RunSpec, *, folder: Path, settings: Settings, callback: Callback, ranks: Ranks) -> Record:
    """Train, score the weights that were kept, and write the record."""
    started = environment.utc_now()
    data = load_data(run, data_dir=settings.data_dir)
    model = begin_model(run, data=data, data_dir=settings.data_dir)
    parameters = count_parameters(model)
    device = _place_model(model, run=run, settings=settings, ranks=ranks)
    callback.start_run(run, parameters=parameters)
    save_vocabulary(data.vocabulary, folder / VOCABULARY_FILE)
    trainer = _open_trainer(run, model, data=data, folder=folder, settings=settings, callback=callback, ranks=ranks)
    scores, at_last = _fit_and_score(trainer, data)
    peak_memory = ranks.find_highest(environment.measure_peak_memory(device))
    state, scored = trainer.state, count_parameters(model)
    files = [write_curve(state.curve, folder)]
    if not run.is_trial:
        decades = find_target_decades(data.streams, vocabulary_size=data.vocabulary.size)
        files += [write_token_nll(scores["test"].token_nll, folder), write_target_decades(decades, folder)]
        files.append(folder / WEIGHTS_FILE)
    translation = None
    if isinstance(run.spec.corpus, TRANSLATED) and not run.is_trial:
        translation, lines, counts = _translate_test(trainer, data)
        files += [write_translations(lines, folder), write_bleu_counts(counts, folder)]
    provenance = environment.describe_provenance(
        started=started, device=device, precision=state.precision, num_ranks=ranks.number
    )
    digests = {file.name: compute_digest(file) for file in files}
    record = Record(
        experiment=run.experiment,
        arm=run.arm,
        seed=run.seed,
        numerics=records.NUMERICS,
        signature=run.signature,
        spec=run.spec,
        declared=list(run.declared),
        tuned=run.tuned,
        corpus=describe_corpus(data),
        vocabulary=records.VocabularyFacts(
            type=data.vocabulary.describe()["type"], size=data.vocabulary.size, identity=data.vocabulary.identity
        ),
        parameters=scored,
        parameters_before=parameters if parameters != scored else None,
        evaluations=_describe_scores(scores, data),
        at_last=_describe_scores(at_last, data),
        training_perplexity=state.kept_training_perplexity,
        translation=translation,
        checkpoint=records.ScoredCheckpoint(
            step=state.kept_step, epoch=state.kept_step / trainer.batches.steps_per_epoch
        ),
        usage=describe_usage(state, model, run=run, peak_memory=peak_memory),
        warnings=[
            *run.remarks,
            *list_warnings(state, vocabulary_size=data.vocabulary.size),
            *([] if scores else [f"the training diverged by step {state.step}: this trial counts as the worst"]),
        ],
        provenance=provenance.model_copy(update={"files": digests}),
    )
    records.write_record(record, folder)
    if run.is_trial:  # its score is all that was wanted
        (folder / WEIGHTS_FILE).unlink(missing_ok=True)
    return record


def _place_model(model: LanguageModel, *, run: RunSpec, settings: Settings, ranks: Ranks) -> torch.device:
    """Move a model to this process's device; with `training.sharding` and several ranks, this rank's part of it."""
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    device = ranks.device or environment.choose_device(settings.device)
    environment.restart_peak_memory(device)
    if run.spec.training.sharding and ranks.device is not None:
        shard_model(model, device=device)
    else:
        model.to(device)
    return device


def _fit_and_score(trainer: Trainer, data: RunData) -> tuple[dict[str, Score], dict[str, Score]]:
    """Train, and score the kept weights on each split (on none for a trial whose loss became NaN or infinite), and the
    last ones where the experiment declares both: they are in memory when training ends, and after any interruption."""
    run, folder = trainer.run, trainer.folder
    try:
        state = trainer.fit()
    except Diverged:
        if not run.is_trial:
            raise
        return {}, {}
    declares_both = run.spec.evaluation.checkpoint == "both" and not run.is_trial
    at_last = {}
    if declares_both and state.kept_step < state.step:
        at_last = _score_splits(trainer, data, splits=BESIDE)
    hint = f"remove {folder / CHECKPOINT_FILE} to begin the run again"
    read_weights(trainer.model, folder, digest=state.kept_digest, signature=run.signature, hint=hint)
    scores = _score_splits(trainer, data, splits=_list_splits(run), known=trainer.kept_score)
    if declares_both and not at_last:
        at_last = {split: scores[split] for split in BESIDE}
    return scores, at_last


def _list_splits(run: RunSpec) -> tuple[str, ...]:
    """The test split is scored at the end of a run and nowhere else, and by no trial."""
    if run.is_trial:
        return ("valid",)
    return ("train", *BESIDE) if run.spec.evaluation.train else BESIDE


def _open_trainer(
    run: RunSpec,
    model: LanguageModel,
    *,
    data: RunData,
    folder: Path,
    settings: Settings,
    callback: Callback,
    ranks: Ranks,
) -> Trainer:
    """The trainer, at its checkpoint where there is one; with `force`, one that a rank cannot use is removed."""
    text = {"corpus": data.corpus.checksum, "vocabulary": data.vocabulary.identity}
    options = {"streams": data.streams, "folder": folder, "callback": callback, "text": text, "ranks": ranks}
    is_there = (folder / CHECKPOINT_FILE).exists()
    trainer, failure = None, TiebenchError(f"{run.name}: another rank cannot go on from the checkpoint in {folder}")
    try:
        trainer = Trainer(run, model, **options)
    except TiebenchError as error:
        failure = error
    (is_refused,) = ranks.agree(trainer is None)
    if trainer is not None and not is_refused:
        return trainer
    if not settings.force or not is_there:
        raise failure
    callback.say(f"{failure.message}: beginning again")
    if ranks.is_first:
        remove_checkpoint(folder)
    ranks.wait()
    return Trainer(run, model, **options)


def _score_splits(
    trainer: Trainer, data: RunData, *, splits: tuple[str, ...], known: Score | None = None
) -> dict[str, Score]:
    """A full pass over each of these splits; over the validation split only where its score is not `known`."""
    run, callback, scores = trainer.run, trainer.callback, {}

    def advance(num_tokens: int) -> None:
        callback.advance(num_tokens)
        trainer.stop_if_interrupted()

    for split in splits:
        if split == "valid" and known is not None:
            scores[split] = known
            continue
        stream = data.streams[split]
        callback.start_stage(split, total_tokens=stream.num_tokens)
        spec = run.spec.for_split(split)
        scores[split] = score_stream(trainer.model, stream, spec=spec, advance=advance, ranks=trainer.ranks)
    return scores


def _translate_test(trainer: Trainer, data: RunData) -> tuple[Translation, list[str], np.ndarray]:
    """The test split as the kept weights translate it, once: scores, translations, and what BLEU counts in each."""
    callback, search = trainer.callback, choose_search(trainer.run.spec)

    def advance(num_tokens: int) -> None:
        callback.advance(num_tokens)
        trainer.stop_if_interrupted()

    stream = data.streams["test"]
    assert isinstance(stream, ParallelStream)
    references = list(data.corpus.lines("test"))
    callback.start_stage("translate", total_tokens=stream.source.num_tokens)
    sources = read_lines(data.corpus.source_files["test"])
    lines = translate_lines(trainer.model, sources, vocabulary=data.vocabulary, search=search, advance=advance)
    translation, counts = score_translations(lines, references, search=search)
    return translation, lines, counts


def list_warnings(state: TrainState, *, vocabulary_size: int) -> list[str]:
    """What a reader of the record should know before trusting its figures."""
    first, uniform = state.first_loss_nats, math.log(vocabulary_size)
    if first is None or first <= SURPRISING_FIRST_LOSS * uniform:
        return []
    return [
        f"the first loss was {first:.1f} nats, where guessing gives {uniform:.1f}: "
        "the output embedding probably starts too large (embedding.init, embedding.output_scale)"
    ]


def _describe_scores(scores: dict[str, Score], data: RunData) -> dict[str, records.Evaluation]:
    return {split: describe_score(score, split=split, stream=data.streams[split]) for split, score in scores.items()}
