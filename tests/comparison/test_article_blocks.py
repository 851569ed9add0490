"""Runs on real WikiText-2 are compared by its articles, from their records alone."""

import pytest
import yaml

from tiebench.comparison.pairing import compare_arms, group_by_arm
from tiebench.execution.execute import execute
from tiebench.execution.plan import plan_runs
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback


@pytest.fixture(scope="module")
def store(data_dir, tmp_path_factory):
    """Two arms that read a few windows of WikiText-2, at two seeds."""
    folder = tmp_path_factory.mktemp("wikitext")
    experiment = {
        "name": "articles",
        "corpus": {"type": "wikitext-2"},
        "vocabulary": {"type": "words", "size": 50},
        "architecture": {"type": "lstm", "layers": 1, "width": 8},
        "training": {
            "steps": 2,
            "batch_size": 4,
            "window": 10,
            "optimizer": {"type": "sgd", "learning_rate": 1.0, "clip_norm": 5.0},
        },
        "evaluation": {"batch_size": 64},
        "seeds": [1, 2],
        "arms": {"untied": {"tie": False}, "tied": {"tie": True}},
    }
    (folder / "articles.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False), "utf-8")
    settings = Settings(store=Store(folder / "results"), device="cpu", data_dir=data_dir)
    runs = load_experiment(folder / "articles.yaml").list_runs()
    execute(plan_runs(runs, settings=settings), settings=settings, watch=lambda run, index: Callback(), jobs="1")
    return settings.store


def test_blocks_are_articles_where_the_record_says_where_these_begin(store):
    arms = group_by_arm(store.records())
    starts = arms["tied"][0].corpus.test_articles
    assert len(starts) == 60 and {tuple(run.corpus.test_articles) for runs in arms.values() for run in runs} == {
        tuple(starts)
    }
    comparison = compare_arms(arms, token_nll=store.token_nll)
    headline = comparison.contrasts[0].headline
    assert headline.of_articles and headline.covers == ("seeds", "text")
    assert 50 <= headline.num_blocks <= 60, "short articles are joined with the next"
    told = (
        f"{headline.num_blocks} blocks of {245_569 // headline.num_blocks:,} tokens on average, each of whole articles"
    )
    assert any(told in note for note in comparison.notes)


def test_older_records_are_compared_by_blocks_of_equal_length(store):
    arms = {
        arm: [run.model_copy(update={"corpus": run.corpus.model_copy(update={"test_articles": []})}) for run in runs]
        for arm, runs in group_by_arm(store.records()).items()
    }
    found = compare_arms(arms, token_nll=store.token_nll).contrasts[0].headline
    assert (found.num_blocks, found.of_articles) == (80, False)
    new = {**arms, "tied": group_by_arm(store.records())["tied"]}
    assert compare_arms(new, token_nll=store.token_nll).contrasts[0].headline.of_articles, "they are on the same text"
