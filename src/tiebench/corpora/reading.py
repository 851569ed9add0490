"""Text of any length in pieces of bounded size, cut between lines."""

from collections.abc import Iterator
from pathlib import Path

from tiebench.errors import TiebenchError

PIECE_BYTES = 2**21


def read_pieces(file: Path) -> Iterator[str]:
    """The text of a UTF-8 file in pieces of about 2 MiB that end with a newline.

    A last line without its newline is given one. A line that is longer than a piece is cut before a space.
    Only `\\n` ends a line; nothing is translated.

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
    rest = ""
    for piece in read_pieces(file):
        *whole, rest = (rest + piece).split("\n")
        yield from whole


def _read_blocks(file: Path) -> Iterator[bytes]:
    rest = b""
    with file.open("rb") as stream:
        while block := stream.read(PIECE_BYTES):
            block = rest + block
            end = block.rfind(b"\n") + 1 or max(block.rfind(b" "), 0)
            rest = block[end:]
            if end:
                yield block[:end]
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _decode_block(block: bytes, *, file: Path, num_lines_before: int) -> str:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = num_lines_before + block.count(b"\n", 0, error.start) + 1
        message = f"{file}, line {line}: not UTF-8 text (byte 0x{block[error.start]:02x}: {error.reason})"
        raise TiebenchError(message, "Convert the file first, for example: iconv -t UTF-8 FILE > NEW") from error
