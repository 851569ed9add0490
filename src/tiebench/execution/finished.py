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


def find_finished(run: RunSpec, *, settings: Settings) -> Record | None:
    """The record of this very run, if there is one; one that cannot be read is none (see `Store.read`).

    Raises UsageError when its folder holds another run, or one on a text that has changed since, and for a run whose
    values are still to be tuned.
    """
    if run.is_untuned:
        hint = "tiebench train CONFIG makes the trials and chooses; in Python, tiebench.train(experiment)"
        raise UsageError(f"the values of {run.name} are still to be tuned", hint)
    folder = settings.store.folder(run.experiment, run.arm, run.seed)
    found = None if settings.force else settings.store.read(folder)
    if found is None:
        return None
    (run,) = identify_checkpoints([run], data_dir=settings.data_dir)
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
