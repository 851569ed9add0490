"""Looks at two arms while seeds are added, kept beside the runs: which runs were looked at, in which order, and what
came of it. The order counts: a decision that is valid under looking is one about looks as they were taken."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from tiebench.comparison.checks import check_comparable, find_split_names, has_other_vocabularies
from tiebench.comparison.difference import Unit, read_nll
from tiebench.comparison.sequential import Decision, Look, decide, replay_looks
from tiebench.errors import TiebenchError
from tiebench.experiment.block import Block
from tiebench.files import write_text
from tiebench.results.measurements import identify_run
from tiebench.results.record import Record

FindLooks = Callable[[str, tuple[str, str]], "Looks | None"]


class Looks(Block):
    """`arms` are the baseline and the arm against it, `seeds` their pairs of runs in the order of looking, `runs` what
    identifies each run of a pair. `margin` is in percent, as it was asked for."""

    experiment: str
    arms: tuple[str, str]
    split: str
    unit: Unit
    seeds: list[int]
    runs: list[tuple[str, str]]
    margin: float | None
    decision: Decision


def look_at_pairs(pairs: Sequence[tuple[Record, Record]], *, margin: float | None, allow: Sequence[str] = ()) -> Looks:
    """Look after every pair (baseline, ours) from the second on, and say what was decided.

    Raises UsageError for runs that may not be compared, ValueError for fewer than two pairs.
    """
    first = pairs[0]
    baseline, ours = ([pair[place] for pair in pairs] for place in (0, 1))
    check_comparable({first[0].arm: baseline, first[1].arm: ours}, allow=allow)
    split = "test" if "test" in find_split_names([*baseline, *ours]) else "valid"
    unit: Unit = "byte" if has_other_vocabularies(first) else "token"
    figures = [[read_nll(record.evaluations[split], unit=unit) for record in arm] for arm in (ours, baseline)]
    nats = None if margin is None else _margin_in_nats(margin, unit=unit, reference=figures[1][0])
    return Looks(
        experiment=first[1].experiment,
        arms=(first[0].arm, first[1].arm),
        split=split,
        unit=unit,
        seeds=[record.seed for record in ours],
        runs=[(identify_run(one), identify_run(other)) for one, other in pairs],
        margin=margin,
        decision=decide(replay_looks(*figures), margin=nats),
    )


def recall_looks(
    arms: Mapping[str, Sequence[Record]],
    *,
    find: FindLooks,
    margin: float | None,
    allow: Sequence[str] = (),
    is_paired: bool = False,
) -> tuple[Decision | None, list[str]]:
    """What is known of looks that were taken at these runs while seeds were added, and notes for who reads their p.

    `find(experiment, (baseline, arm))` gives the looks of two arms. Where two arms are compared, unpaired, over the
    very runs that were looked at, the decision that holds under looking; otherwise None, and a note on each arm some of
    whose runs were looked at: how many there are was decided by what they showed, which a p of looking once ignores.
    """
    baseline, *names = arms
    experiments = {record.experiment for records in arms.values() for record in records}
    notes: list[str] = []
    for arm in names if len(experiments) == 1 else ():
        looks = find(next(iter(experiments)), (baseline, arm))
        if looks is None:
            continue
        there = [{(each.seed, identify_run(each)): each for each in arms[name]} for name in (baseline, arm)]
        seen = zip(looks.seeds, looks.runs, strict=False)
        pairs = [(there[0].get((seed, one)), there[1].get((seed, other))) for seed, (one, other) in seen]
        known = [(one, other) for one, other in pairs if one is not None and other is not None]
        if not known:
            continue  # all were trained again, so nobody looked at them
        if not is_paired and len(names) == 1 and len(known) == len(pairs) == len(arms[baseline]) == len(arms[arm]):
            return look_at_pairs(known, margin=margin, allow=allow).decision, []
        notes.append(
            f"Seeds of {arm} were added while looking at {len(looks.runs)} pairs with {baseline}: a p of looking once "
            "is too small. What holds is told by compare --until-decided --no-train."
        )
    return None, notes


def find_looks_file(folder: Path, *, arms: tuple[str, str]) -> Path:
    """`comparison-untied-tied.json` in the folder of the experiment."""
    return folder / f"comparison-{'-'.join(arms)}.json"


def find_looks_below(root: Path) -> FindLooks:
    """What was looked at in the experiments of a folder of results."""
    return lambda experiment, arms: read_looks(root / experiment, arms=arms)


def write_looks(looks: Looks, folder: Path) -> Path:
    """Write the looks, renamed into place. Returns the file."""
    file = find_looks_file(folder, arms=looks.arms)
    write_text(json.dumps(looks.model_dump(mode="json"), indent=1, allow_nan=False) + "\n", file=file)
    return file


def read_looks(folder: Path, *, arms: tuple[str, str]) -> Looks | None:
    """What was looked at before; None where nothing was. Raises TiebenchError when the file is damaged."""
    file = find_looks_file(folder, arms=arms)
    if not file.exists():
        return None
    try:
        return Looks.model_validate_json(file.read_text("utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise TiebenchError(f"{file} is damaged: {reason}", "remove it: the looks are then computed again") from error


def describe_look(look: Look, *, unit: Unit) -> str:
    """A line: the change of perplexity in percent (negative is lower) or of bits per byte, its bounds so far, and p."""
    name = f"after {look.num_ours} seeds per arm"
    if unit == "byte":
        return f"{name}: change {look.difference / math.log(2):+.4f} bits per byte, p {look.p:.2g}"
    ends = [math.expm1(end) * 100 for end in (look.low, look.high) if end is not None]
    bounds = f"[{ends[0]:+.1f}, {ends[1]:+.1f}]" if ends else "(no bound yet)"
    return f"{name}: change {math.expm1(look.difference) * 100:+.1f} % {bounds}, p {look.p:.2g}"


def _margin_in_nats(margin: float, *, unit: Unit, reference: float) -> float:
    """Percent of the perplexity, or of the baseline's bits per byte at the first seed."""
    return math.log1p(margin / 100) if unit == "token" else margin / 100 * reference
