"""How far two ways of computing the same may lie apart: bounds that hold on every processor.

A processor chooses the order of a sum and whether it rounds between product and addition; no order is worse than one
rounding for each term (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1).
"""

FLOAT32_ROUNDING = 2**-24  # the largest relative error of one operation, rounding to nearest
BFLOAT16_ROUNDING = 2**-9  # 8 significant bits


def bound_error(num_roundings: int, *, size: float = 1.0, rounding: float = FLOAT32_ROUNDING) -> float:
    """The most that two results lie apart, each rounded so often, of terms whose absolute values sum up to `size`."""
    return 2 * num_roundings * rounding * size
