"""`tiebench audit`: does a checkpoint of another library store what its config says about tying?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebench.cli.options import AsJson
from tiebench.cli.output import print_json, print_line
from tiebench.errors import CheckFailed

if TYPE_CHECKING:
    from tiebench.models.checkpoint_files import StoredTensor


def audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder with config.json and safetensors.")],
    as_json: AsJson = False,
) -> None:
    """Say whether a checkpoint stores the tie that its config promises, and what a loader makes of it.

    Reads config.json and safetensors files, never a pickle. Exit code 3 where the two disagree.
    """
    from tiebench.models.tie_audit import TIE_KEY, audit_checkpoint

    found = audit_checkpoint(folder)
    if as_json:
        print_json(found.describe())
    else:
        said = "not known" if found.tied is None else str(found.tied).lower()
        files = found.files[0] if len(found.files) == 1 else f"{len(found.files)} files"
        print_line(f"config   {found.model_type}, {TIE_KEY}: {said}{'' if found.written else ' (not written)'}")
        print_line(f"files    {files}, {found.num_tensors} tensors")
        print_line(f"input    {_show_tensor(found.input)}")
        print_line(f"output   {_show_tensor(found.output)}")
        if found.input is not None and found.output is not None:
            print_line(f"equal    {_show_difference(found.difference)}")
        print_line(f"loading  {found.loading}")
        print_line(f"saving   {found.saving}")
        print_line(found.verdict)
    if not found.agrees:
        raise CheckFailed(f"{folder}: {found.verdict}", found.remedy)


def _show_tensor(tensor: "StoredTensor | None") -> str:
    if tensor is None:
        return "not stored"
    return f"{tensor.name}, {' x '.join(map(str, tensor.shape))}, {tensor.dtype}"


def _show_difference(difference: float | None) -> str:
    if difference is None:
        return "no: the shapes differ"
    return "yes, every number" if difference == 0 else f"no: they differ by up to {difference:.3g}"
