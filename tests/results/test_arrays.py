"""Arrays from bytes: what is as expected is a view, what is not is read as NumPy reads it."""

import io

import numpy as np
import pytest

from tiebench.results.arrays import decode_array


def write(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_what_is_as_expected_is_no_copy():
    nats = np.arange(1000, dtype=np.float32)
    content = write(nats)
    found = decode_array(content, dtype="<f4", shape=(1000,))
    assert (found == nats).all() and found.dtype == np.float32 and not found.flags.writeable
    assert found.ctypes.data == np.frombuffer(content, np.uint8).ctypes.data + len(content) - nats.nbytes
    counts = np.arange(20, dtype=np.int32).reshape(2, 10)
    assert (decode_array(write(counts), dtype="<i4", shape=(2, 10)) == counts).all()


def test_another_array_comes_back_as_it_is():
    assert decode_array(write(np.ones(3)), dtype="<f4", shape=(3,)).dtype == np.float64
    assert decode_array(write(np.ones((2, 2), np.float32)), dtype="<f4", shape=(4,)).shape == (2, 2)
    fortran = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert (decode_array(write(fortran), dtype="<f4", shape=(2, 3)) == fortran).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no array"),
        (b"text", "no array"),
        (write(np.ones(1000, np.float32))[:-1], "EOF"),
        (b"\x93NUMPY\x01\x00", "EOF"),
        (write(np.ones(2)).replace(b"(2,)", b"(9,)").replace(b"f8", b"x8"), "descr"),
    ],
)
def test_what_is_no_array_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        decode_array(content, dtype="<f4", shape=(1000,))


def test_pickled_objects_and_archives_are_refused():
    stream = io.BytesIO()
    np.save(stream, np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        decode_array(stream.getvalue(), dtype="|O", shape=(1,))
    archive = io.BytesIO()
    np.savez(archive, np.ones(1))
    with pytest.raises(ValueError, match="it is no array"):
        decode_array(archive.getvalue(), dtype="<f4", shape=(1,))
