"""Where a catalogue entry's text comes from: the data folder, else the copy kept from the hub, else the hub."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tiebench.corpora.cache import keep_folder
from tiebench.corpora.corpus import SPLITS, Corpus, read_corpus, verify_files
from tiebench.corpora.hub import HubText, fetch_rows
from tiebench.errors import TiebenchError


@dataclass(frozen=True)
class Source:
    """A catalogue entry: what the text is, the names its files go by, and where else it can be had.

    `layouts` are paths below the data folder with `{split}` for train, valid or test. `restore_line` turns a row
    of the hub's table back into the line (newline included) of the published file.
    """

    name: str
    title: str
    citation: str
    licence: str
    download: str
    layouts: tuple[str, ...]
    hub: HubText
    restore_line: Callable[[str], str]
    expected_tokens: dict[str, int] | None = None
    expected_vocabulary: int | None = None


def open_source(source: Source, *, data_dir: Path | None) -> Corpus:
    """The catalogue's corpus, from the first place that has it.

    Raises TiebenchError when no place has it, or when what is there does not have the published counts.
    """
    return read_corpus(source.name, title=source.title, citation=source.citation, licence=source.licence,
                       files=_find_files(source, data_dir=data_dir) or _keep_hub_text(source),
                       expected_tokens=source.expected_tokens, expected_vocabulary=source.expected_vocabulary)


def restore_files(source: Source, *, rows: dict[str, Iterator[str]], folder: Path) -> dict[str, Path]:
    """Write the rows of each split as the published files, and verify their counts.

    Raises TiebenchError when the counts are not the published ones.
    """
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    for split, file in files.items():
        with file.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(map(source.restore_line, rows[split]))
    verify_files(files, expected_tokens=source.expected_tokens, expected_vocabulary=source.expected_vocabulary)
    return files


def _find_files(source: Source, *, data_dir: Path | None) -> dict[str, Path] | None:
    """The files of the first layout that is complete; a layout with a file missing is an error, not a miss."""
    for layout in source.layouts if data_dir else ():
        files = {split: data_dir / layout.format(split=split) for split in SPLITS}
        missing = [str(file) for file in files.values() if not file.is_file()]
        if not missing:
            return files
        if len(missing) < len(SPLITS):
            raise TiebenchError(f"{source.name} is incomplete: {' and '.join(missing)} not found",
                                f"Put the missing file there. {source.download}")
    return None


def _keep_hub_text(source: Source) -> dict[str, Path]:
    folder = keep_folder(f"hub/{source.name}", build=partial(_fetch_text, source))
    return {split: folder / f"{split}.txt" for split in SPLITS}


def _fetch_text(source: Source, folder: Path) -> None:
    try:
        rows = fetch_rows(source.hub)
    except ConnectionError as error:
        wanted = source.layouts[0].format(split="{train,valid,test}")
        raise TiebenchError(
            f"the corpus {source.name} is not on this machine and could not be downloaded: {error}",
            f"{source.download}\nPut it at DATA/{wanted} and name the folder: --data-dir DATA (or TIEBENCH_DATA)",
        ) from error
    restore_files(source, rows=rows, folder=folder)
