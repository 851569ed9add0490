"""A name in a YAML file is a file in a folder: `architecture: {type: lstm}` is `architectures/lstm.py`.

A registry is a package. Its entries are the modules that define a class named `Options`; what the block in the
YAML may say is that class, and what it means stands below it in the same file. Adding an entry is adding a file.

Names and descriptions are read from the source without importing it, because an entry may import torch (two
seconds). Decoded options are remembered under the sources that define them and the block, so that a command which only
looks at finished runs never imports an entry at all.
"""

import ast
import difflib
import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from tiebench.errors import UsageError


def cache_folder() -> Path:
    """The folder for everything that can be made again: `TIEBENCH_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("TIEBENCH_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiebench"


def did_you_mean(name: str, known: Iterable[str], *, more: Iterable[str] = ()) -> str:
    """`did you mean 'lstm'? ` for a near miss, and always what is allowed; `more` is too much to be listed."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), [*names, *more], n=1, cutoff=0.5)
    suggestion = f"did you mean '{close[0]}'? " if close else ""
    return f"{suggestion}allowed: {', '.join(names)}"


@dataclass(frozen=True)
class Registry:
    """The entries of one package, by the name that a YAML `type:` uses."""

    kind: str
    package: str

    @cached_property
    def sources(self) -> dict[str, Path]:
        """Entry name to source file, in alphabetical order."""
        folder = Path(__file__).parent / self.package
        files = sorted(folder.glob("*.py"))
        return {file.stem.replace("_", "-"): file for file in files if _defines_options(file)}

    def names(self) -> list[str]:
        return list(self.sources)

    def describe(self, name: str) -> str:
        """The first sentence of an entry's docstring, without importing it."""
        docstring = ast.get_docstring(ast.parse(self.source(name).read_text("utf-8"))) or ""
        return docstring.split("\n\n")[0].replace("\n", " ")

    def source(self, name: str) -> Path:
        """Raises UsageError for a name that is no entry."""
        if name not in self.sources:
            raise UsageError(f"unknown {self.kind} '{name}'", did_you_mean(name, self.sources))
        return self.sources[name]

    def load(self, name: str) -> ModuleType:
        """Import an entry."""
        return importlib.import_module(f"tiebench.{self.package}.{self.source(name).stem}")

    def decode(self, block: dict[str, Any]) -> dict[str, Any]:
        """Check a block against its entry's `Options` and fill in the defaults.

        Raises UsageError for an unknown type, pydantic.ValidationError for options that do not fit.
        """
        name = block["type"]
        source = self.source(name)
        shared = Path(__file__).parent / "experiment" / "schema.py"
        content = source.read_bytes() + shared.read_bytes() + json.dumps(block, sort_keys=True).encode()
        key = hashlib.sha256(content).hexdigest()
        memory = cache_folder() / "decoded" / f"{self.package}-{name}-{key[:32]}.json"
        try:
            return json.loads(memory.read_text("utf-8"))
        except (OSError, ValueError):
            options = self.load(name).Options.model_validate(block)
        decoded = options.model_dump(mode="json")
        _remember(memory, decoded)
        return decoded

    def build(self, block: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        """Decode a block and hand it to its entry's `build(options, ...)`."""
        module = self.load(block["type"])
        return module.build(module.Options.model_validate(block), *arguments, **keywords)


def _defines_options(file: Path) -> bool:
    return "\nclass Options(" in file.read_text("utf-8")


def _remember(file: Path, decoded: dict[str, Any]) -> None:
    """Write aside and rename; a cache that cannot be written only costs the next start two seconds."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as aside:
            json.dump(decoded, aside)
        os.replace(aside.name, file)
    except OSError:
        return


architectures = Registry("architecture", "architectures")
ties = Registry("tie", "tying")
corpora = Registry("corpus", "corpora")
