"""How far an estimate may be off by chance: by a t of one look, or by what holds however often one looks."""

import math
from typing import NamedTuple, Protocol

from tiebench.comparison.sequential import Samples, compute_e_value, find_critical_t
from tiebench.comparison.student import find_t_chance, find_t_quantile


class EstimateError(Protocol):
    """The error of an estimate, one-sided and alike on both sides."""

    def find_p(self, distance: float) -> float:
        """The chance that chance alone moves the estimate by so much, or a bound of it; 1 for none at all."""
        ...

    def find_reach(self, p: float) -> float:
        """The distance that has this `p`; `inf` where none has."""
        ...


class StudentError(NamedTuple):
    """A standard error with its degrees of freedom (Student 1908). Where it is 0, a distance above 0 is certain."""

    error: float
    degrees_of_freedom: float

    def find_p(self, distance: float) -> float:
        """P(T >= distance / error). Raises ValueError for a negative error."""
        if self.error < 0:
            raise ValueError(f"a standard error is not negative, found {self.error}")
        if self.error == 0:
            return 1.0 if distance <= 0 else 0.0
        return find_t_chance(-distance / self.error, self.degrees_of_freedom)

    def find_reach(self, p: float) -> float:
        return find_t_quantile(1 - p, self.degrees_of_freedom) * self.error


class LookingError(NamedTuple):
    """The error of a sum of arms' means whose runs were added while looking at what they showed.

    `error` is that of the sum, s of all arms pooled; p is 1 / the e-value of its t (`comparison.sequential`). The
    confidence sequence at level p leaves the truth out with a chance of at most p, whenever one stops, and so does each
    of its ends. `beside` is an error that more runs do not lower, such as that of the words measured: each of the two
    gets half of the distance and half of the p (Bonferroni).
    """

    error: float
    samples: Samples
    beside: StudentError | None = None

    def find_p(self, distance: float) -> float:
        if self.beside is not None:
            alone = self._replace(beside=None)
            return min(1.0, 2 * max(part.find_p(distance / 2) for part in (alone, self.beside)))
        if distance <= 0:
            return 1.0
        t = distance / self.error if self.error else math.inf
        return min(1.0, 1 / compute_e_value(t, self.samples))

    def find_reach(self, p: float) -> float:
        if self.beside is not None:
            alone = self._replace(beside=None)
            return 2 * max(part.find_reach(p / 2) for part in (alone, self.beside))
        critical = find_critical_t(self.samples, alpha=p)
        return critical * self.error if math.isfinite(critical) else math.inf
