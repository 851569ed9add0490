"""What a run reads: text, its vocabulary and its token streams."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tiebench.corpora.checkpoint_tokenizer import read_tokenizer
from tiebench.corpora.corpus import Corpus
from tiebench.corpora.frequencies import count_entries, find_target_decades
from tiebench.corpora.opening import open_corpus
from tiebench.corpora.stream import TokenStream, open_streams
from tiebench.corpora.vocabulary import Vocabulary, fit_vocabulary, load_vocabulary
from tiebench.errors import TiebenchError
from tiebench.execution.initial_checkpoint import open_checkpoint
from tiebench.experiment.bundled import SPEC_FILE
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.yaml_file import read_document
from tiebench.models.checkpoint_files import CONFIG_FILE, read_json
from tiebench.results.record import VOCABULARY_FILE, Record
from tiebench.results.store import Store

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class RunData:
    """What a run reads: the corpus, its vocabulary and the three streams."""

    corpus: Corpus
    vocabulary: Vocabulary
    streams: dict[str, TokenStream] = field(repr=False)

    def count_training(self) -> "np.ndarray":
        """How often each entry of the vocabulary stands in the training split, int64 `(vocabulary,)`."""
        return count_entries(self.streams["train"], vocabulary_size=self.vocabulary.size)


def load_data(run: RunSpec, *, data_dir: Path | None = None) -> RunData:
    """Open the corpus, fit or find its vocabulary, open the streams. Raises TiebenchError with what is missing."""
    corpus = open_corpus(run.spec.corpus, data_dir=data_dir, near=run.folder)
    if run.spec.initialise_from is not None:
        vocabulary = _read_vocabulary(run, data_dir=data_dir)
    else:
        vocabulary = fit_vocabulary(run.spec.vocabulary, corpus=corpus)
    return RunData(corpus, vocabulary, open_streams(corpus, vocabulary=vocabulary))


def _read_vocabulary(run: RunSpec, *, data_dir: Path | None) -> Vocabulary:
    """The vocabulary of the checkpoint that the run goes on from, once it is checked that the arm can go on from it."""
    from tiebench.models.pretrained import check_tie
    from tiebench.models.pretrained_config import check_architecture

    folder = open_checkpoint(run, data_dir=data_dir)
    config = read_json(folder / CONFIG_FILE)
    check_architecture(run.spec, config, file=folder / CONFIG_FILE)
    check_tie(run.spec, folder)
    return read_tokenizer(folder, config=config)


def reload_data(record: Record, folder: Path, *, data_dir: Path | None = None, download: bool = False) -> RunData:
    """What the finished run in this folder read, without a download unless it is asked for.

    Raises TiebenchError where the text is not there, or has changed since the run was trained.
    """
    file = folder / SPEC_FILE
    source = read_document(file).data.get("source") if file.exists() else None
    near = Path(str(source)).parent if source else None  # where the paths of a user's own text start
    corpus = open_corpus(record.spec.corpus, data_dir=data_dir, near=near, download=download)
    if record.spec.initialise_from is not None:  # the run has kept it, whatever became of the checkpoint
        vocabulary = load_vocabulary(folder / VOCABULARY_FILE, identity=record.vocabulary.identity)
    else:
        vocabulary = fit_vocabulary(record.spec.vocabulary, corpus=corpus)
    if (corpus.checksum, vocabulary.identity) != (record.corpus.checksum, record.vocabulary.identity):
        raise TiebenchError(
            f"{folder} was trained on another text than {corpus.name} has here", "train it again: tiebench train RUN"
        )
    return RunData(corpus, vocabulary, open_streams(corpus, vocabulary=vocabulary))


def recount_test_decades(record: Record, *, store: Store, data_dir: Path | None = None) -> "np.ndarray":
    """How often the target of each test token stands in training, uint8 decades `(tokens,)`, from the corpus: for runs
    that are older than the file. Raises TiebenchError where the text is not on this machine, or has changed.
    """
    data = reload_data(record, store.folder_of(record), data_dir=data_dir)
    return find_target_decades(data.streams, vocabulary_size=data.vocabulary.size)
