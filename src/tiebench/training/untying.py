"""The moment at which a late tie becomes two parameters (`tie: {type: untied-late, at: 0.66}`)."""

from torch import nn

from tiebench.experiment.embedding_config import TieConfig, UntiedLateConfig
from tiebench.experiment.run_spec import RunSpec
from tiebench.models.language_model import LanguageModel
from tiebench.training.optimizers import Optimizer, build_optimizer
from tiebench.tying.untied_late import UntiedLate


def plan_untying(tie: TieConfig, *, num_steps: int) -> int | None:
    """The update before which the embedding is untied, counted from 0; None where it never is."""
    return round(tie.at * num_steps) if isinstance(tie, UntiedLateConfig) else None


def untie(model: LanguageModel, optimizer: Optimizer, run: RunSpec) -> Optimizer:
    """Make two parameters of the shared one. Returns an optimizer in which both have the memory of the one."""
    embedding = model.embedding
    assert isinstance(embedding, UntiedLate)
    shared: nn.Parameter = embedding.shared
    embedding.untie()
    after = build_optimizer(model, run.spec.training.optimizer)
    for parameter in model.parameters():
        before = shared if parameter is embedding.output else parameter
        after.remember(parameter, optimizer.recall(before))
    return after
