"""Open the text that a `corpus:` block names: find it, count it and check it."""

import os
from pathlib import Path

from tiebench.corpora.catalogue import CATALOGUE, open_source
from tiebench.corpora.corpus import Corpus
from tiebench.corpora.parallel import open_multi30k, open_parallel
from tiebench.corpora.pydocs import open_pydocs
from tiebench.corpora.synthetic import open_synthetic
from tiebench.corpora.text import open_text
from tiebench.errors import UsageError
from tiebench.experiment.corpus_config import CorpusConfig, Multi30kConfig, ParallelConfig, SyntheticConfig, TextConfig


def open_corpus(
    config: CorpusConfig, *, data_dir: Path | None = None, near: Path | None = None, download: bool = True
) -> Corpus:
    """The corpus that a `corpus:` block names, with every count verified.

    `data_dir` is the folder with downloaded corpora; without it, the environment variable `TIEBENCH_DATA`. `near` is
    the folder of the experiment file, where the paths of a user's own text are looked for first. Without `download`
    only this machine is searched.

    Raises UsageError for a data folder that does not exist, TiebenchError for text that cannot be found, cannot be
    read or is not what the catalogue expects.
    """
    chosen = data_dir or os.environ.get("TIEBENCH_DATA") or None
    folder = Path(chosen) if chosen else None
    if folder and not folder.is_dir():
        hint = "Name the folder that holds the corpora with --data-dir or TIEBENCH_DATA."
        raise UsageError(f"the data folder {folder} does not exist", hint)
    if isinstance(config, TextConfig):
        return open_text(config, data_dir=folder, near=near)
    if isinstance(config, ParallelConfig):
        return open_parallel(config, data_dir=folder, near=near)
    if isinstance(config, Multi30kConfig):
        return open_multi30k(config, data_dir=folder)
    if isinstance(config, SyntheticConfig):
        return open_synthetic(config)
    if config.type == "pydocs":
        return open_pydocs()
    return open_source(CATALOGUE[config.type], data_dir=folder, download=download)
