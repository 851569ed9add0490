"""Weights of another library under our names: each rule renames the parameters that its pattern matches."""

import re
from dataclasses import dataclass

import torch

from tiebench.errors import TiebenchError


@dataclass(frozen=True)
class Rule:
    """A pattern for whole names, and the new name (with the pattern's groups); None leaves the parameter out.

    Several old names may share one new name: their rows are then stacked in the order of the rules.
    """

    pattern: str
    name: str | None
    transpose: bool = False


def convert_state(state: dict[str, torch.Tensor], *, rules: list[Rule], prefix: str) -> dict[str, torch.Tensor]:
    """The renamed parameters; names may start with `prefix`. Raises TiebenchError for a name without a rule."""
    pieces: dict[str, dict[int, torch.Tensor]] = {}
    for name, values in state.items():
        position, new_name = _apply_rules(name.removeprefix(prefix), rules=rules)
        if new_name is not None:
            turned = values.t() if rules[position].transpose and values.ndim == 2 else values
            pieces.setdefault(new_name, {})[position] = turned
    return {name: torch.cat([parts[i] for i in sorted(parts)]).contiguous() for name, parts in pieces.items()}


def _apply_rules(name: str, *, rules: list[Rule]) -> tuple[int, str | None]:
    for position, rule in enumerate(rules):
        match = re.fullmatch(rule.pattern, name)
        if match:
            return position, None if rule.name is None else match.expand(rule.name)
    raise TiebenchError(
        f"the weights hold '{name}', which this architecture has no place for",
        "convert weights of the same architecture, saved by the transformers library",
    )
