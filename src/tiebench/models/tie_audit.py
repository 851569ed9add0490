"""What a checkpoint in the Hugging Face format says about tying, what it stores, and what a loader makes of the two.

The behaviour of loaders is that of transformers 5.24, which tests/models/test_tie_audit.py holds it to, and of 4.50.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiebench.errors import TiebenchError
from tiebench.models.checkpoint_files import (
    CONFIG_FILE,
    StoredTensor,
    find_largest_difference,
    find_weight_files,
    list_tensors,
    read_json,
)

TIE_KEY = "tie_word_embeddings"
# The last parts of names, the more usual first.
INPUT_ENDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "shared")
OUTPUT_ENDINGS = ("lm_head", "embed_out", "output", "predictions.decoder")
# What a class of transformers takes where config.json does not say.
TIED_BY_DEFAULT = {
    **dict.fromkeys(("gpt2", "opt", "bloom", "gemma", "gemma2", "t5"), True),
    **dict.fromkeys(("llama", "mistral", "mixtral", "qwen2", "qwen3", "gpt_neox"), False),
}


@dataclass(frozen=True)
class TieAudit:
    """`tied` says whether a loader ties (None: not written, and the default of this class is not known here).

    `difference` is the largest absolute difference of the two stored matrices, 0.0 where they are equal, None where
    there are not two or their shapes differ. `agrees` is false where config and files contradict each other.
    """

    folder: Path
    model_type: str
    tied: bool | None
    written: bool
    files: tuple[str, ...]
    num_tensors: int
    input: StoredTensor | None
    output: StoredTensor | None
    difference: float | None

    @property
    def stored(self) -> str:
        """`both equal`, `both different`, `input only` or `output only`."""
        if self.input is None or self.output is None:
            return "output only" if self.input is None else "input only"
        return "both equal" if self.difference == 0.0 else "both different"

    @property
    def agrees(self) -> bool:
        if self.tied is None:
            return True
        return self.stored != "both different" if self.tied else self.stored.startswith("both")

    @property
    def loading(self) -> str:
        return _LOADING[self.tied, self.stored]

    @property
    def saving(self) -> str:
        return _SAVING[self.tied, self.stored]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.tied is None:
            return f"{CONFIG_FILE} does not say whether the embeddings are tied: write {TIE_KEY} into it"
        if self.agrees:
            return "config and files agree"
        said = "tied" if self.tied else "untied"
        found = {"both different": "two different matrices", "input only": "no output embedding"}
        return f"{CONFIG_FILE} says {said}, but the files hold {found.get(self.stored, 'no input embedding')}"

    @property
    def remedy(self) -> str:
        """What to do where they disagree."""
        if self.tied:
            return f'write "{TIE_KEY}": false into {CONFIG_FILE} to keep both, or take {_name_tensor(self.output)} out'
        return f'write "{TIE_KEY}": true into {CONFIG_FILE} if it was trained tied, or find the lost matrix'

    def describe(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        finite = self.difference is None or math.isfinite(self.difference)
        return {
            "folder": str(self.folder),
            "model_type": self.model_type,
            "tied_by_config": self.tied,
            "written_in_config": self.written,
            "files": list(self.files),
            "tensors": self.num_tensors,
            "input_embedding": _describe_tensor(self.input),
            "output_embedding": _describe_tensor(self.output),
            "stored": self.stored,
            "largest_difference": self.difference if finite else str(self.difference),
            "loading": self.loading,
            "saving": self.saving,
            "agrees": self.agrees,
            "verdict": self.verdict,
        }


def audit_checkpoint(folder: Path) -> TieAudit:
    """Read config and weights of a checkpoint; nothing in them is run.

    Raises UsageError where there is no folder or it has pickles only, TiebenchError for a missing or damaged file and
    where no embedding is found under a name that is known.
    """
    files = find_weight_files(folder)
    tensors = list_tensors(folder)
    config = read_json(folder / CONFIG_FILE)
    tied, written = _read_tie(config)
    inputs = _find_tensor(tensors, INPUT_ENDINGS)
    output = _find_tensor(tensors, OUTPUT_ENDINGS)
    if inputs is None and output is None:
        known = ", ".join((*INPUT_ENDINGS, *OUTPUT_ENDINGS))
        raise TiebenchError(
            f"{folder} has no embedding among its {len(tensors)} tensors", f"known names end in {known}"
        )
    difference = find_largest_difference(inputs, output) if inputs is not None and output is not None else None
    return TieAudit(
        folder=folder,
        model_type=str(config.get("model_type", "unknown")),
        tied=tied,
        written=written,
        files=tuple(file.name for file in files),
        num_tensors=len(tensors),
        input=inputs,
        output=output,
        difference=difference,
    )


def _read_tie(config: dict[str, Any]) -> tuple[bool | None, bool]:
    """Whether a loader ties, and whether the config says so itself (at the top, else for its text model)."""
    text = config.get("text_config")
    for block in (config, text if isinstance(text, dict) else {}):
        value = block.get(TIE_KEY)
        if isinstance(value, bool):
            return value, True
        if value is not None:
            raise TiebenchError(f"{CONFIG_FILE}: {TIE_KEY} is {str(value)[:40]!r}", "write true or false")
    return TIED_BY_DEFAULT.get(str(config.get("model_type"))), False


def _find_tensor(tensors: dict[str, StoredTensor], endings: tuple[str, ...]) -> StoredTensor | None:
    """The matrix of the first ending that there is; of several, the one with the shortest name."""
    for ending in endings:
        full = f"{ending}.weight"
        names = [name for name in tensors if name == full or name.endswith(f".{full}")]
        matrices = [name for name in names if len(tensors[name].shape) == 2 and not _is_of_a_layer(name)]
        if matrices:
            return tensors[min(matrices, key=lambda name: (len(name), name))]
    return None


def _is_of_a_layer(name: str) -> bool:
    """Such as `layer.3.attention.output.weight`."""
    return any(part.isdecimal() for part in name.split("."))


def _name_tensor(tensor: StoredTensor | None) -> str:
    return tensor.name if tensor is not None else "the second"


def _describe_tensor(tensor: StoredTensor | None) -> dict[str, Any] | None:
    if tensor is None:
        return None
    return {"name": tensor.name, "file": tensor.file.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}


_ONCE = "one matrix, once"
_TWICE = "two matrices"
_LOADING = {
    (True, "input only"): "one matrix for both ends",
    (True, "output only"): "one matrix for both ends, the stored output embedding",
    (True, "both equal"): "one matrix for both ends",
    (True, "both different"): "transformers 5 warns and loads both, untied; version 4 ties and drops the stored output "
    "embedding",
    (False, "input only"): "the output embedding is filled with random numbers",
    (False, "output only"): "the input embedding is filled with random numbers",
    (False, "both equal"): "two matrices, equal at first: training moves them apart",
    (False, "both different"): "two matrices",
    **dict.fromkeys(
        ((None, stored) for stored in ("input only", "output only", "both equal", "both different")),
        "whatever is the default of this class",
    ),
}
_SAVING = {
    (True, "input only"): _ONCE,
    (True, "output only"): f"{_ONCE}, under the name of the input embedding",
    (True, "both equal"): _ONCE,
    (True, "both different"): "transformers 5 writes both, and still tied in the config; version 4 one matrix, once",
    (False, "input only"): f"{_TWICE}, one of them random",
    (False, "output only"): f"{_TWICE}, one of them random",
    (False, "both equal"): _TWICE,
    (False, "both different"): _TWICE,
    **dict.fromkeys(
        ((None, stored) for stored in ("input only", "output only", "both equal", "both different")),
        "whatever is the default of this class",
    ),
}
