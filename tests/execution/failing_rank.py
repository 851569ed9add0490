"""`tiebench`, whose second rank fails at its third step; `torchrun` starts this file in its place."""

import os

from tiebench.cli.app import main
from tiebench.errors import TiebenchError
from tiebench.training.trainer import Trainer

take_step = Trainer.train_step


def fail_at_third(trainer: Trainer):
    if os.environ["RANK"] == "1" and trainer.state.step == 2:
        raise TiebenchError("this rank has had enough", "give it a rest")
    return take_step(trainer)


Trainer.train_step = fail_at_third
main()
