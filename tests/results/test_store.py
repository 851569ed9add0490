import pytest
from filelock import FileLock

from tiebench.errors import UsageError
from tiebench.results.record import RECORD_FILE, write_record
from tiebench.results.store import LOCK_FILE, Store, find_state


@pytest.fixture
def store(make_record, tmp_path):
    """Two arms; the tied one has ten seeds, and an eleventh that is not finished."""
    store = Store(tmp_path / "results")
    for record in [make_record("untied", 1), *(make_record("tied", seed) for seed in range(1, 11))]:
        write_record(record, store.folder_of(record))
    (store.folder("ptb-lstm-small", "tied", 11)).mkdir()
    return store


def test_a_run_lies_where_a_person_looks(store):
    assert (store.root / "ptb-lstm-small" / "untied" / "seed-1" / "record.json").is_file()


def test_records_are_the_finished_runs_in_order(store):
    assert [(record.arm, record.seed) for record in store.records()] == [
        *(("tied", seed) for seed in range(1, 11)),
        ("untied", 1),
    ]
    assert len(store.folders()) == 12


def test_a_missing_root_is_an_empty_store(tmp_path):
    store = Store(tmp_path / "nowhere")
    assert store.records() == store.folders() == []
    assert not store.root.exists()


def test_files_beside_the_runs_are_no_runs(store):
    (store.root / "ptb-lstm-small" / "tied" / "seed-x").mkdir()
    (store.root / "table.md").write_text("# Runs")
    assert len(store.folders()) == 12


@pytest.mark.parametrize("name", ["../escape", "", "Tied", "a/b", ".hidden"])
def test_a_name_that_is_no_folder_is_refused(store, name):
    with pytest.raises(UsageError, match="cannot name an arm"):
        store.folder("ptb-lstm-small", name, 1)


def test_a_damaged_record_stops_no_other_and_is_named_once(store, caplog):
    before = len(store.records())
    (store.folder("ptb-lstm-small", "tied", 2) / "record.json").write_text("{")
    for _ in range(2):
        assert len(store.records()) == before - 1
    (warning,) = caplog.messages
    assert "tied/seed-2/record.json is damaged" in warning


def test_a_record_in_the_folder_of_another_run_is_not_taken_for_it(store, caplog):
    other = (store.folder("ptb-lstm-small", "tied", 1) / "record.json").read_text("utf-8")
    (store.folder("ptb-lstm-small", "tied", 2) / "record.json").write_text(other, "utf-8")
    assert ("tied", 2) not in {(record.arm, record.seed) for record in store.records()}
    assert "another run" in caplog.text


def test_the_state_of_a_run(make_record, tmp_path):
    folder = tmp_path / "seed-1"
    assert find_state(folder) == "empty"
    assert not folder.exists()
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"state")
    assert find_state(folder) == "interrupted"
    with FileLock(folder / LOCK_FILE):
        (folder / LOCK_FILE).write_text("held by 4711")
        assert find_state(folder) == "running"
        assert (folder / LOCK_FILE).read_text() == "held by 4711"
    assert find_state(folder) == "interrupted"
    write_record(make_record(), folder)
    assert find_state(folder) == "finished"


def test_a_store_of_damaged_records_has_none(store):
    assert store.has_records()
    for folder in store.folders():
        (folder / RECORD_FILE).write_text("{", "utf-8")
    assert not store.has_records() and not Store(store.root / "nothing").has_records()
