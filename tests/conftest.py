"""What all tests stand on: one thread, a cache of their own, real text cut small, and experiments of a second."""

import copy
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from records import make_record, three_seeds  # noqa: F401 (fixtures)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for every child process

DATA = Path(os.environ.get("TIEBENCH_DATA") or "no data folder")
SPLIT_WORDS = {"train": 900, "valid": 200, "test": 203}
SIZES = {"layers": 1, "width": 16, "heads": 4, "positions": 64}
TRAINING = {
    "epochs": 2,
    "batch_size": 4,
    "window": 10,
    "optimizer": {"type": "sgd", "learning_rate": 1.0, "clip_norm": 5.0},
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and there is none")
    if "torch" in sys.modules:  # what a test draws does not depend on the tests before it in its process
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole session, and none of the user's settings."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIEBENCH_CACHE", str(folder))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))  # torch may find code for another processor
        patch.delenv("TIEBENCH_DATA", raising=False)
        yield folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real corpora beside the project."""
    if not DATA.is_dir():
        pytest.skip("needs the real corpora: set TIEBENCH_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> dict[str, str]:
    """A `corpus:` block over a few hundred words of real text."""
    folder = tmp_path_factory.mktemp("tiny-corpus")
    words = _read_words(sum(SPLIT_WORDS.values()))
    block, start = {"type": "text"}, 0
    for split, num_words in SPLIT_WORDS.items():
        part = words[start : start + num_words]
        lines = [" ".join(part[index : index + 17]) for index in range(0, len(part), 17)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", "utf-8")
        block[split] = str(folder / f"{split}.txt")
        start += num_words
    return block


@pytest.fixture(scope="session")
def parallel_corpus(tiny_corpus: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A `corpus:` block of the same words eight a line, and beside each line its words in reverse order."""
    folder = tmp_path_factory.mktemp("parallel-corpus")
    block: dict[str, Any] = {"type": "parallel", "source": {}, "target": {}}
    for split in SPLIT_WORDS:
        words = Path(tiny_corpus[split]).read_text("utf-8").split()
        lines = [words[index : index + 8] for index in range(0, len(words), 8)]
        for side, texts in (("source", lines), ("target", [line[::-1] for line in lines])):
            (folder / f"{split}.{side}").write_text("".join(" ".join(text) + "\n" for text in texts), "utf-8")
            block[side][split] = str(folder / f"{split}.{side}")
    return block


def _read_words(num_words: int) -> list[str]:
    """The first words of WikiText-2's validation split, or of the Python documentation where that is not there."""
    file = DATA / "wikitext-2" / "wiki.valid.tokens"
    if not file.exists():
        from blocks import open_block

        file = open_block({"type": "pydocs"}).files["valid"]
    return file.read_text("utf-8").split()[:num_words]


@pytest.fixture(scope="session")
def make_block() -> Callable[..., dict[str, Any]]:
    """An `architecture:` block of a given type, as small as it goes."""
    from tiebench.experiment.schema import ARCHITECTURES

    def make(name: str, **options: Any) -> dict[str, Any]:
        fields = ARCHITECTURES[name].model_fields
        return {"type": name} | {key: size for key, size in SIZES.items() if key in fields} | options

    return make


@pytest.fixture(scope="session")
def make_arm(make_block: Callable) -> Callable:
    """A resolved arm, with blocks of the caller's laid over small defaults."""
    from tiebench.experiment.schema import ArmSpec

    def make(tie: Any = "tied", *, architecture: Any = "lstm", training: dict | None = None, **blocks: Any) -> ArmSpec:
        body = make_block(architecture) if isinstance(architecture, str) else architecture
        tie = {"type": tie} if isinstance(tie, str) else tie
        text: dict[str, Any] = {"corpus": {"type": "pydocs"}}
        if body["type"] == "encoder_decoder":
            text = {"corpus": {"type": "multi30k"}, "vocabulary": {"type": "bytes"}}
        content = {**text, "architecture": body, "tie": tie, **blocks}
        return ArmSpec.model_validate({**content, "training": training or TRAINING})

    return make


def _describe_experiment(corpus: dict[str, str], /, **blocks: Any) -> str:
    content = {
        "corpus": dict(corpus),
        "architecture": {"type": "lstm", "layers": 1, "width": 16},
        "embedding": {"init": {"uniform": 0.1}},
        "training": copy.deepcopy(TRAINING),
        "seeds": [1],
        "arms": {"untied": {"tie": False}, "tied": {"tie": True}},
    }
    content = {key: value for key, value in (content | blocks).items() if value is not None}
    return yaml.safe_dump(content, sort_keys=False)


@pytest.fixture
def write_experiment(tiny_corpus: dict, tmp_path: Path) -> Callable[..., Path]:
    """Write an experiment on the tiny corpus; keywords replace its top blocks, `None` removes one."""

    def write(file: str = "tiny.yaml", **blocks: Any) -> Path:
        (tmp_path / file).write_text(_describe_experiment(tiny_corpus, **blocks), "utf-8")
        return tmp_path / file

    return write


@pytest.fixture(scope="session")
def trained_once(tiny_corpus: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml` and all its finished runs in `results`, two arms at two seeds; not to be written to."""
    from tiebench.execution.execute import execute
    from tiebench.execution.plan import plan_runs
    from tiebench.execution.settings import Settings
    from tiebench.experiment.loading import load_experiment
    from tiebench.results.store import Store
    from tiebench.training.callbacks import Callback

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(_describe_experiment(tiny_corpus, seeds=[1, 2]), "utf-8")
    runs = load_experiment(folder / "tiny.yaml").list_runs()
    settings = Settings(store=Store(folder / "results"), device="cpu")
    execute(plan_runs(runs, settings=settings), settings=settings, watch=lambda run, index: Callback(), jobs="1")
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of `trained_once` of the test's own."""
    return shutil.copytree(trained_once, tmp_path / "trained")


@pytest.fixture
def fresh_memory() -> type:
    """A context that notes the largest tensor that an operation returns in memory that none of its arguments had."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class FreshMemory(TorchDispatchMode):
        most_bytes, by = 0, ""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            given = [part.untyped_storage() for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
            known = {storage.data_ptr() for storage in given}
            found = func(*args, **(kwargs or {}))
            for part in tree_leaves(found):
                memory = part.untyped_storage() if isinstance(part, Tensor) else None
                if memory is not None and memory.data_ptr() not in known and memory.nbytes() > self.most_bytes:
                    self.most_bytes, self.by = memory.nbytes(), str(func)
            return found

    return FreshMemory
