"""What a reader of a comparison should know about values that were tuned for each arm."""

from collections.abc import Mapping, Sequence

from tiebench.results.record import Record
from tiebench.results.trials import describe_choice, describe_trials


def describe_tuning(arms: Mapping[str, Sequence[Record]]) -> list[str]:
    """What was chosen for each arm, and a warning where arms had unequal trials; nothing where none was tuned."""
    tuned = {arm: next((each.tuned for each in records if each.tuned), None) for arm, records in arms.items()}
    found = {arm: values for arm, values in tuned.items() if values is not None}
    if not found:
        return []
    notes = []
    for trials in dict.fromkeys(describe_trials(values) for values in found.values()):
        told = [describe_choice(arm, values) for arm, values in found.items() if describe_trials(values) == trials]
        notes.append(f"Tuned by {trials}. {'. '.join(told)}.")
    if len(notes) > 1 or len(found) < len(arms):
        without = [arm for arm in arms if arm not in found]
        what = f"{' and '.join(without)} had none" if without else "their trials differ"
        notes.append(f"Arms did not have equal trials ({what}): the better tuned one has an advantage.")
    return notes
