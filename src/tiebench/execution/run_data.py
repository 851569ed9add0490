"""What a run reads: text, its vocabulary and its token streams."""

from dataclasses import dataclass, field
from pathlib import Path

from tiebench.corpora.corpus import Corpus
from tiebench.corpora.opening import open_corpus
from tiebench.corpora.stream import TokenStream, open_streams
from tiebench.corpora.vocabulary import Vocabulary, fit_vocabulary
from tiebench.experiment.run_spec import RunSpec


@dataclass(frozen=True)
class RunData:
    """What a run reads: the corpus, its vocabulary and the three streams."""

    corpus: Corpus
    vocabulary: Vocabulary
    streams: dict[str, TokenStream] = field(repr=False)


def load_data(run: RunSpec, *, data_dir: Path | None = None) -> RunData:
    """Open the corpus, fit or find its vocabulary, open the streams. Raises TiebenchError with what is missing."""
    corpus = open_corpus(run.spec.corpus, data_dir=data_dir, near=run.folder)
    vocabulary = fit_vocabulary(run.spec.vocabulary, corpus=corpus)
    return RunData(corpus, vocabulary, open_streams(corpus, vocabulary=vocabulary))
