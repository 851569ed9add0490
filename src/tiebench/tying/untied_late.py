"""One matrix at both ends for a part of training, then two, which both start from its values."""

from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor, nn

from tiebench.experiment.embedding_config import EmbeddingConfig, UntiedLateConfig
from tiebench.tying.tied import Tied, check_output_init


class UntiedLate(Tied):
    """A tied embedding until `untie` makes two parameters of the one, with equal values; `frozen` names one of them
    that is not trained any more.

    The shared parameter itself becomes the input embedding.
    """

    later_roles = ("input", "output")

    def __init__(self, config: EmbeddingConfig, *, frozen: Literal["input", "output"] | None, **shape: Any) -> None:
        super().__init__(config, **shape)
        self.frozen = frozen
        self.tied_roles = self.roles
        self.is_untied = False

    def untie(self) -> None:
        self.input: nn.Parameter = self.shared
        self.output: nn.Parameter = nn.Parameter(self.shared.detach().clone())
        del self.shared
        self.roles = {**self.tied_roles, "input": "input", "output": "output"}
        self.roles.pop("shared")
        self.is_untied = True
        if self.frozen:
            getattr(self, self.frozen).requires_grad_(False)

    def tie_again(self) -> None:
        """Return to one parameter, so that weights from before the moment can be loaded."""
        self.input.requires_grad_(True)
        self.shared = self.input
        del self.input, self.output
        self.roles = self.tied_roles
        self.is_untied = False

    def take_form_of(self, names: Iterable[str]) -> None:
        """Have one parameter or two, whichever the state of a model with these parameter names has."""
        is_untied = "embedding.output" in set(names)
        if is_untied and not self.is_untied:
            self.untie()
        elif self.is_untied and not is_untied:
            self.tie_again()

    @property
    def input_embedding(self) -> Tensor:
        return self.input if self.is_untied else self.shared

    @property
    def output_embedding(self) -> Tensor:
        return self.output if self.is_untied else self.shared


def build(
    tie: UntiedLateConfig, config: EmbeddingConfig, *, vocabulary_size: int, width: int, has_source: bool = False
) -> UntiedLate:
    """The embedding as it starts, tied. Raises UsageError for an `output_init`, which would fill nothing."""
    check_output_init(config)
    shape = {"vocabulary_size": vocabulary_size, "width": width, "has_source": has_source}
    return UntiedLate(config, frozen=tie.freeze, **shape)
