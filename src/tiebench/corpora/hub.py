"""Rows of text from the Hugging Face hub, and a quick answer when it cannot be reached."""

import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

PATIENCE_SECONDS = 4.0
SPLIT_NAMES = {"train": "train", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class HubText:
    """A table on the hub with one column of text.

    Either `config` names a configuration of the data set `path`, or `path` is a parquet file's address with
    `{split}` for the hub's split names (train, validation, test).
    """

    path: str
    column: str
    config: str | None = None


def fetch_rows(hub: HubText) -> dict[str, Iterator[str]]:
    """The text of every row, by split (train, valid, test).

    Raises ConnectionError, after a few seconds at most when there is no network.
    """
    _check_reachable()
    try:
        tables = _load_tables(hub)
    except Exception as error:
        raise ConnectionError(f"the Hugging Face hub did not deliver {hub.path} ({error})") from error
    return {split: read_column(table, column=hub.column) for split, table in tables.items()}


def read_column(table: "Dataset", *, column: str) -> Iterator[str]:
    """The values of one column, a batch at a time."""
    for batch in table.iter(batch_size=1000):
        yield from dict(batch)[column]


def _load_tables(hub: HubText) -> dict[str, "Dataset"]:
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    if hub.config:
        tables = datasets.load_dataset(hub.path, hub.config)
    else:
        files = {name: hub.path.format(split=name) for name in SPLIT_NAMES.values()}
        tables = datasets.load_dataset("parquet", data_files=files)
    return {split: tables[name] for split, name in SPLIT_NAMES.items()}


def _check_reachable() -> None:
    """Ask for one answer of the hub; with `HF_HUB_OFFLINE` set, `datasets` looks into its own cache instead."""
    if os.environ.get("HF_HUB_OFFLINE"):
        return
    outcome: list[Exception | None] = []
    thread = threading.Thread(target=_probe_hub, args=(outcome,), daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    failure = outcome[0] if outcome else TimeoutError(f"no answer within {PATIENCE_SECONDS:g} seconds")
    if failure:
        raise ConnectionError(f"the Hugging Face hub cannot be reached ({failure})")


def _probe_hub(outcome: list[Exception | None]) -> None:
    """Any answer counts, an HTTP error too: it comes from a hub, or a proxy, that is there."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE_SECONDS):
            outcome.append(None)
    except urllib.error.HTTPError:
        outcome.append(None)
    except OSError as error:
        outcome.append(error)
