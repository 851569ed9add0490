import numpy as np
import pytest

from tiebench.analysis.inspection import inspect_matrices
from tiebench.errors import TiebenchError

WORDS, WIDTH = 60, 4


@pytest.fixture
def tables():
    generator = np.random.default_rng(6)
    table = generator.normal(size=(WORDS, WIDTH))
    turn, _ = np.linalg.qr(generator.normal(size=(WIDTH, WIDTH)))
    return {"input": table, "output": 2 * table @ turn}


@pytest.fixture
def counts():
    counts = np.full(WORDS, 5)
    counts[:3], counts[3:10] = 0, 100
    return counts


def test_rows_that_were_never_trained_are_counted_and_count_for_nothing(tables, counts, make_record):
    found = inspect_matrices(tables, counts=counts, record=make_record())
    spoilt = {name: table.copy() for name, table in tables.items()}
    for table in spoilt.values():
        table[:3] = 1e3
    assert inspect_matrices(spoilt, counts=counts, record=make_record()) == found
    assert found.num_untrained == 3 and found.matrices["input"].num_rows == WORDS - 3
    assert inspect_matrices(spoilt, counts=counts + 1, record=make_record()) != found


def test_norms_are_those_of_the_words_of_each_decade(tables, counts, make_record):
    table = inspect_matrices(tables, counts=counts, record=make_record()).matrices["output"]
    norms = np.linalg.norm(tables["output"], axis=1)
    assert [(each.decade, each.num_rows) for each in table.norms] == [(1, 50), (3, 7)]
    assert [each.mean for each in table.norms] == pytest.approx([norms[10:].mean(), norms[3:10].mean()])
    assert table.mean_norm == pytest.approx(norms[3:].mean())
    assert table.norms[1].lower_quartile == pytest.approx(np.quantile(norms[3:10], 0.25))


def test_a_turned_copy_is_alike_and_a_tied_table_is_alone(tables, counts, make_record):
    found = inspect_matrices(tables, counts=counts, record=make_record())
    assert found.alike["linear_cka"] == pytest.approx(1) and found.alike["procrustes"] == pytest.approx(0, abs=1e-12)
    shuffled = tables | {"output": tables["output"][::-1]}
    assert inspect_matrices(shuffled, counts=counts, record=make_record()).alike["linear_cka"] < 0.5
    assert inspect_matrices({"tied": tables["input"]}, counts=counts, record=make_record()).alike == {}


def test_without_the_corpus_nothing_is_said_of_frequencies(tables, make_record):
    found = inspect_matrices(tables, counts=None, record=make_record(), remark="not here")
    assert found.num_untrained is None and found.remark == "not here"
    assert found.matrices["input"].norms == [] and found.matrices["input"].num_rows == WORDS


def test_one_column_or_one_row_is_refused(tables, counts, make_record):
    with pytest.raises(TiebenchError, match="57 trained rows of width 1"):
        inspect_matrices({"tied": tables["input"][:, :1]}, counts=counts, record=make_record())
    with pytest.raises(TiebenchError, match="1 trained rows"):
        inspect_matrices(tables, counts=(counts > 0) * (np.arange(WORDS) == 3), record=make_record())
