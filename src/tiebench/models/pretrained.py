"""The weights of a checkpoint in the Hugging Face format in a model of ours, tied or untied as the model is."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tiebench.errors import TiebenchError, UsageError
from tiebench.experiment.checkpoint_config import TieBy
from tiebench.experiment.schema import ArmSpec
from tiebench.models.checkpoint_files import find_weight_files
from tiebench.models.hugging_face import convert_hugging_face
from tiebench.models.language_model import LanguageModel
from tiebench.models.tie_audit import TieAudit, audit_checkpoint


def check_tie(spec: ArmSpec, folder: Path) -> TieAudit:
    """Whether the checkpoint is tied. Raises UsageError where its files leave that open, and where `tie_by` is missing
    or has no meaning.
    """
    audit = audit_checkpoint(folder)
    if audit.tied is None or not audit.agrees:
        raise UsageError(f"{folder}: {audit.verdict}", audit.remedy if audit.tied is not None else "")
    tie_by = spec.initialise_from.tie_by if spec.initialise_from else None
    if spec.tie.type == "tied" and not audit.tied and tie_by is None:
        raise UsageError(
            f"initialise_from.tie_by is missing: {folder} has two matrices, and a tied arm begins with one",
            "write input, output or mean: initialise_from: {folder: DIR, tie_by: input}",
        )
    if audit.tied and tie_by is not None:
        raise UsageError(
            f"initialise_from.tie_by is {tie_by}, but {folder} is tied: there is one matrix", "remove tie_by"
        )
    return audit


@torch.no_grad()
def load_pretrained(model: LanguageModel, spec: ArmSpec, folder: Path) -> None:
    """Fill every parameter of `model` (on the CPU) from a checkpoint whose config was checked, in float32.

    Raises UsageError as `check_tie` does, TiebenchError for weights that are missing or have no place, and for those of
    another shape.
    """
    audit = check_tie(spec, folder)
    tensors: dict[str, torch.Tensor] = {}
    for file in find_weight_files(folder):
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise TiebenchError(f"{file} is damaged: {error}", "copy or download it again") from error
    ends = [tensors[end.name].float() for end in (audit.input, audit.output) if end is not None]
    body = convert_hugging_face(tensors, architecture=spec.architecture.type)
    body = {name: values.float() for name, values in body.items()}
    own = {name: tuple(values.shape) for name, values in model.architecture.state_dict().items()}
    found = {name: tuple(values.shape) for name, values in body.items()}
    odd = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
    if odd or any(end.shape != model.embedding.input_embedding.shape for end in ends):
        names = ", ".join(odd[:4]) or "the embeddings"
        raise TiebenchError(f"the weights in {folder} are not those of its config: {names} differ", "copy it again")
    model.architecture.load_state_dict(body)
    tie_by = spec.initialise_from.tie_by if spec.initialise_from else None
    given, scored = choose_ends(ends[0], ends[-1], tie_by=tie_by)
    model.embedding.input_embedding.copy_(given)
    model.embedding.output_embedding.copy_(scored)


def choose_ends(
    given: torch.Tensor, scored: torch.Tensor, *, tie_by: TieBy | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and output embedding to begin with; with `tie_by` the same for both."""
    if tie_by is None:
        return given, scored
    shared = {"input": given, "output": scored, "mean": (given + scored) / 2}[tie_by]
    return shared, shared
