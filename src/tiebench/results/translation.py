"""How well a model translates the test split, as its record says it."""

from typing import Annotated

from pydantic import Field

from tiebench.experiment.block import Block

Points = Annotated[float, Field(ge=0, le=101, allow_inf_nan=False)]  # sacrebleu's 100 is 100.00000000000004


class Translation(Block):
    """BLEU and chrF of the whole test split, 0 to 100, as sacrebleu computes them from raw text, with its signatures.

    `beam` and `length_penalty` are those of the search (`models/beam_search.py`).
    """

    bleu: Points
    chrf: Points
    bleu_signature: str
    chrf_signature: str
    sentences: Annotated[int, Field(gt=0)]
    beam: Annotated[int, Field(gt=0)]
    length_penalty: float
