"""Blocks of an experiment file, as tests write them: plain dictionaries."""

from pathlib import Path
from typing import Any

from tiebench.corpora.corpus import Corpus
from tiebench.corpora.opening import open_corpus
from tiebench.experiment.schema import CORPORA


def open_block(block: dict[str, Any], *, data_dir: Path | None = None) -> Corpus:
    """The corpus of a `corpus:` block."""
    return open_corpus(CORPORA[block["type"]].model_validate(block), data_dir=data_dir)
