"""`tiebench translate`: translate lines with a trained model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tiebench.cli.options import AsJson
from tiebench.cli.output import print_json, print_note
from tiebench.cli.workflow import find_run_folder
from tiebench.errors import UsageError
from tiebench.reporting.escaping import escape


def translate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run with its weights.")],
    file: Annotated[Path | None, typer.Argument(help="Sentences, one a line; standard input unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Translate lines with a trained model, by the beam search of its `evaluation:` block."""
    from tiebench.corpora.vocabulary import load_vocabulary
    from tiebench.execution.run import open_model
    from tiebench.execution.translating import choose_search, translate_lines
    from tiebench.experiment.schema import TRANSLATED
    from tiebench.results.record import VOCABULARY_FILE, read_record

    folder = find_run_folder(run)
    record = read_record(folder)
    if not isinstance(record.spec.corpus, TRANSLATED):
        raise UsageError(f"{run} does not translate: it was trained on {record.corpus.name}", f"tiebench sample {run}")
    model = open_model(record, folder)
    vocabulary = load_vocabulary(folder / VOCABULARY_FILE, identity=record.vocabulary.identity)
    lines = _read_input(file)
    found = translate_lines(model, lines, vocabulary=vocabulary, search=choose_search(record.spec))
    if as_json:
        pairs = [{"source": source, "translation": target} for source, target in zip(lines, found, strict=True)]
        print_json({"run": str(run), "translations": pairs})
    else:
        typer.echo("".join(f"{escape(line)}\n" for line in found), nl=False)


def _read_input(file: Path | None) -> list[str]:
    """The lines of a file, or of standard input. Raises UsageError for a missing file, and for input
    that is not UTF-8."""
    from tiebench.corpora.reading import read_lines

    if file is not None:
        if not file.is_file():
            raise UsageError(f"no such file: {file}", "name a text with one sentence a line")
        return list(read_lines(file))
    if sys.stdin.isatty():
        print_note("one sentence a line; Ctrl-D ends")
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text: {error}", "convert it: iconv -t UTF-8") from None
