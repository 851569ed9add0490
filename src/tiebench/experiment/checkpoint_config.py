"""Where a model starts, if not at random: a checkpoint that somebody has trained already."""

from typing import Annotated, Literal

from pydantic import Field

from tiebench.experiment.block import Block

TieBy = Literal["input", "output", "mean"]


class InitialiseFromConfig(Block):
    """A checkpoint in the Hugging Face format (gpt2 or llama) to go on from, tied or untied, whatever the arm is.

    `tiebench export` writes one, and so does `save_pretrained` of transformers. Its vocabulary and its tokenizer are
    taken over. An untied arm begins with two equal matrices where the checkpoint has one. A tied arm begins with one of
    the two where the checkpoint has two, or with their mean, and `tie_by` says which. A relative path starts at the
    folder of the experiment file, else at the current folder, else at the data folder.
    """

    folder: str = Field(min_length=1, description="Folder with config.json, weights and tokenizer.json.")
    tie_by: TieBy | None = Field(default=None, description="Which matrix a tied arm takes of an untied checkpoint.")
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="SHA-256 that its files must have; computed unless given."
    )
