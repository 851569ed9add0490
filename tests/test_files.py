from pathlib import Path

import pytest

from tiebench.errors import TiebenchError
from tiebench.files import cache_folder, open_atomic, write_text


def test_a_file_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "new" / "table.md"
    write_text("first\n", file=file)
    with open_atomic(file) as aside:
        aside.write_text("second, hal")
        assert file.read_text() == "first\n"
        assert aside.parent == file.parent
        aside.write_text("second, whole\n")
    assert file.read_text() == "second, whole\n"
    assert list(file.parent.iterdir()) == [file]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "table.md"
    write_text("old\n", file=file)

    def write_half() -> None:
        with open_atomic(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert file.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_user_without_a_home_is_told_to_name_a_cache(monkeypatch):
    def find_no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")  # what Path says for a user that is not known

    monkeypatch.delenv("TIEBENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", find_no_home)
    with pytest.raises(TiebenchError, match="no home folder") as caught:
        cache_folder()
    assert "TIEBENCH_CACHE" in caught.value.hint
