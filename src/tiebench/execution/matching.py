"""Arms that are as large as another one: the width or the number of layers at which their totals are nearest."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

from tiebench.errors import UsageError
from tiebench.execution.initial_checkpoint import identify_checkpoints
from tiebench.execution.run_data import load_data
from tiebench.experiment.architecture_config import EncoderDecoderConfig, LlamaConfig
from tiebench.experiment.matching_config import Match, Quantity
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.schema import ArmSpec
from tiebench.models.language_model import build_to_count, count_flops_per_token, count_parameters
from tiebench.tying.token_embedding import CountTokens

LARGEST = {"width": 2**17, "layers": 1_000}  # a larger value is a mistake
UNITS = {"parameters": "parameters", "flops": "FLOPs per token", "bytes": "bytes"}


def match_runs(runs: list[RunSpec], *, data_dir: Path | None = None) -> list[RunSpec]:
    """Every run whose arm is to be as large as another one gets the width or layers that make it so, and a remark.

    A run that goes on from a checkpoint gets its digest.

    Raises UsageError where no width or number of layers does, TiebenchError for a corpus that cannot be found.
    """
    runs = identify_checkpoints(runs, data_dir=data_dir)
    firsts = {run.arm: run for run in runs if run.match is not None}
    found = {arm: _match_run(run, run.match, data_dir=data_dir) for arm, run in firsts.items() if run.match is not None}
    return [replace(found[run.arm], seed=run.seed) if run.match is not None else run for run in runs]


def _match_run(run: RunSpec, match: Match, *, data_dir: Path | None) -> RunSpec:
    amount, key = match.config.amount, match.config.by
    reference = load_data(replace(run, spec=match.reference), data_dir=data_dir)
    target = count_amount(
        match.reference, amount, vocabulary_size=reference.vocabulary.size, count=reference.count_training
    )
    data = load_data(run, data_dir=data_dir)
    size, count = data.vocabulary.size, cache(data.count_training)
    step = choose_step(run.spec) if key == "width" else 1

    def measure(number: int) -> int:
        return count_amount(resize(run.spec, key, number * step), amount, vocabulary_size=size, count=count)

    number = find_nearest(measure, target=target, largest=LARGEST[key] // step)
    if number is None:
        raise UsageError(
            f"{run.experiment}: no {key} gives arm '{run.arm}' the {target:,} {UNITS[amount]} of '{match.config.arm}'",
            f"match another amount, or remove arms.{run.arm}.match",
        )
    found = measure(number)
    remark = (
        f"architecture.{key} {number * step} was found so that {UNITS[amount]} are those of '{match.config.arm}': "
        f"{found:,} beside {target:,} ({100 * (found - target) / target:+.3g} %)"
    )
    return replace(run, spec=resize(run.spec, key, number * step), match=None, remarks=(*run.remarks, remark))


def count_amount(spec: ArmSpec, amount: Quantity, *, vocabulary_size: int, count: CountTokens | None = None) -> int:
    """Parameters, FLOPs of training on a token, or bytes of the parameters in the precision they are stored in.

    FLOPs depend on the text where words are scored in bands; `count` says how often each token stands in it.
    """
    model = build_to_count(spec, vocabulary_size=vocabulary_size)
    if amount == "flops":
        if count is not None:
            model.embedding.sort_by_frequency(count)
        return count_flops_per_token(model, context=spec.training.window)
    if amount == "bytes":
        return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return count_parameters(model).total


def choose_step(spec: ArmSpec) -> int:
    """What the width must be a multiple of: whole heads, and of an even width where positions come in pairs."""
    body = spec.architecture
    heads = getattr(body, "heads", 1)
    return 2 * heads if isinstance(body, LlamaConfig | EncoderDecoderConfig) else heads


def resize(spec: ArmSpec, key: str, value: int) -> ArmSpec:
    """The spec with another width or number of layers."""
    return spec.model_copy(update={"architecture": spec.architecture.model_copy(update={key: value})})


def find_nearest(measure: Callable[[int], int], *, target: int, largest: int) -> int | None:
    """The number from 1 at which a growing measure is nearest to the target, the smaller of two.

    None where the target is less than at 1, or more than at `largest`.
    """
    measure = lru_cache(None)(measure)
    if measure(1) > target:
        return None
    low, high = 1, min(2, largest)
    while measure(high) < target:
        if high == largest:
            return None
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if measure(middle) < target else (low, middle)
    return min((low, high), key=lambda number: abs(measure(number) - target))
