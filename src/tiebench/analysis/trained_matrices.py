"""The embeddings of a finished run as plain matrices, by the end of the model at which they are used."""

from pathlib import Path

import numpy as np

from tiebench.execution.run import open_model
from tiebench.results.record import Record


def open_matrices(record: Record, folder: Path) -> dict[str, np.ndarray]:
    """`input` and `output`, or `tied` where both are one parameter; each `(vocabulary, width)`, float32.

    Raises TiebenchError where the run has no weights, as published records have none.
    """
    embedding = open_model(record, folder).embedding
    matrices = {"input": embedding.input_embedding, "output": embedding.output_embedding}
    if matrices["input"] is matrices["output"]:
        matrices = {"tied": matrices["input"]}
    return {name: matrix.detach().float().numpy() for name, matrix in matrices.items()}
