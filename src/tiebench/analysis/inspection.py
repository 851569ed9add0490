"""What the trained embeddings of a run look like: norms over frequency, isotropy, effective rank, input beside output.

Rows of words that never stand in the training text are left out of every figure and counted: only their initial
values and the push of the softmax have made them.
"""

from pathlib import Path

import numpy as np
from pydantic import Field

from tiebench.analysis.effective_rank import measure_effective_rank
from tiebench.analysis.isotropy import measure_isoscore, measure_partition_ratio
from tiebench.analysis.similarity import measure_linear_cka, measure_procrustes
from tiebench.analysis.trained_matrices import open_matrices
from tiebench.corpora.frequencies import count_entries, find_decades
from tiebench.corpora.stream import ParallelStream
from tiebench.errors import TiebenchError
from tiebench.execution.run_data import reload_data
from tiebench.experiment.block import Block
from tiebench.results.record import Record, read_record


class NormBin(Block):
    """The lengths of the rows whose words stand in the training text as often as a decade says (1: 1 to 9)."""

    decade: int
    num_rows: int
    mean: float
    lower_quartile: float
    upper_quartile: float


class MatrixInspection(Block):
    """One embedding without the rows that were never trained. `norms` are empty where frequencies are not known."""

    num_rows: int
    width: int
    mean_norm: float
    partition_ratio: float
    isoscore: float
    effective_rank: float
    norms: list[NormBin]
    singular_values: list[float] = Field(exclude=True)


class Inspection(Block):
    """The embeddings of one run, by `input` and `output` or `tied`; `alike` says how alike the two are.

    `num_untrained` is None, and `remark` says why, where it is not known how often words stand in the training text.
    """

    experiment: str
    arm: str
    seed: int
    num_untrained: int | None
    remark: str
    matrices: dict[str, MatrixInspection]
    alike: dict[str, float]


def inspect_run(folder: Path, *, data_dir: Path | None = None) -> Inspection:
    """Measure the embeddings of a finished run. Raises TiebenchError where it has no weights."""
    record = read_record(folder)
    matrices = open_matrices(record, folder)
    counts, remark = count_training(record, folder, data_dir=data_dir)
    return inspect_matrices(matrices, counts=counts, record=record, remark=remark)


def inspect_matrices(
    matrices: dict[str, np.ndarray], *, counts: np.ndarray | None, record: Record, remark: str = ""
) -> Inspection:
    """The same from matrices `(vocabulary, width)` and the counts of their words in training, `(vocabulary,)`.

    Raises TiebenchError for fewer than two rows or columns.
    """
    trained = None if counts is None else counts > 0
    kept = {name: matrix if trained is None else matrix[trained] for name, matrix in matrices.items()}
    for name, matrix in kept.items():
        if min(matrix.shape) < 2:
            reason = f"the {name} embedding has {matrix.shape[0]} trained rows of width {matrix.shape[1]}"
            raise TiebenchError(reason, "inspect a run with two of each at least")
    decades = None if counts is None else find_decades(counts[counts > 0])
    alike = {}
    if len(kept) == 2:
        first, second = kept.values()
        alike = {"linear_cka": measure_linear_cka(first, second), "procrustes": measure_procrustes(first, second)}
    return Inspection(
        experiment=record.experiment,
        arm=record.arm,
        seed=record.seed,
        num_untrained=None if trained is None else int((~trained).sum()),
        remark=remark,
        matrices={name: inspect_matrix(matrix, decades=decades) for name, matrix in kept.items()},
        alike=alike,
    )


def inspect_matrix(matrix: np.ndarray, *, decades: np.ndarray | None) -> MatrixInspection:
    """One embedding `(rows, width)`; `decades` are those of the counts of its words, `(rows,)`."""
    matrix = np.asarray(matrix, dtype=np.float64)
    norms = np.linalg.norm(matrix, axis=1)
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    bins = (
        [] if decades is None else [_describe_norms(int(each), norms[decades == each]) for each in np.unique(decades)]
    )
    return MatrixInspection(
        num_rows=len(matrix),
        width=matrix.shape[1],
        mean_norm=float(norms.mean()),
        partition_ratio=measure_partition_ratio(matrix),
        isoscore=measure_isoscore(matrix),
        effective_rank=measure_effective_rank(singular_values),
        norms=bins,
        singular_values=singular_values.tolist(),
    )


def _describe_norms(decade: int, norms: np.ndarray) -> NormBin:
    lower, upper = np.quantile(norms, (0.25, 0.75))
    return NormBin(
        decade=decade,
        num_rows=len(norms),
        mean=float(norms.mean()),
        lower_quartile=float(lower),
        upper_quartile=float(upper),
    )


def count_training(record: Record, folder: Path, *, data_dir: Path | None) -> tuple[np.ndarray | None, str]:
    """How often each entry of the vocabulary stands in the training split, or why that is not known.

    In translation, in the target alone; where one matrix embeds the source too, in both languages together.
    """
    try:
        data = reload_data(record, folder, data_dir=data_dir)
    except TiebenchError as error:
        return None, f"how often words stand in the training text is not known: {error.message}"
    stream, size = data.streams["train"], data.vocabulary.size
    counts = count_entries(stream, vocabulary_size=size)
    if isinstance(stream, ParallelStream) and record.spec.tie.type == "three-way":
        counts += count_entries(stream.source, vocabulary_size=size)
    return counts, ""
