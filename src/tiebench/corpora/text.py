"""Your own text, one sentence or paragraph a line: three UTF-8 files, or one that is split by its lines."""

from functools import partial
from pathlib import Path

from tiebench.corpora.cache import keep_folder
from tiebench.corpora.corpus import Corpus, read_corpus
from tiebench.corpora.reading import read_lines
from tiebench.corpora.text_statistics import read_statistics
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import SPLITS, TextConfig


def open_text(config: TextConfig, *, data_dir: Path | None, near: Path | None = None) -> Corpus:
    """Open the user's own text. A relative path is looked for in `near`, in the current folder, and in `data_dir`.

    Raises TiebenchError for a missing file, an empty split, or text that is not UTF-8 (with its line).
    """
    folders = [folder for folder in (near, Path(), data_dir) if folder is not None]
    facts = {}
    if config.file is not None and config.split is not None:
        whole = find_own_file(config.file, key="file", folders=folders)
        files, facts["split"] = _split_file(whole, parts=config.split)
    else:
        files = {split: find_own_file(getattr(config, split), key=split, folders=folders) for split in SPLITS}
    return read_corpus("text", title="own text", citation="", licence="", files=files, facts=facts)


def cut_lines(num_lines: int, *, parts: tuple[float, float, float]) -> dict[str, range]:
    """Which lines (counted from 0) each split gets: three blocks in the order of the file, with nothing left over.

    The cuts are at the nearest line to `parts[0]` and to `parts[0] + parts[1]` of all, so they depend on nothing but
    the number of lines.
    """
    first, second = round(num_lines * parts[0]), round(num_lines * (parts[0] + parts[1]))
    return dict(zip(SPLITS, (range(first), range(first, second), range(second, num_lines)), strict=True))


def _split_file(file: Path, *, parts: tuple[float, float, float]) -> tuple[dict[str, Path], str]:
    """The three files, kept in the cache by the content of the whole file, and in words which lines each has."""
    statistics = read_statistics(file)
    lines = cut_lines(statistics.num_lines, parts=parts)
    said = ", ".join(f"{split} lines {block.start + 1} to {block.stop}" for split, block in lines.items())
    if empty := [split for split, block in lines.items() if not block]:
        number = f"{statistics.num_lines:,} line{'' if statistics.num_lines == 1 else 's'}"
        hint = "the text is split between its lines: give it more lines, or the split a larger part"
        raise TiebenchError(f"{file} has {number}: nothing is left for {empty[0]}", hint)
    cuts = "-".join(str(block.stop) for block in lines.values())
    folder = keep_folder(f"split-text/{statistics.sha256[:24]}-{cuts}", build=partial(_write_splits, file, lines))
    return {split: folder / f"{split}.txt" for split in SPLITS}, said


def _write_splits(file: Path, lines: dict[str, range], folder: Path) -> None:
    found = read_lines(file)
    for split, block in lines.items():
        with (folder / f"{split}.txt").open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{next(found)}\n" for _ in block)


def find_own_file(name: str, *, key: str, folders: list[Path]) -> Path:
    """The first of the folders that has the file. Raises TiebenchError that names all places that were tried."""
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # `~name` where there is no user of that name
        path = Path(name)
    places = list(dict.fromkeys((folder / path).absolute() for folder in folders))
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return found
    wrong = next((f": {place} is no regular file" for place in places if place.exists()), "")
    raise TiebenchError(
        f"the {key} file of the corpus was not found{wrong or ': tried ' + ' and '.join(map(str, places))}",
        f"Give a path that exists as corpus.{key}, or the folder it is in as --data-dir.",
    )
