"""A file of claims on one experiment, and a judge who has published runs of it first."""

import pytest

from tiebench.claims.evidence import Evidence, plan_papers
from tiebench.claims.papers import load_papers
from tiebench.claims.verdicts import judge_papers
from tiebench.experiment.loading import load_experiment
from tiebench.results.curve import write_curve
from tiebench.results.record import write_record
from tiebench.results.store import Store

EXPERIMENT = """
name: ptb-lstm-small
corpus: ptb
architecture: {type: lstm, layers: 2, width: 200}
training: {epochs: 13, batch_size: 20, window: 20, optimizer: {type: sgd, learning_rate: 1.0}}
arms: {untied: {tie: false}, tied: {tie: true}, wide: {tie: true, architecture: {width: 300}}}
"""
HEAD = """
paper: {title: A Paper, authors: A. Nonymous, venue: Nowhere, year: 2017, arxiv: "1700.00000"}
tolerances: Chosen for the test.
claims:
"""


@pytest.fixture
def write_claims(tmp_path):
    """Write an experiment and a file of claims; a claim is a format string with `{file}`, the experiment's path."""

    def write(**claims):
        experiment, file = tmp_path / "experiment.yaml", tmp_path / "a-paper.yaml"
        experiment.write_text(EXPERIMENT)
        lines = [f"  {id}: {claim.format(file=experiment, arm='untied')}\n" for id, claim in claims.items()]
        file.write_text(HEAD + "".join(lines))
        return file

    return write


@pytest.fixture
def judge(tmp_path, make_record):
    """Publish runs of the experiment, judge a file of claims by them: id to outcome."""
    store = Store(tmp_path / "results")

    def publish(file, tests, *, signature=None, changes=(), curves=None):
        planned = load_experiment(file.with_name("experiment.yaml"))
        for (arm, seed), test in tests.items():
            run = planned.list_runs(arms=[arm], seeds=[seed])[0]
            all_changes = [("signature", signature or run.signature), *changes]
            record = make_record(arm, seed, test=test, changes=all_changes)
            write_record(record, store.folder_of(record))
            if curves:
                write_curve(curves[arm, seed], store.folder_of(record))

    def judge_file(file, tests=(), *, seeds=(), only=(), overrides=(), **keywords):
        publish(file, dict(tests), **keywords)
        papers = load_papers(str(file))
        plans = plan_papers(papers, only=list(only), seeds=list(seeds), overrides=list(overrides))
        outcomes = judge_papers(papers, evidence=Evidence(store, plans, tuple(seeds)), only=list(only))
        return {outcome.id: outcome for outcome in outcomes}

    judge_file.store = store
    return judge_file
