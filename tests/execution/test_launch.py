"""What torchrun tells a process, and what several ranks cannot do is refused before anything is trained."""

import pytest
import torch

from tiebench.errors import TiebenchError, UsageError
from tiebench.execution import parallel_runs
from tiebench.execution.engine_config import SlurmEngine
from tiebench.execution.environment import describe_command
from tiebench.execution.execute import open_engine
from tiebench.execution.launch import Launch, find_launch
from tiebench.execution.parallel_runs import RunsOverRanks, check_shares, choose_rank_device, is_about_ranks
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store
from tiebench.training.callbacks import Callback
from tiebench.training.signals import Interrupted

OF_TORCHRUN = {
    "RANK": "0",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def under_torchrun(monkeypatch):
    def pretend(**changes: str) -> None:
        for name, value in {**OF_TORCHRUN, **changes}.items():
            monkeypatch.setenv(name, value)

    return pretend


@pytest.fixture
def open_one(tmp_path):
    def open_engine_of(*, jobs: str = "auto", **settings):
        found = Settings(store=Store(tmp_path), device="cpu", **settings)
        return open_engine(found, watch=lambda run, index: Callback(), jobs=jobs, num_runs=3, on_record=print)

    return open_engine_of


def test_a_process_is_torchruns_where_all_its_variables_are_there():
    assert find_launch(OF_TORCHRUN) == Launch(rank=0, num_ranks=4, local_rank=0, num_local=2)
    assert find_launch({**OF_TORCHRUN, "LOCAL_RANK": ""}) is None
    assert find_launch({"RANK": "1", "WORLD_SIZE": "2"}) is None


def test_the_command_of_a_record_begins_with_torchrun(under_torchrun):
    assert "torchrun" not in describe_command()
    under_torchrun()
    assert describe_command().startswith("torchrun --nnodes 2 --nproc-per-node 2 -m ")
    assert Launch(0, 2, 0, 2).command == "torchrun --nproc-per-node 2 -m"


def test_torchrun_replaces_the_worker_pool(under_torchrun, open_one):
    assert not isinstance(open_one(jobs="1"), RunsOverRanks)
    under_torchrun()
    assert isinstance(open_one(), RunsOverRanks)


def test_what_torchrun_cannot_be_combined_with_is_refused(under_torchrun, open_one):
    under_torchrun()
    with pytest.raises(UsageError, match="--jobs 2: the ranks of torchrun train one run after the other"):
        open_one(jobs="2")
    with pytest.raises(UsageError, match="the engine slurm elsewhere") as failure:
        open_one(engine=SlurmEngine())
    assert failure.value.hint.startswith("type --engine local")


def test_a_program_of_ones_own_is_refused_on_every_rank_but_the_first(under_torchrun, open_one):
    under_torchrun(RANK="1")
    with pytest.raises(UsageError, match="a program of your own"):
        open_one()


@pytest.mark.parametrize(("accumulate", "num_ranks", "fitting"), [(1, 3, "2, 4"), (2, 4, "2")])
def test_a_batch_that_does_not_divide_is_refused_with_what_does(write_experiment, accumulate, num_ranks, fitting):
    path = write_experiment()
    run = load_experiment(path, overrides=[f"training.accumulate={accumulate}"]).list_runs()[0]
    check_shares(run, num_ranks=2)
    with pytest.raises(UsageError, match="a batch of 4 rows.* cannot be shared evenly") as failure:
        check_shares(run, num_ranks=num_ranks)
    assert failure.value.hint == f"start {fitting} ranks, or change training.batch_size"


def test_each_rank_has_a_gpu_of_its_own_or_all_have_the_cpu(monkeypatch):
    launch = Launch(rank=3, num_ranks=4, local_rank=1, num_local=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_rank_device("auto", launch) == torch.device("cpu")
    with pytest.raises(UsageError, match="--device cuda:1: under torchrun each rank has its own"):
        choose_rank_device("cuda:1", launch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_rank_device("auto", launch) == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="2 ranks on this machine need as many GPUs, and there are 1"):
        choose_rank_device("auto", launch)


def test_a_lost_rank_is_known_by_what_torch_says_also_behind_a_signal():
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234")
    assert is_about_ranks(lost) and is_about_ranks(torch.distributed.DistBackendError("NCCL"))
    signalled = Interrupted("")
    signalled.__context__ = lost
    assert is_about_ranks(signalled)
    assert not is_about_ranks(Interrupted("")) and not is_about_ranks(RuntimeError("shapes differ"))
    assert not is_about_ranks(TiebenchError("connection closed by peer"))


def test_the_word_of_a_rank_that_failed_is_what_the_command_raises(write_experiment, monkeypatch):
    monkeypatch.setattr(parallel_runs, "LAST_WORD_SECONDS", 0.0)
    run = load_experiment(write_experiment()).list_runs()[0]
    one, other = (parallel_runs.Team.__new__(parallel_runs.Team) for _ in range(2))
    one.store = other.store = torch.distributed.HashStore()
    one.launch, other.launch = Launch(0, 2, 0, 2), Launch(1, 2, 1, 2)
    lost = RuntimeError("Connection closed by peer")
    assert "another rank ended without a word" in str(one.explain(run, lost))
    other.tell_failure(TiebenchError("no space", "buy a disk"))
    other.tell_failure(TiebenchError("a later one"))
    told = one.explain(run, lost)
    assert isinstance(told, TiebenchError) and (told.message, told.hint) == (
        f"{run.name}, rank 1: no space",
        "buy a disk",
    )
    own = TiebenchError("its own")
    assert one.explain(run, own) is own


def test_a_record_does_not_tell_where_on_a_machine_its_command_was_typed(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["/usr/bin/tiebench", "train", str(tmp_path / "a.yaml"), "--results", "out/runs"])
    assert describe_command() == "tiebench train a.yaml --results out/runs"
    joined = [f"--data-dir={tmp_path / 'text'}", "--set", f"corpus.train={tmp_path / 'a=b.txt'}", "--jobs=1"]
    monkeypatch.setattr("sys.argv", ["tiebench", "train", *joined])
    assert describe_command() == "tiebench train --data-dir=text --set corpus.train=a=b.txt --jobs=1"
