"""Which runs a comparison is about."""

import pytest

from tiebench.errors import TiebenchError, UsageError
from tiebench.results.record import write_record
from tiebench.results.selection import explain_nothing, put_baseline_first, select_arms
from tiebench.results.store import Store


@pytest.fixture
def keep(tmp_path, make_record):
    """Write a record into the store below `tmp_path`."""

    def write(arm, seed, *, experiment, changes=()):
        record = make_record(arm, seed, changes=[("experiment", experiment), *changes])
        write_record(record, Store(tmp_path).folder_of(record))
        return record

    return write


def test_arms_of_one_experiment_belong_together(keep, tmp_path):
    for experiment in ("first", "second"):
        for arm in ("tied", "untied"):
            keep(arm, 1, experiment=experiment)
    keep("tied", 1, experiment="lonely", changes=[("spec.training.epochs", 99)])
    groups = select_arms(["tied", "untied"], store=Store(tmp_path))
    assert [{record.experiment for arm in group.values() for record in arm} for group in groups] == [
        {"first"},
        {"second"},
    ]
    assert list(groups[0]) == ["tied", "untied"]


def test_arms_from_separate_files_belong_together_when_only_the_tie_differs(keep, tmp_path):
    keep("tied", 1, experiment="one")
    keep("untied", 1, experiment="other")
    keep("untied", 1, experiment="longer", changes=[("spec.training.epochs", 99)])
    (group,) = select_arms(["tied", "untied"], store=Store(tmp_path))
    assert [group[arm][0].experiment for arm in group] == ["one", "other"]


def test_folders_are_taken_as_named(keep, tmp_path):
    keep("tied", 1, experiment="one")
    keep("tied", 1, experiment="two")
    (group,) = select_arms(
        [str(tmp_path / "one" / "tied"), str(tmp_path / "two" / "tied" / "seed-1")], store=Store(tmp_path)
    )
    assert list(group) == ["tied", "two/tied"]
    with pytest.raises(UsageError, match="no finished run in"):
        select_arms([str(tmp_path / "one"), str(tmp_path / "two")], store=Store(tmp_path))


def test_a_bad_record_in_a_named_folder_is_left_out_while_good_ones_remain(keep, tmp_path, caplog):
    for seed in (1, 2):
        keep("tied", seed, experiment="one")
        keep("untied", seed, experiment="one")
    arms = [tmp_path / "one" / arm for arm in ("untied", "tied")]
    bad = arms[1] / "seed-1" / "record.json"
    bad.write_text("")
    (group,) = select_arms(list(map(str, arms)), store=Store(tmp_path))
    assert [record.seed for record in group["tied"]] == [2] and len(group["untied"]) == 2
    assert str(bad) in caplog.text
    for folder in (arms[1] / "seed-1", arms[1]):
        (arms[1] / "seed-2" / "record.json").write_text("")
        with pytest.raises(TiebenchError, match="seed-1"):
            select_arms([str(arms[0]), str(folder)], store=Store(tmp_path))


def test_of_two_arms_the_untied_one_is_the_baseline(keep):
    records = {arm: [keep(arm, 1, experiment="one")] for arm in ("tied", "untied")}
    assert list(put_baseline_first(records)) == ["untied", "tied"]
    three = {"tied": records["tied"], "again": records["tied"], "untied": records["untied"]}
    assert list(put_baseline_first(three)) == ["tied", "again", "untied"]


def test_an_unknown_arm_is_answered_with_what_there_is(keep, tmp_path):
    keep("tied", 1, experiment="one")
    error = explain_nothing(["tyed", "tied"], store=Store(tmp_path))
    assert "'tyed'" in error.message and "did you mean 'tied'" in error.hint


def test_arms_from_separate_files_may_differ_in_what_is_allowed(keep, tmp_path):
    keep("tied", 1, experiment="one")
    keep("untied", 1, experiment="other", changes=[("spec.training.epochs", 99)])
    assert select_arms(["tied", "untied"], store=Store(tmp_path)) == []
    (group,) = select_arms(["tied", "untied"], store=Store(tmp_path), allow=["training.epochs"])
    assert [group[arm][0].experiment for arm in group] == ["one", "other"]
