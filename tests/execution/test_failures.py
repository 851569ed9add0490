"""What is not enough memory, in the words of Python and torch, is said with what would be needed."""

import pytest
import torch

from tiebench.errors import TiebenchError
from tiebench.execution.failures import explain_failures
from tiebench.experiment.loading import load_experiment


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("Storage size calculation overflowed with sizes=[4000000000, 4000000000]"),
    ],
    ids=lambda error: type(error).__name__ + str(error)[:20],
)
def test_not_enough_memory_is_told_with_the_need(error, write_experiment):
    (run,) = load_experiment(write_experiment(arms=None, tie=True)).list_runs()
    says = r"does not fit in memory: training takes about 0\.\d GiB"
    with pytest.raises(TiebenchError, match=says) as caught, explain_failures(run, data_dir=None):
        raise error
    assert "training.batch_size" in caught.value.hint and "--jobs 1" in caught.value.hint


def test_another_error_is_not_called_one_of_memory(write_experiment):
    (run,) = load_experiment(write_experiment(arms=None, tie=True)).list_runs()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), explain_failures(run, data_dir=None):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
