"""Arrays in NumPy's own format, from bytes that were read and verified already: they are not copied."""

import io
import math
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def decode_array(content: bytes, *, dtype: str, shape: tuple[int, ...]) -> "np.ndarray":
    """The array in the content of a `.npy` file: read-only, and a view of it where it is of this type and shape.

    What is another array comes back all the same, for the caller to say what is wrong. Raises ValueError for what is no
    array, and for pickled objects.
    """
    import numpy as np

    header = _write_header(dtype, shape)
    if content.startswith(header) and len(content) == len(header) + np.dtype(dtype).itemsize * math.prod(shape):
        return np.frombuffer(content, dtype, offset=len(header)).reshape(shape)
    if not content.startswith(np.lib.format.MAGIC_PREFIX):
        raise ValueError("it is no array")
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (EOFError, MemoryError) as error:
        raise ValueError(str(error)) from error


@cache
def _write_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What `np.save` writes before the values; to compare it is a hundred times quicker than to take it apart."""
    import numpy as np

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()
