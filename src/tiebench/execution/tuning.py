"""Values that each arm gets by trials of its own, chosen on the validation split: equal trials, seeds of their own.

Trials are ordinary runs in `<experiment>/tuning/<arm>+<values>+<budget>/seed-<n>`, a level deeper than runs, so that no
table and no comparison takes one for a result. They are resumed, locked and spread over processes as all runs are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tiebench.corpora.opening import open_corpus
from tiebench.errors import TiebenchError
from tiebench.execution.finished import list_finished, resolve_runs
from tiebench.execution.plan import Plan, plan_runs
from tiebench.execution.settings import Settings
from tiebench.experiment.candidates import Candidate, shorten_paths, write_plainly
from tiebench.experiment.corpus_config import ParallelConfig, TextConfig
from tiebench.experiment.loading import Experiment
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.tuning_config import TunedValues
from tiebench.results.record import Record
from tiebench.results.store import Store
from tiebench.results.trials import (
    ArmTuning,
    TrialResult,
    TuningResult,
    choose_values,
    describe_choice,
    has_our_numerics,
    read_trial,
    read_tuning,
    write_tuning,
)

TRIALS = "tuning"

TrainTrials = Callable[[Plan, Settings], list[Record]]


@dataclass(frozen=True)
class Trial:
    """One candidate of an arm at one seed, as a run."""

    arm: str
    candidate: Candidate
    run: RunSpec


def tune_arms(
    experiment: Experiment,
    *,
    settings: Settings,
    arms: Sequence[str] = (),
    train: TrainTrials | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Experiment:
    """The experiment with the values that trials chose for each of `arms` (none: all), ready for `list_runs`.

    An experiment without `tuning:` comes back as it is, and so does one that was tuned. `train(plan, settings)` makes
    the trials that are missing; without it, an arm whose trials are not all there keeps what its finished runs say was
    chosen before, and stays untuned where they say nothing (`Experiment.untuned`). `say` is told what was chosen for
    each arm, and how many trials are missing. With `train`, what was found is kept in `tuning.json` in the folder of
    the experiment, which also stands in for trials that are gone.

    Raises TiebenchError where all trials of an arm diverged, and what `train` raises.
    """
    trials = list_trials(experiment, arms=arms)
    if not trials or experiment.tuning is None:
        return experiment
    place = _place_trials(experiment, settings)
    found = find_results(trials, settings=place)
    missing = [trial for trial in trials if trial.run.name not in found]
    if missing and train is not None:
        records = train(plan_runs([trial.run for trial in missing], settings=place), place)
        pairs = zip(missing, records, strict=True)
        found |= {trial.run.name: read_trial(record, trial.candidate.values) for trial, record in pairs}
    asked = {arm: [trial for trial in trials if trial.arm == arm] for arm in dict.fromkeys(each.arm for each in trials)}
    chosen: dict[str, TunedValues] = {}
    tunings: dict[str, ArmTuning] = {}
    for arm, own in asked.items():
        results = [found[trial.run.name] for trial in own if trial.run.name in found]
        if len(results) == len(own):
            chosen[arm] = _choose_best(experiment, arm, results)
            tunings[arm] = ArmTuning(tuned=chosen[arm], trials=results)
            say(describe_choice(arm, chosen[arm]))
            continue
        there = f"{arm} has {len(results)} of its {len(own)} trials"
        if known := _find_choice(experiment, arm, settings=settings):
            chosen[arm] = known
            say(f"{there}; its runs were trained with what was chosen before. {describe_choice(arm, known)}")
        else:
            say(f"{there}, so nothing was chosen")
    if train is not None:
        _keep_results(experiment, tunings, settings=place)
    return _set_values(experiment, chosen)


def _choose_best(experiment: Experiment, arm: str, results: list[TrialResult]) -> TunedValues:
    tuned = choose_values(experiment.tuning.config, results) if experiment.tuning else None
    if tuned is None:
        hint = "try smaller values in tuning.grid, or set training.optimizer.clip_norm"
        raise TiebenchError(f"{experiment.name}: with every value of the grid, a trial of '{arm}' diverged", hint)
    return tuned


def enter_choices(records: Sequence[Record], experiment: Experiment) -> list[Record]:
    """Records whose `tuned` is the latest choice: a run is the same if its value was typed, or tuned over another
    grid.
    """
    return [
        record.model_copy(update={"tuned": experiment.choices[record.arm]})
        if record.arm in experiment.choices
        else record
        for record in records
    ]


def list_trials(experiment: Experiment, *, arms: Sequence[str] = ()) -> list[Trial]:
    """What is to be tried for each of `arms` (none: all) that is still untuned, value by value; none without `tuning:`.

    Raises UsageError for an unknown arm.
    """
    chosen = {run.arm for run in experiment.list_runs(arms=list(arms))}
    tuning = experiment.tuning
    wanted = [arm for arm in experiment.untuned if arm in chosen]
    if tuning is None or not wanted:
        return []
    places = range(len(tuning.candidates[wanted[0]]))
    return [
        Trial(arm, candidate, _describe_trial(experiment, arm, candidate, seed))
        for seed in tuning.config.seeds
        for place in places
        for arm, candidate in ((arm, tuning.candidates[arm][place]) for arm in wanted)
    ]


def list_missing_trials(experiment: Experiment, *, settings: Settings, arms: Sequence[str] = ()) -> list[Trial]:
    """Those of `list_trials` whose result is not known yet. Raises UsageError as `find_results` does."""
    trials = list_trials(experiment, arms=arms)
    found = find_results(trials, settings=_place_trials(experiment, settings))
    return [trial for trial in trials if trial.run.name not in found]


def _place_trials(experiment: Experiment, settings: Settings) -> Settings:
    return replace(settings, store=Store(settings.store.root / experiment.name))


def find_results(trials: Sequence[Trial], *, settings: Settings) -> dict[str, TrialResult]:
    """What is known of these trials, by the run's name: from its record, else from `tuning.json`.

    Raises UsageError where the folder of a trial holds another run.
    """
    kept = None if settings.force else read_tuning(settings.store.root)
    trials_kept = [trial for arm in kept.arms.values() for trial in arm.trials] if kept else []
    by_signature = {trial.signature: trial for trial in trials_kept if has_our_numerics(trial)}
    found: dict[str, TrialResult] = {}
    runs = resolve_runs([trial.run for trial in trials], data_dir=settings.data_dir)
    for trial, run, record in zip(trials, runs, list_finished(runs, settings=settings), strict=True):
        if record is not None:
            found[run.name] = read_trial(record, trial.candidate.values)
        elif run.signature in by_signature and _is_same_text(run, by_signature[run.signature], settings=settings):
            found[run.name] = by_signature[run.signature].model_copy(update={"values": trial.candidate.values})
    return found


def _describe_trial(experiment: Experiment, arm: str, candidate: Candidate, seed: int) -> RunSpec:
    names = shorten_paths(list(candidate.values))
    values = {names[path]: write_plainly(value) for path, value in candidate.values.items()}
    told = [f"{name}-{value}" for name, value in values.items()]
    if experiment.tuning is not None:  # so that trials of another budget have another folder
        told += [f"{name}-{number}" for name, number in experiment.tuning.config.budget.items()]
    several = experiment.tuning is not None and len(experiment.tuning.config.seeds) > 1
    shown = [arm, *(f"{name} {value}" for name, value in values.items()), *([f"seed {seed}"] if several else [])]
    return RunSpec(
        experiment=TRIALS,
        arm="+".join([arm, *told]),
        seed=seed,
        spec=candidate.trial,
        declared=experiment.declared,
        altered=experiment.altered,
        source=experiment.source,
        match=experiment.find_match(arm),
        trial_of=experiment.name,
        title=", ".join(shown),
    )


def _is_same_text(run: RunSpec, result: TrialResult, *, settings: Settings) -> bool:
    """A user's own files have no place in the signature, so their content is compared."""
    corpus = run.spec.corpus
    if not isinstance(corpus, TextConfig | ParallelConfig):
        return True
    return open_corpus(corpus, data_dir=settings.data_dir, near=run.folder).checksum == result.corpus


def _find_choice(experiment: Experiment, arm: str, *, settings: Settings) -> TunedValues | None:
    """The choice that the finished runs of an arm record, where they agree and it is still in the grid."""
    candidates = experiment.tuning.candidates[arm] if experiment.tuning else ()
    found: list[TunedValues] = []
    for seed in experiment.seeds:
        record = settings.store.read(settings.store.folder(experiment.name, arm, seed))
        if record is not None and record.tuned is not None and record.tuned not in found:
            found.append(record.tuned)
    known = len(found) == 1 and any(candidate.values == found[0].chosen for candidate in candidates)
    return found[0] if known else None


def _set_values(experiment: Experiment, choices: dict[str, TunedValues]) -> Experiment:
    candidates = experiment.tuning.candidates if experiment.tuning else {}
    specs = {
        arm: next(each.spec for each in candidates[arm] if each.values == tuned.chosen)
        for arm, tuned in choices.items()
    }
    return replace(experiment, arms=experiment.arms | specs, choices=experiment.choices | choices)


def _keep_results(experiment: Experiment, tunings: dict[str, ArmTuning], *, settings: Settings) -> None:
    """Write the results if they are new; other arms keep theirs if their grid, seeds and budget were the same."""
    before = read_tuning(settings.store.root)
    others = before.arms if before else {}
    alike = {
        arm: found
        for arm, found in others.items()
        if arm in experiment.arms and all(_is_alike(found, tuning) for tuning in tunings.values())
    }
    arms = alike | tunings
    result = TuningResult(experiment=experiment.name, arms={arm: arms[arm] for arm in experiment.arms if arm in arms})
    if tunings and result != before:
        write_tuning(result, settings.store.root)


def _is_alike(one: ArmTuning, other: ArmTuning) -> bool:
    """Whether two arms had the same grid, seeds and budget."""
    facts = [(found.tuned.grid, found.tuned.seeds, found.tuned.budget) for found in (one, other)]
    return facts[0] == facts[1]
