"""Text drawn from a source whose loss is known, so that a model's excess over it can be told."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tiebench.corpora import hidden_markov
from tiebench.corpora.cache import keep_folder
from tiebench.corpora.corpus import Corpus, read_corpus
from tiebench.corpora.hidden_markov import MarkovSource, build_source, draw_words, measure_nats
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import SPLITS, SyntheticConfig

HELD_OUT_SHARE = 10  # valid and test are each a tenth of the training text
SOURCE_FILE = "source-nats.json"


def open_synthetic(config: SyntheticConfig) -> Corpus:
    """Drawn once for each block of options; equal options give equal text.

    Raises TiebenchError where a word of the held-out text never stands in the training text: no model could know it.
    """
    source = build_source(
        num_words=config.words, num_states=config.states, agreement=config.agreement, seed=config.seed
    )
    options = json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()
    name = hashlib.sha256(options + _digest_program()).hexdigest()[:24]
    folder = keep_folder(f"synthetic/{name}", build=partial(_write_text, source, config))
    source_nats = json.loads((folder / SOURCE_FILE).read_text("utf-8"))
    corpus = read_corpus(
        "synthetic",
        title="Synthetic source",
        citation="",
        licence="",
        files={split: folder / f"{split}.txt" for split in SPLITS},
    )
    return replace(corpus, source_nats=source_nats)


def _write_text(source: MarkovSource, config: SyntheticConfig, folder: Path) -> None:
    """The three splits, and the source's own nats of the held-out ones."""
    known: set[int] = set()
    source_nats = {}
    for place, split in enumerate(SPLITS, start=1):
        num_tokens = config.tokens if split == "train" else config.tokens // HELD_OUT_SHARE
        generator = np.random.Generator(np.random.PCG64([config.seed, place]))
        words = draw_words(source, num_words=num_tokens, generator=generator)
        known.update(words if split == "train" else ())
        if unknown := set(words) - known:
            raise TiebenchError(
                f"the synthetic text has {len(unknown)} words in {split} that never stand in train",
                "raise corpus.tokens, or lower corpus.words",
            )
        if split != "train":
            source_nats[split] = float(measure_nats(source, words).sum())
        (folder / f"{split}.txt").write_text(_lay_out_lines(words), "utf-8", newline="\n")
    (folder / SOURCE_FILE).write_text(json.dumps(source_nats), "utf-8")


def _lay_out_lines(words: list[int]) -> str:
    return "".join("\n" if word == 0 else f"w{word} " for word in words)


def _digest_program() -> bytes:
    """The text changes when, and only when, one of these files does."""
    return b"".join(hashlib.sha256(Path(file).read_bytes()).digest() for file in (__file__, hidden_markov.__file__))
