import csv

import numpy as np
import pytest

from tiebench.reporting.pages import refresh_tables, render_results_readme
from tiebench.results.record import write_record
from tiebench.results.store import Store


@pytest.fixture
def store(three_seeds, tmp_path):
    store = Store(tmp_path / "results")
    for records in three_seeds.values():
        for record in records:
            write_record(record, store.folder_of(record))
    return store


def test_the_tables_hold_every_run(store):
    refresh_tables(store)
    with (store.root / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    first = rows[0]
    assert (first["arm"], first["seed"], first["signature"], first["device"]) == ("tied", "1", "0badcafe", "cpu")
    assert float(first["test_perplexity"]) == store.records()[0].evaluations["test"].perplexity
    assert first["parameters_input"] == "0" and first["commit"] == "0123456789abcdef"
    assert first["usage_peak_memory_bytes"] == first["train_nll"] == first["test_bits_per_byte"] == ""
    page = (store.root / "table.md").read_text()
    assert "## ptb-lstm-small" in page and "110.4 ± 0.5 (3)" in page


def test_the_tables_follow_the_runs(store, make_record):
    refresh_tables(store)
    record = make_record("tied", 4)
    write_record(record, store.folder_of(record))
    refresh_tables(store)
    assert len((store.root / "table.csv").read_text().splitlines()) == 8
    assert sorted(path.name for path in store.root.iterdir()) == ["ptb-lstm-small", "table.csv", "table.md"]


def test_an_empty_store_has_tables_that_say_so(tmp_path):
    refresh_tables(Store(tmp_path))
    assert "no finished runs" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "table.csv").read_text().startswith("experiment,arm,seed,signature,numerics,")


def test_the_readme_says_what_was_found_and_how_to_make_it_again(store):
    page = render_results_readme(store.records(), token_nll=store.token_nll)
    assert "generated" in page and "record.json" in page
    assert "- tied lowers test perplexity by 3.6 % (between 4.5 % lower and 2.6 % lower; p < 0.001, 3 seeds)" in page
    assert "checksum `sha256:12ab`" in page
    assert "test: 82,430 tokens, 78,669 words, 449,945 bytes, batch_size 1, context carried state" in page
    line = "- `tiebench train ptb-lstm-small`: commit `0123456789ab`; torch 2.13.0; cores 2, device cpu"
    assert page.count(line) == 1, "six runs made in one way are told once"


def test_the_readme_says_who_gains_where_that_was_kept(store):
    def read_nats(record):
        tokens = record.evaluations["test"].tokens
        return np.full(tokens, record.evaluations["test"].nll_per_token, dtype=np.float32)

    decades = np.arange(82_430, dtype=np.uint8) % 3
    page = render_results_readme(store.records(), token_nll=read_nats, decades=lambda record: decades)
    assert "who gains, by training frequency of the target" in page and "| 10-99 " in page
    assert "who gains" not in render_results_readme(store.records(), token_nll=read_nats)


def test_the_readme_says_why_runs_were_not_compared(make_record):
    records = [make_record("untied"), make_record("tied", changes=[("spec.training.epochs", 14)])]
    page = render_results_readme(records)
    assert "These runs were not compared: not comparable: training.epochs differs (untied: 13; tied: 14)." in page
    assert "lower" not in page


def test_an_experiment_with_one_arm_is_listed(make_record):
    page = render_results_readme([make_record("tied", test=112.4)])
    assert "| tied " in page and "112.4" in page


def test_no_records_make_a_page_that_says_so():
    assert "no records yet" in render_results_readme([])
