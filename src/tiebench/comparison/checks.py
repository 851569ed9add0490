"""May these runs be compared? Only when they differ in what was declared, and in nothing else.

The tie counts as declared always: it is what tiebench compares, also across two experiment files of one arm each.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tiebench.errors import UsageError
from tiebench.experiment.differences import find_differences, is_declared
from tiebench.results.record import SPLITS, Record

SAME_TEXT = "compare runs that were trained and scored on the same text, with the same vocabulary"
SAME_SPEC = "declare it under `arms:` in the experiment file, or train both arms again from one file"
SAME_PROTOCOL = "a perplexity depends on how it was taken: score both arms with the same `evaluation:` block"
SAME_ARM = "runs of one arm must have one spec: train the outdated seeds again"


def check_comparable(records_by_arm: Mapping[str, list[Record]]) -> None:
    """Raises UsageError, naming the first field that must agree and does not, with both values."""
    if len(records_by_arm) < 2:
        raise UsageError("a comparison needs two arms", "name them: tiebench compare untied tied")
    for arm, records in records_by_arm.items():
        _check_within(arm, records)
    firsts = {arm: records[0] for arm, records in records_by_arm.items()}
    _require_equal({arm: _text_facts(record) for arm, record in firsts.items()}, hint=SAME_TEXT)
    declared = ["tie", *sorted({path for record in firsts.values() for path in record.declared})]
    specs = {arm: _spec_facts(record) for arm, record in firsts.items()}
    _require_equal(specs, hint=SAME_SPEC, declared=declared)
    _require_equal({arm: _protocol_facts(record) for arm, record in firsts.items()}, hint=SAME_PROTOCOL)


def find_common_seeds(records_by_arm: Mapping[str, list[Record]]) -> list[int]:
    """The seeds that every arm has, in order. Raises UsageError when there is none."""
    seeds_by_arm = {arm: {record.seed for record in records} for arm, records in records_by_arm.items()}
    common = sorted(set.intersection(*seeds_by_arm.values()))
    if not common:
        found = "; ".join(f"{arm}: {_listed(seeds)}" for arm, seeds in seeds_by_arm.items())
        raise UsageError(f"the arms share no seed ({found})", "runs are paired by seed: train the missing ones")
    return common


def find_split_names(records: Iterable[Record]) -> list[str]:
    """The splits that every record was scored on, out of train, valid and test, in this order."""
    scored = [set(record.evaluations) for record in records]
    return [split for split in SPLITS if scored and all(split in splits for splits in scored)]


def _check_within(arm: str, records: list[Record]) -> None:
    if not records:
        raise UsageError(f"'{arm}' has no finished run", f"train it first, or leave '{arm}' out")
    twice = [seed for seed, count in Counter(record.seed for record in records).items() if count > 1]
    if twice:
        raise UsageError(f"'{arm}' has seed {twice[0]} more than once", "name one run folder for each seed")
    by_seed = {f"{arm}, seed {record.seed}": record for record in records}
    _require_equal({name: _text_facts(record) for name, record in by_seed.items()}, hint=SAME_TEXT)
    _require_equal({name: _spec_facts(record) for name, record in by_seed.items()}, hint=SAME_ARM)
    _require_equal({name: _protocol_facts(record) for name, record in by_seed.items()}, hint=SAME_PROTOCOL)


def _text_facts(record: Record) -> dict[str, Any]:
    """The text itself; a corpus may have moved to another folder or have another name and still be the same."""
    splits = {name: facts.model_dump() for name, facts in record.corpus.splits.items()}
    corpus = {"checksum": record.corpus.checksum, "splits": splits}
    return {"corpus": corpus, "vocabulary": record.vocabulary.model_dump()}


def _spec_facts(record: Record) -> dict[str, Any]:
    """The spec without its corpus; the precision is the one that was used, since `auto` may have meant either."""
    facts = record.spec.model_dump(mode="json", exclude={"corpus"})
    used = record.provenance.precision
    return {**facts, "training": {**facts["training"], "precision": used}} if used else facts


def _protocol_facts(record: Record) -> dict[str, Any]:
    counted = {"protocol", "tokens", "words", "bytes", "unknown"}
    return {"evaluations": {split: found.model_dump(include=counted) for split, found in record.evaluations.items()}}


def _require_equal(facts: dict[str, dict[str, Any]], *, hint: str, declared: list[str] | None = None) -> None:
    for path, values in find_differences(facts):
        if not is_declared(path, declared or []):
            found = "; ".join(f"{name}: {value!r}" for name, value in values.items())
            raise UsageError(f"not comparable: {path} differs ({found})", hint)


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
