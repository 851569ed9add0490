"""One arm at one seed, fully resolved: all that a result depends on, and the signature that identifies it."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tiebench.experiment.matching_config import Match
from tiebench.experiment.schema import ArmSpec
from tiebench.experiment.tuning_config import TunedValues

PATH_KEYS = ("train", "valid", "test", "file", "source", "target")


@dataclass(frozen=True)
class RunSpec:
    """What one run is. `declared` are the dotted paths in which its experiment's arms may differ.

    `altered` lists the overrides of the command line that made this run differ from its file, which is `source`: the
    paths of a user's own text start at its folder. A `match` is still to be found, for which the corpus is needed
    (execution/matching.py); until then, `spec` is what the file writes. `remarks` say what a reader of the record
    should know about the spec.

    `is_untuned` says that `tuning:` is still to choose some of its values (execution/tuning.py); `tuned` says what it
    chose. `trial_of` names the experiment for which a trial helps to choose values; a trial is scored on the validation
    split and never on the test split. `title` is how progress names a trial, whose arm is made to name a folder.
    None of these four is part of the signature: a run is the same whether its values were typed or tuned.
    """

    experiment: str
    arm: str
    seed: int
    spec: ArmSpec
    declared: tuple[str, ...] = ("tie",)
    altered: tuple[str, ...] = ()
    source: str = ""
    match: Match | None = None
    remarks: tuple[str, ...] = ()
    tuned: TunedValues | None = None
    is_untuned: bool = False
    trial_of: str = ""
    title: str = ""

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.arm}/seed-{self.seed}"

    @property
    def is_trial(self) -> bool:
        return bool(self.trial_of)

    @property
    def full_name(self) -> str:
        """The name among the runs of all experiments; for a trial it begins with the experiment that it is for."""
        return f"{self.trial_of}/{self.name}" if self.trial_of else self.name

    @property
    def folder(self) -> Path | None:
        """The folder of the file that asked for this run."""
        return Path(self.source).parent if self.source else None

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The spec as plain data, every default filled in."""
        return self.spec.model_dump(mode="json")

    @cached_property
    def signature(self) -> str:
        """8 hex digits over the resolved spec and the seed, without names, paths and device.

        What is null or false is left out, so that a new switch that is off leaves old signatures as they are.
        """
        content = _drop_unused({**self.resolved, "seed": self.seed})
        content["corpus"] = {key: value for key, value in content["corpus"].items() if key not in PATH_KEYS}
        if self.spec.initialise_from is not None:
            content["initialise_from"].pop("folder")  # its digest says which checkpoint it is
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _drop_unused(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _drop_unused(part) for key, part in value.items() if part is not None and part is not False}
