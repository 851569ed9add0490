"""From an experiment file to its runs; everything that is wrong with the file is said at once, each with its line."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment import schema
from tiebench.experiment.bundled import find_config
from tiebench.experiment.candidates import Tuning, build_tuning, decode_tuning, fill_values, list_tuned
from tiebench.experiment.matching_config import Match, MatchConfig
from tiebench.experiment.merging import apply_override, expand_shorthands, list_paths, merge, parse_override
from tiebench.experiment.problems import Problem, explain_problems, raise_problems, shorten
from tiebench.experiment.run_file import check_signature, is_run_record, read_run_record
from tiebench.experiment.run_spec import RunSpec
from tiebench.experiment.top_level import ARM_BLOCKS, GRID, check_top
from tiebench.experiment.tuning_config import TunedValues
from tiebench.experiment.yaml_file import Document, read_document

NEW_RECIPE = {"training": {"random_offset": True}}  # the default in a file; a record without the key has null


@dataclass(frozen=True)
class Experiment:
    """One YAML file, resolved: arms that differ in declared things only, and the seeds to run them at.

    A value that `tuning` has yet to choose (execution/tuning.py) is in the arm as the file writes it, or as the
    smallest value of the grid. `choices` holds the chosen values by arm; the arms then have them too.
    """

    name: str
    description: str
    source: str
    arms: dict[str, schema.ArmSpec]
    seeds: tuple[int, ...]
    declared: tuple[str, ...]
    altered: tuple[str, ...] = ()
    matches: dict[str, MatchConfig] = field(default_factory=dict)
    tuning: Tuning | None = None
    choices: dict[str, TunedValues] = field(default_factory=dict)

    @property
    def untuned(self) -> list[str]:
        """The arms whose values are still to be chosen."""
        return [arm for arm in (self.tuning.candidates if self.tuning else ()) if arm not in self.choices]

    def list_runs(self, *, arms: list[str] | None = None, seeds: list[int] | None = None) -> list[RunSpec]:
        """The runs, each once, all arms of a seed before the next seed, so that a comparison can be read early.

        Raises UsageError for an unknown arm, and for a seed of the trials.
        """
        chosen = list(dict.fromkeys(arms or self.arms))
        for arm in chosen:
            if arm not in self.arms:
                raise UsageError(f"{self.source} has no arm '{arm}'", did_you_mean(arm, self.arms))
        for seed in seeds or ():
            if seed in self.tuning_seeds:
                hint = "choose another seed: tuned values look better at the seed of their trials than elsewhere"
                raise UsageError(f"seed {seed} is one of the trials of {self.name} (tuning.seeds)", hint)
        return [self._resolve(arm, seed) for seed in dict.fromkeys(seeds or self.seeds) for arm in chosen]

    @property
    def tuning_seeds(self) -> list[int]:
        """Seeds that no run may have."""
        return self.tuning.config.seeds if self.tuning else []

    def _resolve(self, arm: str, seed: int) -> RunSpec:
        return RunSpec(
            experiment=self.name,
            arm=arm,
            seed=seed,
            spec=self.arms[arm],
            declared=self.declared,
            altered=self.altered,
            source=self.source,
            match=self.find_match(arm),
            tuned=self.choices.get(arm),
            is_untuned=arm in self.untuned,
        )

    def find_match(self, arm: str) -> Match | None:
        """What the size of an arm is to be matched to; None where its size is as the file writes it."""
        config = self.matches.get(arm)
        return Match(config, self.arms[config.arm]) if config else None


def load_experiment(name: str | Path, *, overrides: tuple[str, ...] | list[str] = ()) -> Experiment:
    """Read a file (or a bundled experiment by name), apply the overrides and resolve every arm.

    Raises UsageError that lists every problem with file, line, dotted path, what was found and what is allowed.
    """
    document = read_document(find_config(str(name)))
    if is_run_record(document.data):
        return load_run_record(document, overrides=tuple(overrides))
    lay_overrides(document, overrides)
    return resolve_document(document, altered=tuple(overrides))


def lay_overrides(document: Document, overrides: tuple[str, ...] | list[str]) -> None:
    """Change a document by `--set` options. Raises UsageError for one that cannot be read or that an arm undoes."""
    for text in overrides:
        path, value = parse_override(text)
        document.data = apply_override(document.data, path, value)
        document.lines = {known: line for known, line in document.lines.items() if known[: len(path)] != path}
        document.overridden[path] = f"--set {shorten(text)}"


def load_run_record(document: Document, *, overrides: tuple[str, ...] = ()) -> Experiment:
    """The one run that a `spec.yaml` records, as an experiment of one arm and one seed.

    Raises UsageError where the record is damaged, and where it does not describe the run that its signature names.
    """
    recorded = read_run_record(document)
    lay_overrides(recorded.document, overrides)
    experiment = resolve_document(recorded.document, altered=(*recorded.altered, *overrides))
    experiment = replace(experiment, source=recorded.source, declared=recorded.declared)
    if not overrides:
        check_signature(experiment.list_runs()[0], recorded)
    return experiment


def resolve_document(document: Document, *, altered: tuple[str, ...] = ()) -> Experiment:
    """Raises UsageError as `load_experiment` does."""
    data = document.data
    if {"paper", "claims"} <= data.keys():
        hint = "`tiebench reproduce FILE` checks it"
        raise UsageError(f"{document.source} is a file of claims, not an experiment", hint)
    if GRID in data:
        hint = f"`tiebench grid {document.source}` runs and compares all of them"
        raise UsageError(f"{document.source} is a grid of experiments, not a single one", hint)
    problems = check_top(data)
    base = expand_shorthands({key: value for key, value in data.items() if key in ARM_BLOCKS})
    written = data.get("arms")
    changes = {arm: expand_shorthands(change or {}) for arm, change in _mapping(written).items() if _is_block(change)}
    asked = {arm: change.pop("match") for arm, change in changes.items() if "match" in change}
    matches, found = _decode_matches(asked, arms=list(changes))
    config, wrong = decode_tuning(data, changes=changes, overridden=document.overridden)
    problems += found + wrong
    merged = {arm: merge(base, change) for arm, change in changes.items()} or {_name_by_tie(base): base}
    merged |= {arm: fill_values(config, merged[arm]) for arm in list_tuned(config, merged) if config}
    arms = {}
    for arm, block in merged.items():
        arms[arm], found = _decode_arm(block, prefix=("arms", arm) if arm in changes else ())
        problems += found
    raise_problems(problems, document)
    tuning, problems = build_tuning(config, arms=merged, decode=_decode_arm) if config else (None, [])
    raise_problems(problems, document)
    paths = {path for change in changes.values() for path in list_paths(change)} | set(config.grid if config else ())
    paths |= {f"architecture.{match.by}" for match in matches.values()}
    if "initialise_from.folder" in paths:
        paths.add("initialise_from.digest")
    declared = sorted(paths) or ["tie"]
    return Experiment(
        name=data.get("name") or Path(document.source).stem.lower(),
        description=data.get("description") or "",
        source=document.source,
        arms={arm: spec for arm, spec in arms.items() if spec is not None},
        seeds=tuple(data.get("seeds") or (1,)),
        declared=tuple(_strip_type(path) for path in declared),
        altered=altered,
        matches=matches,
        tuning=tuning,
    )


def _strip_type(path: str) -> str:
    return path.removesuffix(".type")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_block(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _name_by_tie(block: dict[str, Any]) -> str:
    tie = block.get("tie")
    return str(tie["type"]) if isinstance(tie, dict) and "type" in tie else "arm"


def _decode_arm(block: dict[str, Any], *, prefix: tuple[str, ...] = ()) -> tuple[schema.ArmSpec | None, list[Problem]]:
    """A merged arm as a typed spec, or what is wrong with it."""
    filled = merge(NEW_RECIPE, block) if isinstance(block.get("training"), dict) else block
    if block.get("initialise_from") is not None:
        filled = {"vocabulary": {"type": "checkpoint"}, **filled}
    try:
        return schema.ArmSpec.model_validate(filled), []
    except ValidationError as error:
        problems = explain_problems(error, model=schema.ArmSpec, data=block)
        return None, [problem.below(prefix) for problem in problems]


def _decode_matches(asked: dict[str, Any], *, arms: list[str]) -> tuple[dict[str, MatchConfig], list[Problem]]:
    """The `match:` block of each arm that has one, and what is wrong with them."""
    matches: dict[str, MatchConfig] = {}
    problems: list[Problem] = []
    for arm, block in asked.items():
        path = ("arms", arm, "match")
        try:
            match = matches[arm] = MatchConfig.model_validate(block)
        except ValidationError as error:
            problems += [found.below(path) for found in explain_problems(error, model=MatchConfig, data=block)]
            continue
        others = [name for name in arms if name not in asked]
        if match.arm not in others:
            problems.append(Problem((*path, match.amount), match.arm, did_you_mean(match.arm, others)))
    return matches, problems
