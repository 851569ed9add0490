"""What chance decides in a run, and so what another seed varies: only that can an interval over seeds be about."""

from collections.abc import Mapping, Sequence

from tiebench.comparison.checks import RECURRENT
from tiebench.experiment.schema import TRANSLATED, ArmSpec
from tiebench.results.record import Record


def describe_seeds(arms: Mapping[str, Sequence[Record]]) -> list[str]:
    """A sentence on what varied between the seeds of these runs, arm by arm where that is not the same; nothing where
    every arm has one run."""
    if all(len(records) < 2 for records in arms.values()):
        return []
    told = {arm: _tell_parts(list_seed_effects(records[0].spec)) for arm, records in arms.items()}
    if len(set(told.values())) == 1:
        return [f"Seeds differ in {next(iter(told.values()))}."]
    return [f"Seeds differ {'; '.join(f'of {arm} in {parts}' for arm, parts in told.items())}."]


def list_seed_effects(spec: ArmSpec) -> list[str]:
    """What a run of this recipe draws at random, in words; empty where every seed gives the same run."""
    effects = [] if spec.initialise_from else ["the initial weights"]
    if _has_dropout(spec):
        effects.append("the dropout masks")
    if isinstance(spec.corpus, TRANSLATED):
        effects.append("the order of the batches")
    elif spec.architecture.type not in RECURRENT:
        effects.append("where the windows of the text are cut, and their order")
    elif spec.training.random_offset:
        effects.append("where the training text begins")
    return effects


def _has_dropout(spec: ArmSpec) -> bool:
    options = {**spec.architecture.model_dump(), **spec.embedding.model_dump()}
    return any("dropout" in key and bool(value) for key, value in options.items())


def _tell_parts(effects: Sequence[str]) -> str:
    if not effects:
        return "nothing: runs differ by rounding alone"
    return " and ".join([", ".join(effects[:-1]), effects[-1]] if len(effects) > 1 else effects)
