"""What a run found: the border between the half that trains and the half that compares.

A run is finished when its `record.json` exists. Beside it lie `test-nll.npy`, the nats of every token of the test
split, and `curve.jsonl`, the evaluations made while training (`curve.py`).
"""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tiebench.errors import TiebenchError
from tiebench.experiment.block import Block
from tiebench.experiment.schema import ArmSpec
from tiebench.experiment.tuning_config import TunedValues
from tiebench.files import compute_digest, write_text
from tiebench.results.record_digest import compute_record_digest, digest_texts, write_plainly
from tiebench.results.translation import Translation

SCHEMA_VERSION = 2
NUMERICS = 1
"""The version of the mathematics: raise it when the same spec gives figures of another distribution over seeds than
before. Runs of different versions are never pooled or compared. Other random draws at the same seed do not raise it."""
RECORD_FILE = "record.json"
VOCABULARY_FILE = "vocabulary.json"
WEIGHTS_FILE = "weights.safetensors"
DIGEST_KEY = "sha256"

Precision = Literal["fp32", "bf16"]
Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SplitFacts(Block):
    """What was counted in one split; `unknown` is the number of words that are lost: those that the vocabulary does
    not have, and those that stand as `<unk>` in the text already.
    """

    tokens: Count
    words: Count
    bytes: Count
    unknown: Count


class CorpusFacts(Block):
    """Which text it was: its name, a checksum over its files, what is known about it, the counts by split, and the
    summed nats of its own source, where that is known. `test_articles` are the places of the tokens with which articles
    of the test split begin; empty where the text does not say, and in older records.
    """

    name: str
    checksum: str
    facts: dict[str, str] = {}
    splits: dict[str, SplitFacts]
    source_nats: dict[str, Amount] = {}
    test_articles: list[Count] = []

    @model_validator(mode="after")
    def _articles_follow_each_other(self) -> "CorpusFacts":
        num_tokens = self.splits["test"].tokens if "test" in self.splits else 0
        if any(start >= end for start, end in pairwise([*self.test_articles, num_tokens])):
            raise ValueError(f"test_articles must increase and lie below the {num_tokens} tokens of the test split")
        return self


class VocabularyFacts(Block):
    """Which vocabulary it was; `identity` is equal for two vocabularies exactly when they have the same entries."""

    type: str
    size: Count
    identity: str


class Parameters(Block):
    """Parameters by role. A tied model has one shared matrix, so `input` and `output` are 0.

    `other` is what both ends own beside their matrices: the output bias, projections.
    """

    input: Count
    output: Count
    shared: Count
    other: Count
    architecture: Count
    total: Count

    @model_validator(mode="after")
    def _roles_add_up(self) -> "Parameters":
        found = self.input + self.output + self.shared + self.other + self.architecture
        if found != self.total:
            raise ValueError(f"the roles add up to {found}, but total is {self.total}")
        return self


class Evaluation(Block):
    """One full pass over a split: nats summed over all its tokens, the counts to divide by, and how it was done."""

    split: str
    nll: Amount
    tokens: Annotated[int, Field(gt=0)]
    words: Count
    bytes: Count
    unknown: Count
    protocol: dict[str, str | int] = {}

    @property
    def nll_per_token(self) -> float:
        """The natural logarithm of the perplexity."""
        return self.nll / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens)."""
        return math.exp(self.nll_per_token)

    @property
    def word_perplexity(self) -> float | None:
        """exp(nats / words): comparable across vocabularies. None where no words were counted."""
        return math.exp(self.nll / self.words) if self.words else None

    @property
    def bits_per_byte(self) -> float | None:
        """nats / ln 2 / bytes. None where words are lost, by the vocabulary or as `<unk>` in the text already: their
        letters would cost nothing, and the figure would be too low.
        """
        return self.nll / math.log(2) / self.bytes if self.bytes and not self.unknown else None


class ScoredCheckpoint(Block):
    """The step and epoch of the checkpoint that was scored: the best by validation or the last
    (`evaluation.checkpoint`).
    """

    step: Count
    epoch: Amount


class ResourceUsage(Block):
    """What the run took. What could not be measured is None. Over several ranks, the memory is that of the rank
    that took most.
    """

    steps: Count
    tokens: Count
    train_seconds: Amount
    evaluation_seconds: Amount
    tokens_per_second: Amount | None = None
    peak_memory_bytes: Count | None = None
    flops_per_token: Amount | None = None
    first_loss_nats: Finite | None = None


class Provenance(Block):
    """Where the figures come from. Times are ISO 8601 in UTC; `commit` is None outside a git checkout.

    `precision` is that of the products in training, also where the spec says `auto`; older records leave it out.
    `files` holds the SHA-256 of what lies beside the record, by name. In the file there is also `sha256`, that of the
    record's own content.
    """

    command: str
    started: str
    finished: str
    commit: str | None = None
    dirty: bool | None = None
    versions: dict[str, str] = {}
    hardware: dict[str, str | int] = {}
    precision: Precision | None = None
    files: dict[str, str] = {}


class Record(Block):
    """A finished run. `declared` holds the dotted paths in which the arms of the experiment file differ, `numerics` the
    version of the mathematics (1 in records older than the field).

    `parameters` are those of the scored model; where training untied it, `parameters_before` are those until then.
    `training_perplexity` is the running one, over the epoch that ended at the scored checkpoint. `tuned` says what
    trials chose for the arm (None: its values were written). `at_last` are the evaluations of the last checkpoint where
    it was declared beside the best. A trial has no test split among its `evaluations`, and none at all where its loss
    became NaN or infinite. `translation` is there where the run translates.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    numerics: Count = 1
    experiment: str
    arm: str
    seed: Count
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    spec: ArmSpec
    declared: list[str]
    tuned: TunedValues | None = None
    corpus: CorpusFacts
    vocabulary: VocabularyFacts
    parameters: Parameters
    parameters_before: Parameters | None = None
    evaluations: dict[str, Evaluation]
    at_last: dict[str, Evaluation] = {}
    training_perplexity: Amount | None = None
    translation: Translation | None = None
    checkpoint: ScoredCheckpoint
    usage: ResourceUsage
    warnings: list[str] = []
    provenance: Provenance

    @model_validator(mode="after")
    def _evaluations_under_their_split(self) -> "Record":
        for split, evaluation in (*self.evaluations.items(), *self.at_last.items()):
            if evaluation.split != split:
                raise ValueError(f"evaluations.{split} is of the split '{evaluation.split}'")
        return self


SHARED_BLOCKS: dict[str, type[Block]] = {"spec": ArmSpec, "corpus": CorpusFacts, "parameters": Parameters}
"""What the records of an arm have in common: it is validated once, and is one object for all of them."""


def write_record(record: Record, folder: Path) -> Path:
    """Write `record.json`: sorted keys, full precision, a digest, renamed into place. Returns the file.

    Raises ValueError for NaN and infinity, which JSON cannot hold.
    """
    file = folder / RECORD_FILE
    content = record.model_dump()
    content["provenance"][DIGEST_KEY] = compute_record_digest(content)
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(text + "\n", file=file)
    return file


def read_record(folder: Path) -> Record:
    """The record of a finished run.

    Raises TiebenchError, naming the file, when it is missing, damaged, or of another schema version. Records older than
    the digest are taken as they are.
    """
    file = folder / RECORD_FILE
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise TiebenchError(f"{folder} has no {RECORD_FILE}", "the run is not finished: train it again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise explain_damage(file, str(error)) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is not None and version != SCHEMA_VERSION:
        hint = f"this tiebench reads version {SCHEMA_VERSION}: install the one that wrote it, or train the run again"
        raise TiebenchError(f"{file} has the unknown schema version {version!r}", hint)
    provenance = content.get("provenance") if isinstance(content, dict) else None
    digest = provenance.pop(DIGEST_KEY, None) if isinstance(provenance, dict) else None
    try:
        texts = write_plainly(content) if isinstance(content, dict) else {}
    except (ValueError, RecursionError) as error:
        _validate(content, file=file)  # first, since it says what is wrong
        raise explain_damage(file, str(error)) from error
    record = _validate(content, texts, file=file)
    if digest is not None and digest_texts(texts) != digest:
        raise explain_damage(file, "its content does not have the SHA-256 that stands in it")
    return record


def read_beside(record: Record, file: Path) -> bytes:
    """The content of a file beside a record. Raises TiebenchError when it is not what the run wrote."""
    content = file.read_bytes()
    digest = record.provenance.files.get(file.name)
    if digest is not None and compute_digest(content) != digest:
        raise explain_damage(file, "its SHA-256 is not the one in the record")
    return content


def _validate(content: Any, texts: Mapping[str, str] = MappingProxyType({}), *, file: Path) -> Record:
    """The record; blocks that another one had in the same words are that one's own, since nothing can change them."""
    try:
        shared = {key: _validate_block(key, texts[key]) for key in SHARED_BLOCKS if key in texts}
    except ValidationError:
        shared = {}  # and the whole says where
    try:
        return Record.model_validate({**content, **shared} if shared else content)
    except ValidationError as error:
        raise explain_damage(file, find_first_problem(error)) from error


@lru_cache(maxsize=1000)
def _validate_block(key: str, text: str) -> Block:
    return SHARED_BLOCKS[key].model_validate(json.loads(text))


def find_first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    path = ".".join(map(str, problem["loc"]))
    return f"{path}: {problem['msg']}" if path else problem["msg"]


def explain_damage(file: Path, reason: str) -> TiebenchError:
    return TiebenchError(f"{file} is damaged: {reason}", f"remove {file.parent} and train the run again")
