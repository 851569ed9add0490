"""A finished run is not trained again. Imports no torch, so that looking at finished runs is quick."""

from pathlib import Path

from tiebench.corpora.opening import open_corpus
from tiebench.errors import UsageError
from tiebench.execution.initial_checkpoint import identify_checkpoints
from tiebench.execution.settings import Settings
from tiebench.experiment.corpus_config import ParallelConfig, TextConfig
from tiebench.experiment.differences import find_differences
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import Record

REMEDY = "keep both with --results DIR or --set name=NAME, or replace the old one: tiebench train CONFIG --force"


def resolve_runs(runs: list[RunSpec], *, data_dir: Path | None = None) -> list[RunSpec]:
    """The runs as they are trained: with the digest of a checkpoint that they go on from, and the width or layers of an
    arm that is to be as large as another one, for which alone torch is needed.

    Raises TiebenchError where the checkpoint or the text to match on is not there, UsageError where nothing matches.
    """
    if not any(run.match for run in runs):
        return identify_checkpoints(runs, data_dir=data_dir)
    from tiebench.execution.matching import match_runs

    return match_runs(runs, data_dir=data_dir)


def find_finished(run: RunSpec, *, settings: Settings) -> Record | None:
    """See `list_finished`."""
    return list_finished([run], settings=settings)[0]


def list_finished(runs: list[RunSpec], *, settings: Settings) -> list[Record | None]:
    """The record of each very run, if there is one; one that cannot be read is none (see `Store.read`).

    Raises UsageError when a run's folder holds another run, or one on a text that has changed since, and for a run
    whose values are still to be tuned; what `resolve_runs` raises of runs that have a record.
    """
    records = [_read_record(run, settings=settings) for run in runs]
    there = [run for run, record in zip(runs, records, strict=True) if record is not None]
    resolved = iter(resolve_runs(there, data_dir=settings.data_dir))
    return [record and _check_record(record, next(resolved), settings=settings) for record in records]


def _read_record(run: RunSpec, *, settings: Settings) -> Record | None:
    if run.is_untuned:
        hint = "tiebench train CONFIG makes the trials and chooses; in Python, tiebench.train(experiment)"
        raise UsageError(f"the values of {run.name} are still to be tuned", hint)
    folder = settings.store.folder(run.experiment, run.arm, run.seed)
    return None if settings.force else settings.store.read(folder)


def _check_record(found: Record, run: RunSpec, *, settings: Settings) -> Record:
    """The record of a resolved run, once it is sure that it is of this run on this text."""
    folder = settings.store.folder_of(found)
    if found.signature != run.signature:
        raise UsageError(
            f"{folder} holds another run ({found.signature}) than the one asked for ({run.signature}): "
            f"{_name_difference(found, run)}",
            REMEDY,
        )
    corpus = run.spec.corpus
    if isinstance(corpus, TextConfig | ParallelConfig):
        _check_text(found, run, corpus=corpus, folder=folder, data_dir=settings.data_dir)
    return found


def _check_text(
    found: Record, run: RunSpec, *, corpus: TextConfig | ParallelConfig, folder: Path, data_dir: Path | None
) -> None:
    """A user's own files have no place in the signature, so their content is compared."""
    checksum = open_corpus(corpus, data_dir=data_dir, near=run.folder).checksum
    if checksum != found.corpus.checksum:
        name = corpus.target.train if isinstance(corpus, ParallelConfig) else corpus.file or corpus.train
        raise UsageError(f"{folder} was trained on other text than {name} has now", REMEDY)


def _name_difference(found: Record, run: RunSpec) -> str:
    """The first field in which two specs differ."""
    specs = {"there": found.spec.model_dump(mode="json"), "asked": run.resolved}
    for path, values in find_differences(specs, spell_out=True):
        if values["there"] or values["asked"]:
            return f"{path} is {values['there']} there and {values['asked']} here"
    return "the seed differs"
