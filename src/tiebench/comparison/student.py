"""Student's t by SciPy's special functions, imported where they are asked for: `tiebench list` needs none."""

import math


def find_t_chance(t: float, degrees_of_freedom: float) -> float:
    """P(T <= t); NaN without degrees of freedom."""
    from scipy.special import stdtr

    return float(stdtr(degrees_of_freedom, t))


def find_t_quantile(chance: float, degrees_of_freedom: float) -> float:
    """The t with P(T <= t) = `chance`; NaN without degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, chance)) if degrees_of_freedom > 0 else math.nan


def find_t_freedom(chance: float, t: float) -> float:
    """The degrees of freedom at which P(T <= t) = `chance`, for t above 0 and a chance above one half."""
    from scipy.special import stdtridf

    return float(stdtridf(chance, t))
