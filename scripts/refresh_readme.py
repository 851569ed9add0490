"""Rewrite the outputs that README.md shows, by running the commands that stand above them on the published records."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```\n\$ (tiebench .*)\n(?:.*\n)*?```\n")
WIDTH = 120


def list_published(root: Path) -> list[Path]:
    """The files below results/ that git tracks, relative to `root`; in an unpacked archive, all of them."""
    asked = subprocess.run(["git", "-C", str(root), "ls-files", "results"], capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return [Path(line) for line in asked.stdout.splitlines()]
    return [file.relative_to(root) for file in sorted((root / "results").rglob("*")) if file.is_file()]


def copy_published(root: Path, folder: Path) -> Path:
    """A results folder with the published records and nothing else, so that a user's own runs do not show."""
    for file in list_published(root):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / file, folder / file)
    return folder / "results"


def run_command(command: str, *, results: Path) -> str:
    """What a command prints on stdout, without spaces at the ends of lines."""
    words = [sys.executable, "-m", "tiebench", *shlex.split(command)[1:], "--results", str(results)]
    asked = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": str(WIDTH)})
    if asked.returncode not in (0, 3):
        raise SystemExit(f"{command} failed:\n{asked.stderr}")
    return "\n".join(line.rstrip() for line in asked.stdout.strip().splitlines())


def fill_blocks(text: str, *, results: Path) -> str:
    """The page with every block that begins with `$ tiebench ...` filled by that command."""
    return BLOCK.sub(lambda block: f"```\n$ {block[1]}\n{run_command(block[1], results=results)}\n```\n", text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    with tempfile.TemporaryDirectory() as scratch:
        readme.write_text(fill_blocks(readme.read_text("utf-8"), results=copy_published(ROOT, Path(scratch))), "utf-8")
