import pytest

from tiebench.files import open_atomic, write_text


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
