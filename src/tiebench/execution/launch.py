"""What `torchrun` tells each of the processes (ranks) that it starts for one run. Imports no torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
COMMAND = "torchrun --nproc-per-node 2 -m tiebench train CONFIG"


@dataclass(frozen=True)
class Launch:
    """This process among `num_ranks` on all machines and `num_local` on this one, both counted from 0."""

    rank: int
    num_ranks: int
    local_rank: int
    num_local: int

    @property
    def command(self) -> str:
        """What was typed before the name of the program."""
        nodes = self.num_ranks // self.num_local
        machines = f"--nnodes {nodes} " if nodes > 1 else ""
        return f"torchrun {machines}--nproc-per-node {self.num_local} -m"


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """None in a process that torchrun did not start."""
    if any(not environment.get(name) for name in VARIABLES):
        return None
    rank, num_ranks, local_rank, num_local = (int(environment[name]) for name in VARIABLES[:4])
    return Launch(rank, num_ranks, local_rank, num_local)
