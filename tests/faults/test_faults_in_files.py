"""Faults that were found in what lies on the disk, each by itself."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from crashpoints import TALKING, TRAIN, watch_all
from damage import COMPARE
from processes import run_campaign as run_processes
from shell import Shell
from truth import (
    LONG_AGO,
    TRAINING,
    count_table_rows,
    list_differences,
    list_strays,
    read_figures,
    write_experiment,
)

TIED, UNTIED = "results/tiny/tied/seed-1", "results/tiny/untied/seed-1"
STRANGER = 54321  # a user that no system knows

as_another_user = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


def check_same(truth, folder):
    """All runs are there, with the true figures."""
    found = read_figures(folder / "results")
    assert found.keys() == truth.keys()
    assert list_differences(truth, found) == []


# power loss


def test_every_file_is_synced_before_its_rename_and_its_folder_after(shell, start):
    """But a heartbeat, every two seconds: it says that a process lives, which is over when the power is."""
    names = [
        (found["name"], found["path"], found.get("to"))
        for found in shell.run(*TRAIN, folder=start, watch=watch_all(start)).operations
    ]
    renames = [(index, path, to) for index, (name, path, to) in enumerate(names) if name == "rename"]
    renames = [found for found in renames if os.path.basename(found[2]) != ".owner"]
    assert renames
    for index, path, to in renames:
        assert ("fsync", path, None) in names[:index], f"{path} was renamed before it was synced"
        assert ("fsync", os.path.dirname(to), None) in names[index:], f"the folder of {to} was not synced after"


# one bad record


def spoil_record(folder, how):
    file = folder / TIED / "record.json"
    content = json.loads(file.read_text("utf-8"))
    spoilt = {
        "empty": "",
        "of a later version": json.dumps(content | {"schema_version": 99}),
        "of another experiment": json.dumps(content | {"experiment": "other", "signature": "0" * 8}),
    }
    file.write_text(spoilt[how], "utf-8")


@pytest.mark.parametrize("how", ["empty", "of a later version", "of another experiment"])
def test_a_bad_record_stops_no_other_and_is_made_again(how, shell, copy_of, truth):
    folder = copy_of("finished")
    spoil_record(folder, how)
    listed = shell.run("list", "runs", folder=folder)
    assert listed.exit_code == 0, listed.stderr
    assert UNTIED in listed.stdout and f"{TIED}/record.json" in listed.stdout + listed.stderr
    trained = shell.run(*TALKING, "--jobs", "1", folder=folder)
    assert trained.exit_code == 0, trained.stderr
    assert f"{TIED}/record.json" in trained.stderr, "a warning names the bad record"
    check_same(truth, folder)


def test_a_bad_record_stops_no_comparison_of_others(shell, start):
    write_experiment(start, seeds=[1, 2])
    shell.run(*TRAIN, folder=start)
    spoil_record(start, "empty")
    answer = shell.run(*COMPARE, folder=start)
    assert answer.exit_code == 0, answer.stderr
    assert f"{TIED}/record.json" in answer.stderr
    assert json.loads(answer.stdout)[0]["seeds"] == {"untied": [1, 2], "tied": [2]}


def test_a_bad_record_among_good_ones_is_named_and_one_that_is_asked_for_is_an_error(shell, start):
    write_experiment(start, seeds=[1, 2])
    shell.run(*TRAIN, folder=start)
    spoil_record(start, "empty")
    arms = [str(Path(run).parent) for run in (UNTIED, TIED)]
    compared = shell.run("compare", *arms, "--json", folder=start)
    assert compared.exit_code == 0, compared.stderr
    assert f"{TIED}/record.json" in compared.stderr
    assert json.loads(compared.stdout)[0]["seeds"] == {"untied": [1, 2], "tied": [2]}
    for command in (("show", TIED), ("compare", UNTIED, TIED)):
        answer = shell.run(*command, folder=start)
        assert answer.find_complaint(allowed=(1,)) == "" and f"{TIED}/record.json" in answer.stderr


def test_a_bad_record_stops_nothing_with_several_jobs(shell, start):
    write_experiment(start, seeds=[1, 2])
    shell.run(*TRAIN, "--arm", "tied", "--seed", "1", folder=start)
    spoil_record(start, "empty")
    trained = shell.run(*TRAIN, "--jobs", "2", folder=start)
    assert trained.exit_code == 0, trained.stderr
    assert len(read_figures(start / "results")) == 4


def test_a_comparison_without_the_nats_of_a_run_says_so(shell, copy_of):
    """Else other figures would stand there in silence: how the test text varies is not in them any more."""
    folder = copy_of("finished")
    (folder / TIED / "test-nll.npy").unlink()
    answer = shell.run(*COMPARE, folder=folder)
    assert answer.exit_code == 0, answer.stderr
    assert "warning: not every run of tied has the nats of its test tokens" in " ".join(answer.stderr.split())


# the text changes while a run is interrupted


@pytest.mark.parametrize("new_word", [False, True])
def test_an_interrupted_run_does_not_go_on_with_other_text(new_word, shell, copy_of):
    folder = copy_of("at its first checkpoint")
    lines = (folder / "train.txt").read_text("utf-8").splitlines()
    random.Random(2).shuffle(lines)
    lines += ["zebra"] * new_word
    (folder / "train.txt").write_text("\n".join(lines) + "\n", "utf-8")
    trained = shell.run(*TALKING, "--arm", "tied", folder=folder)
    assert trained.find_complaint() == ""
    assert trained.exit_code in (1, 2) and not (folder / TIED / "record.json").exists()
    assert "text" in trained.stderr or "corpus" in trained.stderr


# what belongs together


def test_weights_of_another_run_are_not_scored(shell, copy_of, truth, start):
    write_experiment(start, seeds=[2])
    shell.run(*TRAIN, "--arm", "tied", folder=start)
    folder = copy_of("before it was scored")
    shutil.copy(start / "results/tiny/tied/seed-2/weights.safetensors", folder / TIED)
    trained = shell.run(*TRAIN, folder=folder)
    assert trained.find_complaint() == ""
    assert list_differences(truth, read_figures(folder / "results")) == []


@pytest.mark.parametrize(("name", "place"), [("weights.safetensors", -1), ("curve.jsonl", -3)])
def test_a_flipped_bit_is_found_before_a_run_ends(name, place, shell, copy_of, truth):
    folder = copy_of("before it was scored")
    flip_bit(folder / TIED / name, place)
    trained = shell.run(*TRAIN, folder=folder)
    assert trained.find_complaint() == ""
    assert list_differences(truth, read_figures(folder / "results")) == []


def flip_bit(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_a_flipped_bit_in_the_nats_of_tokens_is_found_when_they_are_read(shell, copy_of):
    folder = copy_of("finished")
    (file,) = (folder / TIED).glob("test-nll.npy")
    flip_bit(file, -4)  # the lowest bit of the last number
    answer = shell.run(*COMPARE, folder=folder)
    assert answer.find_complaint() == ""
    assert answer.exit_code or str(file.name) in answer.stderr


def test_a_changed_digit_in_a_record_is_found_when_it_is_read(shell, copy_of):
    """A flipped bit makes one digit another: nothing else in the file contradicts it."""
    folder = copy_of("finished")
    file = folder / TIED / "record.json"
    text = file.read_text("utf-8")
    nats = str(json.loads(text)["evaluations"]["valid"]["nll"])
    file.write_text(text.replace(nats, ("8" if nats[0] == "9" else "9") + nats[1:]), "utf-8")
    answer = shell.run(*COMPARE, folder=folder)
    assert answer.find_complaint() == ""
    assert answer.exit_code or "record.json" in answer.stderr


def test_wrong_counts_in_the_cache_change_no_record(shell, start, truth):
    shell.run("check", "tiny.yaml", folder=start)
    remembered = [file for file in (start / "cache").rglob("*.json") if "sha256" in file.read_text("utf-8")]
    remembered = [file for file in remembered if "num_words" in file.read_text("utf-8")]
    assert remembered, "the counts of a text are kept somewhere"
    for file in remembered:
        content = json.loads(file.read_text("utf-8"))
        file.write_text(json.dumps(content | {"sha256": "0" * 64}), "utf-8")
    trained = shell.run(*TRAIN, folder=start)
    assert trained.exit_code == 0
    check_same(truth, start)


# closed pipes and SIGHUP


@pytest.mark.parametrize(
    "streams",
    [
        {"stdout": "broken", "stderr": "broken"},
        {"stdout": "broken"},
        {"stderr": "closed"},
        {"stdout": "closed"},
        {"stdout": "closed", "stderr": "closed"},
    ],
    ids=str,
)
def test_nobody_listening_is_no_success_without_a_record(streams, shell, start, truth):
    trained = shell.run(*TALKING, folder=start, streams=streams)
    assert trained.find_complaint(allowed=(0, 1, 141)) in ("", "exit code 1 without a message")
    if trained.exit_code == 0:
        check_same(truth, start)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_answered_with_a_checkpoint(number, shell, start):
    write_experiment(start, training=TRAINING | {"steps": 1_000_000, "evaluate_every": 20})
    started = shell.start(*TALKING, folder=start)
    wait_for(start / UNTIED / "curve.jsonl")
    started.kill(number)
    outcome = shell.wait(started)
    assert outcome.exit_code == (130 if number == signal.SIGINT else 128 + number)
    assert (start / UNTIED / "checkpoint.pt").exists()


def wait_for(file):
    for _ in range(6_000):
        if file.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{file} does not come")


# tables follow from the records


def test_a_table_that_is_gone_or_behind_comes_back(shell, copy_of):
    folder = copy_of("finished")
    for command in (TRAIN, ("compare", "untied", "tied", "--config", "tiny.yaml", "--quiet")):
        (folder / "results/table.csv").unlink()
        (folder / "results/table.md").write_text("old\n")
        assert shell.run(*command, folder=folder).exit_code == 0
        assert count_table_rows(folder / "results") == 2
        assert "tied" in (folder / "results/table.md").read_text("utf-8")


# --force


def test_a_forced_run_keeps_the_old_record_until_the_new_one_is_there_and_goes_on(shell, copy_of, truth):
    folder = copy_of("finished")
    forced = (*TALKING, "--arm", "tied", "--force")
    killed = shell.run(*forced, folder=folder, watch=watch_all(folder, fault="kill", since="/checkpoint.pt", at=2))
    assert killed.exit_code == -signal.SIGKILL
    check_same(truth, folder)
    again = shell.run(*forced, folder=folder)
    assert again.exit_code == 0 and "from step" in again.stderr, again.stderr
    check_same(truth, folder)


# whose folder it is


@pytest.fixture
def open_folder(tmp_path):
    """The folders above a test's own, for another user to pass."""
    for folder in tmp_path.resolve().parents:
        if folder.stat().st_uid == os.geteuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)


@as_another_user
def test_a_strangers_results_can_be_listed_and_compared(shell, copy_of, open_folder):
    folder = copy_of("at its first checkpoint")
    listed = shell.run("list", "runs", folder=folder, user=STRANGER)
    assert listed.exit_code == 0, listed.stderr
    assert "interrupted" in listed.stdout
    folder = copy_of("finished")
    compared = shell.run(*COMPARE, folder=folder, user=STRANGER)
    assert compared.exit_code == 0, compared.stderr


@as_another_user
@pytest.mark.parametrize("command", [("compare", "--config", "tiny.yaml", "--jobs", "1"), TRAIN], ids=lambda c: c[0])
def test_a_results_folder_that_may_not_be_written_is_said(command, shell, start, open_folder):
    shell.run("check", "tiny.yaml", folder=start)  # fills the cache, so that the results are what cannot be written
    (start / "results").mkdir()
    refused = shell.run(*command, folder=start, user=STRANGER)
    assert refused.find_complaint() == ""
    assert refused.exit_code == 1 and "Permission denied: results/tiny" in refused.stderr
    assert "check the disk and the permissions" in refused.stderr


def test_looking_at_runs_takes_no_lock(shell, copy_of):
    folder = copy_of("at its first checkpoint")
    listed = shell.run("list", "runs", folder=folder, watch=watch_all(folder))
    assert listed.exit_code == 0
    assert [found for found in listed.operations if found["name"] != "read" and "/results/" in found["path"]] == []


@as_another_user
def test_a_filled_cache_serves_whoever_may_only_read_it(shell, copy_of, truth, open_folder):
    folder = copy_of("finished")
    shutil.rmtree(folder / "results")
    (folder / "results").mkdir()
    (folder / "results").chmod(0o777)
    trained = shell.run(*TRAIN, folder=folder, user=STRANGER)
    assert trained.exit_code == 0, trained.stderr
    check_same(truth, folder)


@as_another_user
def test_a_user_without_a_home_is_told_so_or_served(shell, start, open_folder):
    nothing = {"HOME": None, "TIEBENCH_CACHE": None, "XDG_CACHE_HOME": None}
    checked = shell.run("check", "tiny.yaml", folder=start, user=STRANGER, environment=nothing)
    assert checked.find_complaint() == ""


@pytest.mark.parametrize("place", ["results", "cache"])
def test_a_file_system_without_flock_is_served_by_an_owner_file(place, shell, start, truth):
    unlockable = {"folders": [str(start / place)], "fault": "unlockable"}
    trained = shell.run(*TALKING, folder=start, watch=unlockable)
    assert trained.find_complaint() == "" and trained.exit_code == 0
    owned = [found["path"] for found in trained.operations if found.get("to", "").endswith(".lock.owner")]
    assert owned, "it had an owner file"
    check_same(truth, start)
    assert list(start.rglob("*.owner")) == [] and list_strays(start / "results") == []


def test_many_processes_with_owner_files_write_what_one_would(tmp_path):
    with Shell(environment={"TIEBENCH_LOCKS": "owner-file"}) as shell:
        found = run_processes(shell, tmp_path, seed=11, num_trials=2)
    assert not found.problems, str(found)


def test_files_written_aside_by_a_killed_process_are_swept(shell, copy_of, truth):
    folder = copy_of("before it was scored")
    assert list_strays(folder / "results"), "it was killed between writing a file aside and renaming it"
    assert shell.run(*TRAIN, folder=folder).exit_code == 0
    check_same(truth, folder)
    assert list_strays(folder / "results") == []


@pytest.mark.parametrize("stopping", [signal.SIGTSTP, signal.SIGSTOP])  # Ctrl-Z, and what nobody can hear
def test_time_stopped_is_no_training_time(stopping, shell, start):
    write_experiment(start, training=TRAINING | {"steps": 400, "evaluate_every": 20}, arms=None, tie=True)
    started = shell.start(*TRAIN, folder=start)
    wait_for(start / TIED / "curve.jsonl")
    started.kill(stopping)
    time.sleep(stopped := 5.0)
    started.kill(signal.SIGCONT)
    assert shell.wait(started).exit_code == 0
    lines = (start / TIED / "curve.jsonl").read_text("utf-8").splitlines()
    times = [json.loads(line)["seconds"] for line in lines]
    assert len(times) == 20
    assert max(after - before for before, after in pairwise(times)) < stopped, "twenty steps are a tenth of a second"
    usage = json.loads((start / TIED / "record.json").read_text("utf-8"))["usage"]
    assert usage["evaluation_seconds"] < stopped


def test_a_module_in_the_working_directory_is_never_imported(tmp_path):
    ours = ("yaml", "typer", "rich", "tabulate", "filelock", "numpy")
    for name in (*ours, "typing", "pickle", "socket", "random"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nraise SystemExit(9)\n")
    done = subprocess.run(
        [sys.executable, "-m", "tiebench", "list", "ties"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert not (tmp_path / "executed").exists()
    assert done.returncode == 0, done.stderr


def test_a_damaged_spec_is_said_and_not_a_traceback(shell, copy_of):
    file = "results/tiny/tied/seed-1/spec.yaml"
    for text in ("", "x", "[]", "signature: {", "a: \x00", "!foo x", "{}", "signature: [1]", "9" * 5_000, "[" * 2_000):
        folder = copy_of("at its first checkpoint")
        (folder / file).write_text(text)
        assert shell.run(*TRAIN, folder=folder).find_complaint() == "", text[:20]


def test_a_changed_time_alone_changes_nothing(shell, copy_of, truth):
    folder = copy_of("at its first checkpoint")
    os.utime(folder / "train.txt", (LONG_AGO + 60, LONG_AGO + 60))
    assert shell.run(*TRAIN, folder=folder).exit_code == 0
    check_same(truth, folder)
    assert yaml.safe_load((folder / TIED / "spec.yaml").read_text("utf-8"))["signature"]
