"""How far a model's loss is above that of the source of its text, where this is known (`corpus: synthetic`)."""

from collections.abc import Mapping, Sequence

from tiebench.results.record import Record


def measure_excess(record: Record, split: str) -> float | None:
    """The nats per token of a run above those of the source of its text; None where that is not known,
    and where the vocabulary has lost words: these would cost too little.
    """
    evaluation, source_nats = record.evaluations.get(split), record.corpus.source_nats.get(split)
    if evaluation is None or source_nats is None or evaluation.unknown:
        return None
    return (evaluation.nll - source_nats) / evaluation.tokens


def describe_excess(arms: Mapping[str, Sequence[Record]]) -> list[str]:
    """A note with the source's loss on the test split and the mean excess of each arm; none for other text."""
    first = next(iter(arms.values()))[0]
    found = {arm: [measure_excess(record, "test") for record in records] for arm, records in arms.items()}
    known = {arm: [value for value in values if value is not None] for arm, values in found.items()}
    if any(len(known[arm]) < len(values) for arm, values in found.items()):
        return []
    entropy = first.corpus.source_nats["test"] / first.evaluations["test"].tokens
    told = ", ".join(f"{arm} {sum(values) / len(values):.4f}" for arm, values in known.items())
    return [
        f"The source of this text has a loss of its own of {entropy:.4f} nats per test token, exact by the forward "
        f"algorithm. The arms lie above it by these nats per token: {told}."
    ]
