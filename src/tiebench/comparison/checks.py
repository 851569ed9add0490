"""May these runs be compared? Only when they differ in what was declared or allowed, and in nothing else.

The tie counts as declared always: it is what tiebench compares, also across two experiment files of one arm each.
Arms whose vocabularies differ, as declared, are compared per byte of the same text.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiebench.errors import UsageError
from tiebench.experiment.corpus_config import SPLITS
from tiebench.experiment.differences import find_differences, is_declared
from tiebench.experiment.schema import TRANSLATED, ArmSpec
from tiebench.results.record import Record

SAME_TEXT = "compare runs that were trained and scored on the same text"
SAME_SPEC = "declare it under `arms:` in the experiment file, or compare across it: --allow {path}"
SAME_PROTOCOL = "a perplexity depends on how it was taken: score both arms alike, or compare across it: --allow {path}"
SAME_ARM = "runs of one arm must have one spec: train the outdated seeds again"
SAME_NUMERICS = "these runs are by versions of tiebench that compute differently: train the older ones again"
SAME_LOSS = "give all arms a vocabulary that loses no words, such as bpe or bytes"
RECURRENT = ("lstm",)


def check_comparable(records_by_arm: Mapping[str, list[Record]], *, allow: Sequence[str] = ()) -> None:
    """Raises UsageError, naming the first field that must agree and does not, with both values.

    `allow` are dotted paths in which arms may differ beyond what they declare; runs of one arm never may.
    """
    if len(records_by_arm) < 2:
        raise UsageError("a comparison needs two arms", "name them: tiebench compare untied tied")
    for arm, records in records_by_arm.items():
        _check_within(arm, records)
    firsts = {arm: records[0] for arm, records in records_by_arm.items()}
    check_numerics(firsts)
    per_byte = has_other_vocabularies(firsts.values())
    texts = {arm: _text_facts(record, per_byte=per_byte) for arm, record in firsts.items()}
    options = [record.spec.vocabulary for record in firsts.values()]
    if per_byte and all(option == options[0] for option in options):
        # Equal options gave different vocabularies, so the texts differ.
        texts = {arm: _text_facts(record) for arm, record in firsts.items()}
    _require_equal(texts, hint=SAME_TEXT)
    allowed = [*list_declared(firsts.values()), *allow]
    specs = {arm: _spec_facts(record) for arm, record in firsts.items()}
    _require_equal(specs, hint=SAME_SPEC, allowed=allowed)
    if per_byte:
        _require_equal({arm: _lost_words(record) for arm, record in firsts.items()}, hint=SAME_LOSS)
    protocols = {arm: _protocol_facts(record, per_byte=per_byte) for arm, record in firsts.items()}
    _require_equal(protocols, hint=SAME_PROTOCOL, allowed=list(allow))


def check_numerics(records: Mapping[str, Record]) -> None:
    """Raises UsageError where runs, by the name of each, are by versions of the program that compute differently."""
    _require_equal({name: {"numerics": record.numerics} for name, record in records.items()}, hint=SAME_NUMERICS)


def check_specs(specs_by_arm: Mapping[str, ArmSpec], *, allow: Sequence[str] = ()) -> None:
    """What `check_comparable` would refuse once the arms of one experiment are trained, as far as specs tell.

    Raises UsageError for arms on different texts and for arms that would be scored differently.
    """
    texts = {arm: {"corpus": spec.corpus.model_dump(mode="json")} for arm, spec in specs_by_arm.items()}
    _require_equal(texts, hint=SAME_TEXT)
    protocols = {arm: {"evaluations": _foretell_protocol(spec)} for arm, spec in specs_by_arm.items()}
    _require_equal(protocols, hint=SAME_PROTOCOL, allowed=list(allow))


def has_other_vocabularies(records: Iterable[Record]) -> bool:
    """Whether these runs have more than one vocabulary."""
    return len({record.vocabulary.identity for record in records}) > 1


def list_declared(records: Iterable[Record]) -> list[str]:
    """The paths in which arms may differ: the tie, and what any of them declares."""
    return ["tie", *sorted({path for record in records for path in record.declared})]


def find_allowed_differences(records: Sequence[Record], *, allow: Sequence[str]) -> list[str]:
    """The paths in which these runs do differ and that only `allow` covers."""
    facts = {str(place): _spec_facts(record) | _protocol_facts(record) for place, record in enumerate(records)}
    declared = list_declared(records)
    found = [path for path, _ in find_differences(facts) if not is_declared(path, declared)]
    return [path for path in found if is_declared(path, list(allow))]


def find_common_seeds(records_by_arm: Mapping[str, list[Record]]) -> list[int]:
    """The seeds that every arm has, in order. Raises UsageError when there is none."""
    seeds_by_arm = {arm: {record.seed for record in records} for arm, records in records_by_arm.items()}
    common = sorted(set.intersection(*seeds_by_arm.values()))
    if not common:
        found = "; ".join(f"{arm}: {_listed(seeds)}" for arm, seeds in seeds_by_arm.items())
        raise UsageError(
            f"the arms share no seed ({found})", "paired seeds need partners: train them, or leave the seeds unpaired"
        )
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
    check_numerics(by_seed)
    known: dict[tuple[int, str | None], dict[str, Any]] = {}
    _require_equal({name: _text_facts(record) for name, record in by_seed.items()}, hint=SAME_TEXT)
    _require_equal({name: _spec_facts(record, known) for name, record in by_seed.items()}, hint=SAME_ARM)
    _require_equal({name: _protocol_facts(record) for name, record in by_seed.items()}, hint=SAME_ARM)


def _text_facts(record: Record, *, per_byte: bool = False) -> dict[str, Any]:
    """The text itself; a corpus may have moved to another folder or have another name and still be the same.

    Lost words are left out: they follow from text and vocabulary, and older records counted them differently.
    """
    counted = {"words", "bytes"} if per_byte else {"words", "bytes", "tokens"}
    splits = {name: facts.model_dump(include=counted) for name, facts in record.corpus.splits.items()}
    corpus = {"checksum": record.corpus.checksum, "splits": splits}
    return {"corpus": corpus} if per_byte else {"corpus": corpus, "vocabulary": record.vocabulary.model_dump()}


def _spec_facts(record: Record, known: dict[tuple[int, str | None], dict[str, Any]] | None = None) -> dict[str, Any]:
    """The spec without its corpus; the precision is the one that was used, since `auto` may have meant either.

    `known` has those of other runs, which may share one object for their spec (`results.record`).
    """
    used = record.provenance.precision
    key = (id(record.spec), used)
    if known is not None and key in known:
        return known[key]
    facts = record.spec.model_dump(mode="json", exclude={"corpus"})
    facts = {**facts, "training": {**facts["training"], "precision": used}} if used else facts
    if known is not None:
        known[key] = facts
    return facts


def _lost_words(record: Record) -> dict[str, Any]:
    return {"evaluations": {split: {"unknown": found.unknown} for split, found in record.evaluations.items()}}


def _protocol_facts(record: Record, *, per_byte: bool = False) -> dict[str, Any]:
    counted = {"protocol", "words", "bytes"} if per_byte else {"protocol", "words", "bytes", "tokens"}
    return {"evaluations": {split: found.model_dump(include=counted) for split, found in record.evaluations.items()}}


def _foretell_protocol(spec: ArmSpec) -> dict[str, Any]:
    if spec.architecture.type in RECURRENT:
        return {"context": "carried", "batch_size": spec.evaluation.batch_size or 1}
    if isinstance(spec.corpus, TRANSLATED):
        return {"context": "each sentence given its source"}
    context = spec.evaluation.context or spec.training.window
    return {"context": context, "stride": min(spec.evaluation.stride or context, context)}


def _require_equal(facts: Mapping[str, dict[str, Any]], *, hint: str, allowed: Sequence[str] = ()) -> None:
    for path, values in find_differences(facts):
        if not is_declared(path, list(allowed)):
            found = "; ".join(f"{name}: {value!r}" for name, value in values.items())
            raise UsageError(f"not comparable: {path} differs ({found})", hint.format(path=path))


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
