"""What a record says of a run beside its scores: the text it read, and what it took."""

from tiebench.corpora.articles import find_article_starts
from tiebench.execution.run_data import RunData
from tiebench.experiment.run_spec import RunSpec
from tiebench.models.language_model import LanguageModel, count_flops_per_token
from tiebench.results import record as records
from tiebench.training.train_state import TrainState


def describe_corpus(data: RunData) -> records.CorpusFacts:
    """Which text it was, how much of it, and where its test articles begin."""
    test = data.streams["test"].num_tokens
    return records.CorpusFacts(
        name=data.corpus.name,
        checksum=data.corpus.checksum,
        facts=data.corpus.facts,
        source_nats=data.corpus.source_nats,
        test_articles=find_article_starts(data.corpus, "test", vocabulary=data.vocabulary, num_tokens=test),
        splits={
            split: records.SplitFacts(
                tokens=stream.num_tokens, words=stream.num_words, bytes=stream.num_bytes, unknown=stream.num_unknown
            )
            for split, stream in data.streams.items()
        },
    )


def describe_usage(state: TrainState, model: LanguageModel, *, run: RunSpec, peak_memory: int) -> records.ResourceUsage:
    """What training and scoring took; `peak_memory` in bytes."""
    return records.ResourceUsage(
        steps=state.step,
        tokens=state.tokens,
        train_seconds=state.train_seconds,
        evaluation_seconds=state.evaluation_seconds,
        tokens_per_second=state.tokens / state.train_seconds if state.train_seconds else None,
        peak_memory_bytes=peak_memory,
        flops_per_token=count_flops_per_token(
            model, context=run.spec.training.window, objective=run.spec.training.objective
        ),
        first_loss_nats=state.first_loss_nats,
    )
