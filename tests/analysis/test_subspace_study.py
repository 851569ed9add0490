from dataclasses import replace

import numpy as np
import pytest
import torch
from precision import bound_error
from torch.nn import functional as F

from tiebench.analysis.embedding_measures import measure_subspace_distance
from tiebench.analysis.subspace_study import Study, describe_study_run, mix_losses, parse_beta, run_study, train_model
from tiebench.errors import UsageError
from tiebench.execution.run import load_data

SMALL = Study(num_tokens=400, width=12, num_passes=40, batch_size=4, window=10, learning_rate=1e-2)


@pytest.fixture
def tokens():
    return torch.randint(0, 60, (401,), generator=torch.Generator().manual_seed(3))


def distance(tokens, *, beta, study=SMALL):
    model = train_model(tokens, run=describe_study_run(study, subject="beta-1", seed=1), beta=beta, study=study)
    tables = [table.detach().numpy() for table in (model.embedding.input_embedding, model.embedding.output_embedding)]
    return model, measure_subspace_distance(*tables)


def test_the_augmented_loss_draws_the_tables_together(tokens):
    model, with_loss = distance(tokens, beta=1.0)
    _, without = distance(tokens, beta=0.0)
    assert with_loss < 0.6 * without
    norms = model.embedding.input_embedding.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_the_mixture_by_hand(tokens):
    """At beta 0 it is the cross entropy; at beta 1 it is tau^2 |V| KL, written out."""
    study = replace(SMALL, num_passes=1)
    model, _ = distance(tokens, beta=0.0, study=study)
    hidden, targets = torch.randn(2, 3, 12), tokens[:6].view(2, 3)
    scores, table = model.embedding.logits(hidden).flatten(0, 1), model.embedding.input_embedding
    mixed = {beta: mix_losses(model, hidden, targets, beta=beta, temperature=10.0) for beta in (0.0, 0.25, 1.0)}
    rounded = {"rtol": bound_error(12 + len(table) + 6), "atol": 0.0}  # sums over width, vocabulary and tokens
    torch.testing.assert_close(mixed[0.0], F.cross_entropy(scores, targets.flatten()), **rounded)
    similar, predicted = (table[targets.flatten()] @ table.T / 10).softmax(-1), (scores / 10).softmax(-1)
    # each logarithm of a ratio is off by the roundings of scores, and of the sum under each of two probabilities
    limit = 100 * len(table) * 2 * bound_error(12 + len(table))
    assert limit < 0.1 * mixed[1.0]
    divergence = (similar * (similar / predicted).log()).sum(-1).mean()
    torch.testing.assert_close(mixed[1.0], divergence * 100 * len(table), rtol=0.0, atol=limit)
    torch.testing.assert_close(mixed[0.25], 0.25 * mixed[1.0] + 0.75 * mixed[0.0], **rounded)


def test_a_study_on_penn_treebank_is_a_finding(data_dir):
    study = replace(SMALL, num_passes=1)
    measurement = run_study("beta-1", measure="subspace distance", seed=2, data_dir=data_dir, study=study)
    assert (measurement.of, measurement.seed, measurement.facts["num_tokens"]) == ("beta-1", 2, 400)
    assert 0 < measurement.value < 1 and np.isfinite(measurement.value)
    assert 100 < measurement.facts["num_words"] < 400, "the vocabulary is that of the excerpt"
    made = measurement.provenance
    assert (
        made.command and made.started <= made.finished and made.versions["torch"] and made.hardware["device"] == "cpu"
    )


def test_the_declared_number_of_words_is_that_of_the_excerpt(data_dir):
    study = Study()
    run = describe_study_run(study, subject="beta-1", seed=1)
    ids = load_data(run, data_dir=data_dir).streams["train"].ids[: study.num_tokens + 1]
    assert len(np.unique(np.asarray(ids))) == study.num_words


@pytest.mark.parametrize("subject", ["beta-2", "alpha", "beta-"])
def test_what_is_no_share_is_refused(subject):
    with pytest.raises(UsageError, match="the subspace study has no"):
        parse_beta(subject)
