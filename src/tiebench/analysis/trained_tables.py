"""The embeddings of a finished run as plain matrices, by the end of the model that they stand at."""

from pathlib import Path

import numpy as np

from tiebench.execution.run import open_model
from tiebench.results.record import Record


def open_tables(record: Record, folder: Path) -> dict[str, np.ndarray]:
    """`input` and `output`, or `tied` where both are one parameter; each `(vocabulary, width)`, float32.

    Raises TiebenchError where the run has no weights, as published records have none.
    """
    embedding = open_model(record, folder).embedding
    tables = {"input": embedding.input_embedding, "output": embedding.output_embedding}
    if tables["input"] is tables["output"]:
        tables = {"tied": tables["input"]}
    return {name: table.detach().float().numpy() for name, table in tables.items()}
