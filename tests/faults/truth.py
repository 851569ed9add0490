"""An experiment of a fraction of a second, and what its runs found: what must be the same whatever went wrong."""

import hashlib
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import yaml

SENTENCE = (
    "the of a in to and was is for on as with by he at from his it an were are which this be had "
    "her she one year town river north old small first music war game team song"
)
NUM_LINES = {"train": 40, "valid": 10, "test": 10}
LONG_AGO = 1_500_000_000
MEASURED = ("seconds", "per_second", "memory", "provenance")  # differ from run to run
TRAINING = {
    "steps": 6,
    "batch_size": 4,
    "window": 8,
    "evaluate_every": 2,
    "optimizer": {"type": "sgd", "learning_rate": 1.0, "clip_norm": 5.0},
}


def write_experiment(folder: Path, **blocks: Any) -> Path:
    """`tiny.yaml` with two arms at one seed, and its text, in `folder`; keywords replace top blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    choose = random.Random(1)
    corpus = {"type": "text"}
    for split, num_lines in NUM_LINES.items():
        lines = (" ".join(choose.choices(SENTENCE.split(), k=choose.randint(3, 12))) for _ in range(num_lines))
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", "utf-8")
        os.utime(folder / f"{split}.txt", (LONG_AGO, LONG_AGO))  # a file that was just written is not remembered
        corpus[split] = f"{split}.txt"
    content = {
        "corpus": corpus,
        "architecture": {"type": "lstm", "layers": 1, "width": 8, "dropout": 0.1},
        "training": TRAINING,
        "arms": {"untied": {"tie": False}, "tied": {"tie": True}},
    }
    content = {key: value for key, value in (content | blocks).items() if value is not None}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return file


def read_figures(results: Path) -> dict[str, Any]:
    """What every finished run below a folder found: record and curve without times, digests of its other files."""
    found = {}
    for file in sorted(results.glob("*/*/seed-*/record.json")):
        run = file.parent
        digests = {
            name.name: hashlib.sha256(name.read_bytes()).hexdigest()
            for name in sorted(run.iterdir())
            if name.suffix in (".npy", ".safetensors")
        }
        texts = {name: _read_json_lines(run / name) for name in ("record.json", "curve.jsonl")}
        found["/".join(run.parts[-3:])] = texts | digests
    return found


def count_table_rows(results: Path) -> int:
    """The runs in `table.csv`."""
    file = results / "table.csv"
    return len(file.read_text("utf-8").splitlines()) - 1 if file.exists() else 0


def list_strays(results: Path) -> list[str]:
    """What an end before the end may not leave for ever: files written aside, checkpoints of finished runs."""
    return [
        str(file.relative_to(results))
        for file in sorted(results.rglob("*"))
        if (file.name.startswith(".") and file.name != ".lock") or file.name == "checkpoint.pt"
    ]


def drop_measured(value: Any) -> Any:
    """Without times and memory, at any depth."""
    if isinstance(value, dict):
        return {key: drop_measured(part) for key, part in value.items() if not any(word in key for word in MEASURED)}
    return [drop_measured(part) for part in value] if isinstance(value, list) else value


def _read_json_lines(file: Path) -> Any:
    """Without times; a file that is no JSON (any more) as it is."""
    content = file.read_bytes() if file.exists() else b""
    try:
        lines = [content] if file.suffix == ".json" else content.splitlines()
        return [drop_measured(json.loads(line)) for line in lines]
    except (ValueError, RecursionError):
        return content


def list_differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """In which run and part the figures differ; a run that is missing is no difference."""
    return [
        f"{run}: {part}"
        for run in sorted(expected.keys() & found.keys())
        for part in sorted(expected[run].keys() | found[run].keys())
        if expected[run].get(part) != found[run].get(part)
    ]


def copy_folder(source: Path, target: Path) -> Path:
    """Replace `target` by a copy, times of files included."""
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target, symlinks=True)
