"""Text and its translation, line by line: the user's own files, and Multi30k."""

import gzip
import hashlib
import shutil
import zlib
from functools import partial
from pathlib import Path

from tiebench.corpora.cache import keep_folder
from tiebench.corpora.corpus import Corpus, verify_files
from tiebench.corpora.text import find_own_file
from tiebench.corpora.text_statistics import read_statistics
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import SPLITS, Multi30kConfig, ParallelConfig
from tiebench.files import compute_digest

MULTI30K_LINES = {"train": 29_000, "valid": 1_014, "test": 1_000}
MULTI30K_NAMES = {"train": ("train",), "valid": ("val", "valid"), "test": ("test_2016_flickr", "test2016", "test")}
MULTI30K_FOLDERS = ("multi30k", "multi30k-dataset/data/task1/raw", "data/task1/raw", ".")
MULTI30K_DOWNLOAD = (
    "Get {train,val,test_2016_flickr}.{en,de}.gz of task 1 from github.com/multi30k/dataset, on a machine with network,"
    "\nput them at DATA/multi30k and name the folder: --data-dir DATA (or TIEBENCH_DATA)"
)


def open_parallel(config: ParallelConfig, *, data_dir: Path | None, near: Path | None = None) -> Corpus:
    """The user's own aligned files. Raises TiebenchError for one that is missing, empty, not UTF-8 or not aligned."""
    folders = [folder for folder in (near, Path(), data_dir) if folder is not None]
    sides = [
        {split: find_own_file(getattr(side, split), key=f"{key}.{split}", folders=folders) for split in SPLITS}
        for key, side in (("source", config.source), ("target", config.target))
    ]
    return read_parallel("parallel", title="own translated text", citation="", licence="", sides=sides)


def open_multi30k(config: Multi30kConfig, *, data_dir: Path | None) -> Corpus:
    """Multi30k, packed with gzip or not, below the data folder.

    Raises TiebenchError where it is not there, or does not have the published number of lines.
    """
    source, target = config.direction.split("-")
    sides = [
        {split: _find_multi30k_file(split, language=language, data_dir=data_dir) for split in SPLITS}
        for language in (source, target)
    ]
    return read_parallel(
        "multi30k",
        title="Multi30k (task 1, raw)",
        citation="Elliott et al. 2016, Multi30K: Multilingual English-German Image Descriptions, arXiv 1605.00459",
        licence="captions of Flickr30k: for research and education",
        sides=sides,
        facts={"direction": config.direction},
        expected_lines=MULTI30K_LINES,
    )


def read_parallel(
    name: str,
    *,
    title: str,
    citation: str,
    licence: str,
    sides: list[dict[str, Path]],
    facts: dict[str, str] | None = None,
    expected_lines: dict[str, int] | None = None,
) -> Corpus:
    """A corpus from its files in two languages: `sides` are source and target.

    Raises TiebenchError that names file and counts where a line has no counterpart.
    """
    source, target = sides
    digests = [verify_files(side, expected_tokens=None, expected_vocabulary=None) for side in sides]
    for split in SPLITS:
        counts = [read_statistics(side[split]).num_lines for side in sides]
        if counts[0] != counts[1]:
            raise TiebenchError(
                f"{source[split]} has {counts[0]:,} lines, and {target[split]} has {counts[1]:,}",
                "each line of the one must be the translation of the same line of the other",
            )
        if expected_lines and counts[0] != expected_lines[split]:
            raise TiebenchError(
                f"{source[split]} has {counts[0]:,} lines, the catalogue expects {expected_lines[split]:,}",
                "The file is another version of the corpus, or was cut off. Download it again, or use it as your own "
                "text: corpus: {type: parallel, source: {train: ...}, target: {train: ...}}",
            )
    checksum = hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()
    return Corpus(name, title, citation, licence, target, checksum, facts=facts or {}, source_files=source)


def _find_multi30k_file(split: str, *, language: str, data_dir: Path | None) -> Path:
    if data_dir is None:
        raise TiebenchError("the corpus multi30k is not on this machine", MULTI30K_DOWNLOAD)
    for folder in MULTI30K_FOLDERS:
        for name in MULTI30K_NAMES[split]:
            plain = data_dir / folder / f"{name}.{language}"
            packed = plain.with_name(f"{plain.name}.gz")
            if plain.is_file():
                return plain
            if packed.is_file():
                return _unpack(packed)
    first = data_dir / MULTI30K_FOLDERS[0] / f"{MULTI30K_NAMES[split][0]}.{language}.gz"
    raise TiebenchError(f"the corpus multi30k is not in {data_dir}: {first} not found", MULTI30K_DOWNLOAD)


def _unpack(packed: Path) -> Path:
    """The text of a gzip file, in the cache by the file's own content. Raises TiebenchError for a damaged one."""
    folder = keep_folder(
        f"unpacked/{packed.stem}-{compute_digest(packed)[:24]}", build=partial(_write_unpacked, packed)
    )
    return folder / packed.stem


def _write_unpacked(packed: Path, folder: Path) -> None:
    try:
        with gzip.open(packed) as stream, (folder / packed.stem).open("wb") as out:
            shutil.copyfileobj(stream, out)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TiebenchError(f"{packed} is damaged: {error}", "download it again") from error
