"""tiebench: what happens to a language model when its input and output embeddings are one matrix.

    import tiebench

    experiment = tiebench.load_experiment("quickstart")
    tiebench.train(experiment, seeds=[1])
    print(tiebench.compare(experiment, seeds=[1]).contrasts[0].sentence)

Each name is imported when it is first used, so that `import tiebench` costs nothing.
"""

__version__ = "0.1.0"
__all__ = ["compare", "load_experiment", "reproduce", "train"]

TYPE_CHECKING = False  # not from typing: `python -m tiebench` imports this file before it leaves the working directory
if TYPE_CHECKING:
    from tiebench.api import compare, load_experiment, reproduce, train


def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("tiebench.api"), name)
    raise AttributeError(f"module 'tiebench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
