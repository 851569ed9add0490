"""The embeddings of a finished run as plain matrices, by the end of the model at which they are used."""

from pathlib import Path

import numpy as np

from tiebench.execution.run import open_model
from tiebench.results.record import Record


def open_matrices(record: Record, folder: Path) -> dict[str, np.ndarray]:
    """`input` and `output`, or `tied` where both are one parameter; each `(vocabulary, width)`, float32.

    An embedding in bands is shown as its vectors are after the map of their band.

    Raises TiebenchError where the run has no weights, as published records have none.
    """
    embedding = open_model(record, folder).embedding
    if embedding.has_one_matrix:
        matrices = {"tied": embedding.input_embedding}
    else:
        matrices = {"input": embedding.input_embedding, "output": embedding.output_embedding}
    return {name: matrix.detach().float().numpy() for name, matrix in matrices.items()}
