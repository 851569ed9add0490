"""Mutated experiment files: `check` ends within half a minute of work with 0 or a message, never with a traceback."""

import copy
import os
import random
from pathlib import Path
from typing import Any

import yaml
from shell import Shell
from tally import Tally
from truth import LONG_AGO, write_experiment

CONFIGS = Path(__file__).parents[2] / "configs"
LIMIT_SECONDS = 30.0  # a grid is timed for 20
MEMORY_BYTES = 16 * 2**30  # of addresses; torch alone takes several GiB of these
BOMB = (
    "[&a [x,x,x,x,x,x,x,x,x], "
    + ", ".join(
        f"&{name} [{','.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]"
)
SNIPPETS = (
    "1e400", "-1e400", ".nan", ".inf", "9" * 5_000, "-1", "0", "1e-400", "100000", "1000000000", "1e9", "1_0", "0x10",
    "!foo x", "!!int x", "!!float x", "!!binary x", "!!timestamp x", "!!python/object/apply:os.system [id]",
    "!!set {a}", "&a [*a]", "*a", "<<", "{<<: 1}", '"\\ud800"', "\x00", "\x1b[31mred", "\ufeff", "\u202e", "\x85",
    "[" * 2_000, "~", "[" * 2_000 + "]" * 2_000, "{a: " * 2_000,
    "? [a]", "{? [a] : b}", "{? {a: b} : c}", BOMB, "", "null", "true",
    "'=cmd|x'", "2001-01-01", "@", "`", "%", "\t", "- x", "[]", "{}", "[1, a, null]", "{type: sgd}", "{type: [x]}",
    "{type: null}", "{1: 2}", "{null: 2}", "x" * 100_000, "|", ">-", "'", '"', "--- a", "...", "a: b: c", "#",
    "../../x", "/dev/zero", "/dev/null", "~root", "$HOME", "a/b", "<script>", "nan", "inf", "-0", "1.5", "on",
)  # fmt: skip


def mutate_config(content: dict[str, Any], *, choose: random.Random) -> str:
    """The text of an experiment with one to three things wrong, in its values or in its characters."""
    content = copy.deepcopy(content)
    for _ in range(choose.randint(0, 2)):
        _mutate_value(content, choose=choose)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    for _ in range(choose.randint(0, 2)):
        text = mutate_text(text, choose=choose)
    return text


def _mutate_value(content: dict[str, Any], *, choose: random.Random) -> None:
    """Remove, double, replace or exchange a value somewhere in the tree."""
    places = list(list_places(content))
    if not places:
        return
    holder, key = choose.choice(places)
    other, other_key = choose.choice(places)
    way = choose.choice(("remove", "replace", "exchange", "wrap", "rename"))
    if way == "remove":
        del holder[key]
    elif way == "replace":
        holder[key] = choose.choice((-1, 0, 10**9, 10**30, 1e300, float("inf"), "", "x", [], {}, [[]], None, True, 0.5))
    elif way == "exchange":
        holder[key] = copy.deepcopy(other[other_key])
    elif way == "wrap":
        holder[key] = choose.choice(([holder[key]], {"type": holder[key]}, {str(key): holder[key]}))
    elif isinstance(holder, dict):
        holder[choose.choice((f"{key}s", str(key)[:-1], str(key).upper(), "type"))] = holder.pop(key)


def list_places(value: Any) -> Any:
    """Every holder (mapping or list) with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from list_places(value[key])


def mutate_text(text: str, *, choose: random.Random) -> str:
    """Put a snippet in the place of a value or into the text, or cut, double or exchange lines and characters."""
    lines = text.split("\n")
    number = choose.randrange(len(lines))
    way = choose.choice(("value", "value", "value", "value", "insert", "cut", "double", "indent", "character"))
    if way == "value":
        key, colon, _ = lines[number].partition(":")
        lines[number] = f"{key}{colon or ':'} {choose.choice(SNIPPETS)}"
    elif way == "double":
        lines.insert(number, lines[number])
    elif way == "indent":
        lines[number] = choose.choice((" ", "\t", "- ", "? ")) + lines[number]
    text = "\n".join(lines)
    place = choose.randrange(len(text) + 1)
    if way == "insert":
        return text[:place] + choose.choice(SNIPPETS) + text[place:]
    if way == "cut":
        return text[:place] + text[place + choose.randint(1, 40) :]
    if way == "character":
        return (
            text[:place]
            + chr(choose.choice((0, 7, 27, 0x7F, 0x85, 0xFEFF, 0x202E, choose.randrange(0xD800))))
            + text[place:]
        )
    return text


def run_campaign(shell: Shell, folder: Path, *, seed: int, num_trials: int | None) -> Tally:
    """`num_trials` mutated configs, 5,000 in the long version; some of the snippets come by `--set`."""
    tally, choose = Tally("fuzzed configs"), random.Random(seed)
    corpus = yaml.safe_load(write_experiment(folder).read_text("utf-8"))["corpus"]
    train = folder / "train.txt"
    train.write_text(train.read_text("utf-8") * 100, "utf-8")  # enough for a batch of most of the configs
    os.utime(train, (LONG_AGO, LONG_AGO))
    contents = [yaml.safe_load(file.read_text("utf-8")) | {"corpus": corpus} for file in sorted(CONFIGS.glob("*.yaml"))]
    for number in range(num_trials or 5_000):
        content, overrides = choose.choice(contents), []
        if choose.random() < 0.15:
            text = yaml.safe_dump(content, sort_keys=False)
            key = choose.choice(("training.steps", "training.optimizer", "architecture.width", "seeds", "arms", "name"))
            overrides = ["--set", f"{key}={choose.choice([part for part in SNIPPETS if chr(0) not in part])}"]
        else:
            text = mutate_config(content, choose=choose)
        file = folder / f"{number}.yaml"
        file.write_text(text, "utf-8", errors="surrogatepass")
        outcome = shell.run(
            "check", file.name, *overrides, folder=folder, limit_seconds=LIMIT_SECONDS, memory_bytes=MEMORY_BYTES
        )
        complaint = outcome.find_complaint(allowed=(0, 1, 2)) or find_raw_controls(outcome.stdout + outcome.stderr)
        tally.add(
            f"exit {outcome.exit_code}", problems=[complaint], trial=f"number {number}{' --set' if overrides else ''}"
        )
        if not complaint:
            file.unlink()
    return tally


def find_raw_controls(text: str) -> str:
    """Which characters would command a terminal; empty where there are none."""
    found = {ord(sign) for sign in text if sign not in "\n\t"}
    odd = [hex(sign) for sign in sorted(found) if sign < 32 or 0x7F <= sign < 0xA0]
    return f"raw control characters in the output: {', '.join(odd)}" if odd else ""
