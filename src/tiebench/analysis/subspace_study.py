"""Does the augmented loss pull the output embedding into the span of the input embedding? (Inan et al. 2017, Figure 1.)

A small LSTM reads 20,000 contiguous words of Penn Treebank without any regularisation and minimises

    beta * J_aug * tau^2 * |V| + (1 - beta) * J

with the rows of the input embedding kept at length one. What the paper leaves open is fixed here and never tuned: the
vocabulary is that of the excerpt, both are learned, the optimizer is Adam, and there are 120 passes, by when the
training loss at beta = 1 has levelled off.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from tiebench.analysis.embedding_measures import expect_subspace_distance, measure_subspace_distance
from tiebench.errors import UsageError
from tiebench.execution import environment
from tiebench.execution.costs import CostEstimate, count_operations
from tiebench.execution.run_data import load_data
from tiebench.experiment.loading import resolve_document
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.yaml_file import Document
from tiebench.models.language_model import LanguageModel, build_model, initialise_model
from tiebench.results.measurements import Measurement
from tiebench.training.objective import measure_similarity_divergence

STUDY_NAME = "subspace-alignment"


@dataclass(frozen=True)
class Study:
    """The settings: the paper's where it states them (tokens, layers, width, temperature), ours where it does not.

    `num_words` is how many different words the excerpt has; it only serves to tell the cost before reading it.
    """

    num_tokens: int = 20_000
    num_words: int = 3_318
    layers: int = 2
    width: int = 300
    temperature: float = 10.0
    batch_size: int = 20
    window: int = 20
    num_passes: int = 120
    learning_rate: float = 1e-3


def run_study(
    subject: str, *, measure: str, seed: int, data_dir: Path | None = None, study: Study = Study()
) -> Measurement:
    """The subspace distance at `beta-0`, `beta-0.5`, `beta-1` ... after training. Raises TiebenchError without PTB."""
    beta, started = parse_beta(subject), environment.utc_now()
    run = describe_study_run(study, subject=subject, seed=seed)
    ids = load_data(run, data_dir=data_dir).streams["train"].ids[: study.num_tokens + 1]
    tokens = torch.from_numpy(np.unique(np.asarray(ids), return_inverse=True)[1].astype(np.int64))
    model = train_model(tokens, run=run, beta=beta, study=study)
    matrices = [
        matrix.detach().numpy() for matrix in (model.embedding.input_embedding, model.embedding.output_embedding)
    ]
    facts: dict[str, int | float | str] = {"num_tokens": study.num_tokens, "num_words": len(matrices[0])}
    chance = expect_subspace_distance(num_words=len(matrices[0]), width=study.width)
    facts |= {"num_passes": study.num_passes, "chance": chance}
    value = measure_subspace_distance(*matrices)
    place = environment.choose_device("cpu")
    made = environment.describe_provenance(started=started, device=place)
    return Measurement(measure=measure, of=subject, seed=seed, value=value, facts=facts, provenance=made)


def parse_beta(subject: str) -> float:
    """`beta-0.5` is 0.5. Raises UsageError for anything else."""
    try:
        beta = float(subject.removeprefix("beta-"))
    except ValueError:
        beta = -1.0
    if not 0 <= beta <= 1:
        raise UsageError(f"the subspace study has no '{subject}'", "beta-0, beta-1 or any share between, as beta-0.5")
    return beta


def describe_study_run(study: Study, *, subject: str, seed: int) -> RunSpec:
    """The model and its training as a run; the mixed objective itself is `mix_losses`."""
    data = {
        "name": STUDY_NAME,
        "corpus": "ptb",
        "architecture": {"type": "lstm", "layers": study.layers, "width": study.width, "init": {"uniform": 0.1}},
        "tie": False,
        "training": {
            "epochs": study.num_passes,
            "random_offset": False,
            "batch_size": study.batch_size,
            "window": study.window,
            "optimizer": {"type": "adamw", "learning_rate": study.learning_rate, "weight_decay": 0.0},
            "objective": {"type": "augmented", "temperature": study.temperature},
        },
    }
    return replace(resolve_document(Document("the subspace study", data)).list_runs(seeds=[seed])[0], arm=subject)


def train_model(tokens: torch.Tensor, *, run: RunSpec, beta: float, study: Study) -> LanguageModel:
    """`tokens` are ids `(num_tokens + 1,)` without gaps; state is carried through a pass."""
    model = build_model(run.spec, vocabulary_size=int(tokens.max()) + 1)
    initialise_model(model, seed=run.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=study.learning_rate)
    columns = (len(tokens) - 1) // study.batch_size
    inputs, targets = (
        tokens[shift : shift + columns * study.batch_size].view(study.batch_size, columns) for shift in (0, 1)
    )
    _keep_on_sphere(model)
    for _ in range(study.num_passes):
        state = None
        for start in range(0, columns, study.window):
            part = slice(start, start + study.window)
            hidden, state = model.encode(inputs[:, part], state)
            loss = mix_losses(model, hidden, targets[:, part], beta=beta, temperature=study.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _keep_on_sphere(model)
            state = [(short.detach(), long.detach()) for short, long in state]
    return model


def mix_losses(
    model: LanguageModel, hidden: torch.Tensor, targets: torch.Tensor, *, beta: float, temperature: float
) -> torch.Tensor:
    """beta * J_aug * tau^2 * |V| + (1 - beta) * J, a mean over tokens (Inan et al. 2017, section 5.1); a scalar."""
    scores, targets = model.embedding.logits(hidden).flatten(0, -2), targets.flatten()
    matrix = model.embedding.input_embedding
    divergence = measure_similarity_divergence(scores, targets, matrix=matrix, temperature=temperature) / len(targets)
    return beta * divergence * temperature**2 * len(matrix) + (1 - beta) * F.cross_entropy(scores, targets)


@torch.no_grad()
def _keep_on_sphere(model: LanguageModel) -> None:
    matrix = model.embedding.input_embedding
    matrix.copy_(F.normalize(matrix, dim=1))


def count_study(subject: str, *, seed: int) -> CostEstimate:
    """What one subject at one seed will cost; its seconds are still to be estimated."""
    study = Study()
    cost = CostEstimate(describe_study_run(study, subject=subject, seed=seed), 1, study.num_words)
    return count_operations(cost, tokens={"train": study.num_tokens, "valid": 0, "test": 0})
