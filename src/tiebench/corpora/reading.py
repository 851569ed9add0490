"""Text of any length in pieces of bounded size, cut between lines."""

from collections.abc import Iterator
from pathlib import Path

from tiebench.errors import TiebenchError

PIECE_BYTES = 2**21
BOM = b"\xef\xbb\xbf"  # the byte order mark that some editors put before a text


def read_pieces(file: Path) -> Iterator[str]:
    """The text of a UTF-8 file in pieces of about 2 MiB that end with a newline.

    A last line without its newline is given one. A line that is longer than a piece is cut before a space.
    Only `\\n` ends a line; nothing is translated. A byte order mark before the text is no part of it.

    Raises TiebenchError that names the line when the file is not UTF-8.
    """
    num_lines = 0
    for block in _read_blocks(file):
        yield _decode_block(block, file=file, num_lines_before=num_lines)
        num_lines += block.count(b"\n")


def read_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without their newlines.

    Raises TiebenchError that names the line when the file is not UTF-8.
    """
    begun: list[str] = []
    for piece in read_pieces(file):
        first, *others = piece.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            yield from others[:-1]
            begun = [others[-1]]


def _read_blocks(file: Path) -> Iterator[bytes]:
    """Every byte is searched once and joined once, so that a very long line costs no more than short ones."""
    begun: list[bytes] = []  # parts of a line, or of its rest after a space; none is empty
    with file.open("rb") as stream:
        if stream.read(len(BOM)) != BOM:
            stream.seek(0)
        while block := stream.read(PIECE_BYTES):
            end = block.rfind(b"\n") + 1 or max(block.rfind(b" "), 0)
            if end or (begun and block.startswith(b" ")):
                yield b"".join([*begun, block[:end]])
                begun = []
            begun += [block[end:]] if block[end:] else []
    if rest := b"".join(begun):
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _decode_block(block: bytes, *, file: Path, num_lines_before: int) -> str:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = num_lines_before + block.count(b"\n", 0, error.start) + 1
        message = f"{file}, line {line}: not UTF-8 text (byte 0x{block[error.start]:02x}: {error.reason})"
        raise TiebenchError(message, "Convert the file first, for example: iconv -t UTF-8 FILE > NEW") from error
