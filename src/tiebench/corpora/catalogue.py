"""The named corpora, and where their text comes from: the data folder, the copy kept from the hub, or the hub."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tiebench.corpora.cache import is_intact, keep_folder
from tiebench.corpora.corpus import Corpus, read_corpus, verify_files
from tiebench.corpora.hub import HubText, fetch_rows
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import SPLITS
from tiebench.files import cache_folder


@dataclass(frozen=True)
class Source:
    """A catalogue entry: what the text is, the names of its files, and where it can be downloaded.

    `layouts` are paths below the data folder with `{split}` for train, valid or test. `restore_line` turns a row
    of the hub's table back into the line (newline included) of the published file. With `has_titles`, the text says
    where its articles begin.
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
    has_titles: bool = False


def open_source(source: Source, *, data_dir: Path | None, download: bool = True) -> Corpus:
    """The catalogue's corpus, from the first place that has it; without `download`, the hub is not asked.

    Raises TiebenchError when no place has it, or when its counts are not the published ones.
    """
    return read_corpus(
        source.name,
        title=source.title,
        citation=source.citation,
        licence=source.licence,
        files=_find_files(source, data_dir=data_dir) or _keep_hub_text(source, download=download),
        expected_tokens=source.expected_tokens,
        expected_vocabulary=source.expected_vocabulary,
        has_titles=source.has_titles,
    )


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
    """The files of the first complete layout; a layout of which only some files are there is an error."""
    if data_dir is None:
        return None
    for layout in source.layouts:
        files = {split: data_dir / layout.format(split=split) for split in SPLITS}
        missing = [str(file) for file in files.values() if not file.is_file()]
        if not missing:
            return files
        if len(missing) < len(SPLITS):
            raise TiebenchError(
                f"{source.name} is incomplete: {' and '.join(missing)} not found",
                f"Put the missing file there. {source.download}",
            )
    return None


def _keep_hub_text(source: Source, *, download: bool) -> dict[str, Path]:
    name = f"hub/{source.name}"
    if not download and not is_intact(cache_folder() / name):
        raise TiebenchError(f"the corpus {source.name} is not on this machine", "name its folder with --data-dir DATA")
    folder = keep_folder(name, build=partial(_fetch_text, source))
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


def _restore_ptb_line(row: str) -> str:
    """The published files have a space on either side of the sentence; the hub's rows do not."""
    return f" {row.strip()} \n"


def _restore_wikitext_line(row: str) -> str:
    """The hub's rows are the lines with their newlines, but a blank line, published as one space, is empty."""
    return row if row.endswith("\n") else f"{row or ' '}\n"


def _wikitext(
    name: str,
    *,
    title: str,
    suffix: str,
    expected_tokens: dict[str, int] | None = None,
    expected_vocabulary: int | None = None,
) -> Source:
    """One of the four WikiText corpora, whose published files are `wiki.{train,valid,test}.<suffix>`."""
    return Source(
        name=name,
        title=title,
        citation="Merity et al. 2016, Pointer Sentinel Mixture Models, arXiv 1609.07843",
        licence="CC BY-SA 3.0",
        download=f"Download {name}-v1.zip, or the configuration {name}-v1 of Salesforce/wikitext on huggingface.co, "
        f"from a machine with network: the text is {name}/wiki.{{train,valid,test}}.{suffix}.",
        layouts=(
            f"{name}/wiki.{{split}}.{suffix}",
            f"{name}-v1/wiki.{{split}}.{suffix}",
            f"{name}/{{split}}.txt",
            f"wiki.{{split}}.{suffix}",
        ),
        hub=HubText("Salesforce/wikitext", column="text", config=f"{name}-v1"),
        restore_line=_restore_wikitext_line,
        expected_tokens=expected_tokens,
        expected_vocabulary=expected_vocabulary,
        has_titles=True,
    )


_HELD_OUT_TOKENS = {"valid": 217_646, "test": 245_569}

CATALOGUE: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="ptb",
            title="Penn Treebank (Mikolov)",
            citation="Marcus et al. 1993, Building a large annotated corpus of English: the Penn Treebank, "
            "as prepared by Mikolov et al. 2010, Recurrent neural network based language model",
            licence="Linguistic Data Consortium (LDC), not redistributable",
            download="Download simple-examples.tgz from Tomas Mikolov's page (www.fit.vutbr.cz/~imikolov/rnnlm) and "
            "unpack it: the text is simple-examples/data/ptb.{train,valid,test}.txt.",
            layouts=(
                "ptb/ptb.{split}.txt",
                "simple-examples/data/ptb.{split}.txt",
                "ptb.{split}.txt",
                "data/ptb.{split}.txt",
                "penn/{split}.txt",
                "ptb/{split}.txt",
            ),
            hub=HubText(
                "hf://datasets/ptb-text-only/ptb_text_only@refs%2Fconvert%2Fparquet/penn_treebank/{split}/0000.parquet",
                column="sentence",
            ),
            restore_line=_restore_ptb_line,
            expected_tokens={"train": 929_589, "valid": 73_760, "test": 82_430},
            expected_vocabulary=10_000,
        ),
        _wikitext(
            "wikitext-2",
            title="WikiText-2",
            suffix="tokens",
            expected_tokens={"train": 2_088_628} | _HELD_OUT_TOKENS,
            expected_vocabulary=33_278,
        ),
        _wikitext("wikitext-2-raw", title="WikiText-2, raw", suffix="raw"),
        _wikitext(
            "wikitext-103",
            title="WikiText-103",
            suffix="tokens",
            expected_tokens={"train": 103_227_021} | _HELD_OUT_TOKENS,
            expected_vocabulary=267_735,
        ),
        _wikitext("wikitext-103-raw", title="WikiText-103, raw", suffix="raw"),
    )
}
