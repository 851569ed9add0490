"""`tiebench watch` shows what the heartbeats in the folders of runs say, and ends when nothing runs any more."""

import json
import os
import time

import pytest
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.results.heartbeat_file import HEARTBEAT_FILE, Heartbeat, write_heartbeat

NOW = {"process": 12, "machine": "node-3", "job": "Slurm job 7", "started_at": 1.0, "beat_at": 1.0}


def look(*arguments) -> str:
    answer = CliRunner().invoke(app, ["watch", *map(str, arguments)])
    assert answer.exit_code == 0, answer.output
    return answer.stdout


@pytest.fixture
def keep(tmp_path):
    def keep_heartbeat_of(run: str = "tiny/tied/seed-1", *, age_seconds: float = 0.0, **facts):
        folder = tmp_path / run
        folder.mkdir(parents=True, exist_ok=True)
        write_heartbeat(Heartbeat(run=run, **{**NOW, **facts}), folder=folder)
        then = time.time() - age_seconds
        os.utime(folder / HEARTBEAT_FILE, (then, then))
        return folder

    return keep_heartbeat_of


def test_where_how_far_how_fast_and_how_long_still(keep, tmp_path):
    keep(stage="train", step=30, done_tokens=1200, total_tokens=4800, tokens_per_second=100.0)
    shown = look(tmp_path, "--once")
    assert "tiny/tied/seed-1: process 12 on node-3 (Slurm job 7)" in shown
    assert "train 25%, step 30, 100 tokens/s, 36 seconds left, last sign" in " ".join(shown.split())
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_it_ends_when_nothing_gives_a_sign_of_life(keep, tmp_path):
    assert look(tmp_path) == "nothing is being trained\n"
    keep(age_seconds=300)
    assert "no sign of life since 5 minutes" in " ".join(look(tmp_path).split())


def test_it_reads_only_and_json_has_every_figure(keep, tmp_path):
    folder = keep("tiny/tuning/tied+rate-1/seed-9", stage="valid")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    (found,) = json.loads(look(tmp_path, "--json"))
    assert found["run"] == "tiny/tuning/tied+rate-1/seed-9" and found["stage"] == "valid" and not found["silent"]
    assert found["seconds_left"] is None and found["last_sign_seconds"] < 60
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before and folder.exists()


def test_what_a_stranger_wrote_cannot_steer_the_terminal(keep, tmp_path):
    keep(machine="node\x1b[2J", stage="\x1b]0;x\x07")
    folder = keep("tiny/untied/seed-1")
    (folder / HEARTBEAT_FILE).write_bytes(b"\xff{")
    shown = look(tmp_path, "--once")
    assert "\x1b" not in shown and "\x07" not in shown and "untied" not in shown


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    answer = CliRunner().invoke(app, ["watch", str(tmp_path / "nowhere")])
    assert answer.exit_code == 2 and "no folder of results" in answer.stderr
