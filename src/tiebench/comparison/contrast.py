"""One arm against the baseline, and the sentence in which that ends: what was decided, the bound, the parameters saved,
and what it would take to know more.

One convention of signs: figures, in tables and JSON, are changes in percent, negative where the perplexity is lower.
Sentences say lower or higher at each amount instead, and name the ends of an interval in the order of the figures, the
lower perplexity first: [-4.5, -2.6] reads "between 4.5 % lower and 2.6 % lower".
"""

from pydantic import computed_field

from tiebench.comparison.captions import count_seeds, format_p, format_percent, name_metric
from tiebench.comparison.difference import Difference
from tiebench.comparison.frequency import FrequencyBin
from tiebench.comparison.planning import MOST_PLANNED_SEEDS, SeedPlan
from tiebench.comparison.sequential import Decision, Outcome
from tiebench.experiment.block import Block


class Contrast(Block):
    """One arm against the baseline. The headline is the test split, or validation where no test was scored.

    `margin`, in percent, is given where an equivalence was asked for. `decision` is there where seeds were added until
    it was decided, and then decides. `plan` says of an undecided contrast how many more seeds would settle it.
    `by_frequency` says on which test tokens the difference arises, where that is known.
    """

    arm: str
    baseline: str
    parameters_percent: float
    differences: dict[str, Difference]
    margin: float | None = None
    plan: SeedPlan | None = None
    by_frequency: list[FrequencyBin] = []
    decision: Decision | None = None

    @property
    def headline(self) -> Difference | None:
        return self.differences.get("test") or self.differences.get("valid")

    @property
    def interval_percent(self) -> tuple[float, float] | None:
        """What the outcome rests on: the interval of the headline, or that of the decision."""
        if self.headline is None or self.decision is None:
            return self.headline and self.headline.percent_interval
        if self.decision.low is None or self.decision.high is None:
            return None
        return self.headline.in_percent(self.decision.low), self.headline.in_percent(self.decision.high)

    @computed_field
    @property
    def outcome(self) -> Outcome:
        """`better` (lower perplexity), `worse`, `equivalent` within the margin, or `undecided`."""
        if self.decision is not None:
            return self.decision.outcome
        return self.headline.outcome if self.headline else "undecided"

    @computed_field
    @property
    def within_margin(self) -> bool | None:
        """Whether the difference is surely smaller than the margin, whatever its sign; None where none was given."""
        if self.decision is not None:
            return self.decision.within_margin
        return None if self.margin is None or self.headline is None else self.headline.is_within

    @computed_field
    @property
    def sentence(self) -> str:
        """The finding in words."""
        return describe_contrast(self)


def describe_contrast(contrast: Contrast) -> str:
    """One sentence without its full stop, that a decision can rest on."""
    headline, arm = contrast.headline, contrast.arm
    saving = _describe_parameters(contrast)
    if headline is None:
        return f"{arm}: no split was scored that both arms share; it {saving}"
    metric = name_metric(headline)
    amount = _amount(headline.percent)
    verb, word = ("lowers", "lower") if headline.percent < 0 else ("raises", "higher")
    if headline.num_seeds == (1, 1) and "seeds" not in headline.covers:
        bounds = f" ({_describe_bounds(contrast)} by the test text alone)" if headline.covers else ""
        return (
            f"{arm}: {amount} {word} {metric} in a single pair of runs{bounds}; it {saving}. One seed decides nothing: "
            "add at least one more per arm"
        )
    grounds = f"{_describe_bounds(contrast)}; {_describe_test(contrast, headline)}"
    if contrast.outcome in ("better", "worse"):
        aside = f"; it stays within the margin of {contrast.margin:g} %" if contrast.within_margin else ""
        return f"{arm} {verb} {metric} by {amount} ({grounds}) and {saving}{aside}"
    if contrast.outcome == "equivalent":
        equal = f"{arm} and {contrast.baseline} are equivalent within {contrast.margin:g} % of {metric}"
        return f"{equal} ({grounds}); {arm} {saving}"
    return f"{_describe_undecided(contrast, metric, grounds, saving)}; {_describe_plan(contrast)}"


def _describe_undecided(contrast: Contrast, metric: str, grounds: str, saving: str) -> str:
    """How much the arm may cost at most: the far end of the interval."""
    arm, interval = contrast.arm, contrast.interval_percent
    if interval is None or interval[0] > 0 or interval[1] < 0:
        return f"{arm}: not decided whether {metric} is lower or higher ({grounds}); it {saving}"
    return f"{arm} costs at most {_amount(interval[1])} {metric} here ({grounds}: the sign is not decided) and {saving}"


def _describe_plan(contrast: Contrast) -> str:
    plan = contrast.plan
    if plan is None:
        return "at least one more seed per arm is needed"
    parts = [f"{_count_more(plan.sign)} would settle the sign"]
    if contrast.margin is not None:
        equal = f"the equivalence within {contrast.margin:g} %"
        reach = f"{equal} is out of reach" if plan.equivalence is None else f"{_count_more(plan.equivalence)} {equal}"
        parts.append(reach)
    return ", ".join(parts)


def _count_more(number: int | None) -> str:
    if number is None:
        return f"more than {MOST_PLANNED_SEEDS} seeds per arm"
    number = max(1, number)  # 0: those there are should have been enough, and were not
    return f"about {number} more seed{'' if number == 1 else 's'} per arm"


def _describe_bounds(contrast: Contrast) -> str:
    interval = contrast.interval_percent
    if interval is None:
        return "no bound yet"
    low, high = (f"{_amount(end)} {'lower' if end < 0 else 'higher'}" for end in interval)
    return f"between {low} and {high}"


def _describe_test(contrast: Contrast, headline: Difference) -> str:
    seeds = count_seeds(headline.num_seeds)
    if contrast.decision is not None:
        return f"{format_p(contrast.decision.p)} however often one looks, {seeds} per arm, on this text"
    known = [format_p(headline.adjusted_p)] if headline.adjusted_p is not None else []
    if headline.adjusted_p_within is not None:
        known.append(f"{format_p(headline.adjusted_p_within)} for the equivalence within {contrast.margin:g} %")
    return ", ".join([*known, seeds])


def _amount(percent: float) -> str:
    return f"{format_percent(percent)} %"


def _describe_parameters(contrast: Contrast) -> str:
    percent = contrast.parameters_percent
    if percent == 0:
        return f"has as many parameters as {contrast.baseline}"
    amount = f"{abs(percent):.0f}" if abs(percent) >= 1 else f"{abs(percent):.2g}"
    return f"saves {amount} % of the parameters" if percent < 0 else f"adds {amount} % to the parameters"
