import numpy as np
import pytest

from tiebench.errors import TiebenchError
from tiebench.results.target_decades import TARGET_DECADES_FILE, read_target_decades, write_target_decades

TOKENS = 82_430


@pytest.fixture
def decades():
    return np.random.default_rng(1).integers(0, 6, TOKENS)


def test_decades_come_back_as_one_byte_each(make_record, tmp_path, decades):
    assert read_target_decades(make_record(), tmp_path) is None, "older runs have none"
    file = write_target_decades(decades, tmp_path)
    found = read_target_decades(make_record(), tmp_path)
    assert found is not None and found.dtype == np.uint8 and (found == decades).all()
    assert TOKENS < file.stat().st_size < TOKENS + 200


def test_decades_of_another_run_are_refused(make_record, tmp_path, decades):
    write_target_decades(decades[:-1], tmp_path)
    with pytest.raises(TiebenchError, match=f"{TARGET_DECADES_FILE} is damaged.*counts {TOKENS}"):
        read_target_decades(make_record(), tmp_path)
    write_target_decades(np.where(decades == 3, 200, decades), tmp_path)
    with pytest.raises(TiebenchError, match="a decade of 200"):
        read_target_decades(make_record(), tmp_path)
    np.savez(tmp_path / "two", decades)
    (tmp_path / "two.npz").rename(tmp_path / TARGET_DECADES_FILE)
    with pytest.raises(TiebenchError, match="it is no array"):
        read_target_decades(make_record(), tmp_path)
    write_target_decades(decades, tmp_path)
    noted = make_record(changes=[("provenance.files", {TARGET_DECADES_FILE: "0" * 64})])
    with pytest.raises(TiebenchError, match="SHA-256") as caught:
        read_target_decades(noted, tmp_path)
    assert TARGET_DECADES_FILE in caught.value.message
