"""Your own text: three UTF-8 files, one sentence or paragraph a line, as `train`, `valid` and `test`."""

from pathlib import Path

from tiebench.corpora.corpus import SPLITS, Corpus, read_corpus
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import TextConfig


def open_text(config: TextConfig, *, data_dir: Path | None) -> Corpus:
    """Raises TiebenchError for a missing file, an empty split, or text that is not UTF-8 (with its line)."""
    files = {split: _find_file(getattr(config, split), split=split, data_dir=data_dir) for split in SPLITS}
    return read_corpus("text", title="own text", citation="", licence="", files=files)


def _find_file(name: str, *, split: str, data_dir: Path | None) -> Path:
    places = [Path(name).expanduser()] + ([data_dir / name] if data_dir else [])
    for place in places:
        if place.is_file():
            return place
    tried = " and ".join(str(place.absolute()) for place in dict.fromkeys(places))
    raise TiebenchError(
        f"the {split} file of the corpus was not found: tried {tried}",
        f"Give a path that exists as corpus.{split}, or the folder it is in as --data-dir.",
    )
