"""Options and arguments that several commands have in common."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tiebench.cli.completion import complete_config
from tiebench.experiment.limits import LARGEST_SEED


def check_seed(seed: int | list[int]) -> int | list[int]:
    """The seeds as they are; a range would fill the help with its 19 digits. Raises BadParameter where one is none."""
    for number in seed if isinstance(seed, list) else [seed]:
        if not 0 <= number <= LARGEST_SEED:
            raise typer.BadParameter(f"{number} is no seed: whole numbers from 0 to {LARGEST_SEED}")
    return seed


Config = Annotated[
    str,
    typer.Argument(
        help="An experiment file, or the name of a bundled one (tiebench list configs).", autocompletion=complete_config
    ),
]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one value: training.epochs=1.")
]
Seeds = Annotated[
    list[int], typer.Option("--seed", metavar="N", callback=check_seed, help="Only this seed; may be repeated.")
]
ArmNames = Annotated[list[str], typer.Option("--arm", metavar="ARM", help="Only this arm; may be repeated.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")]
Results = Annotated[Path, typer.Option(metavar="DIR", help="The folder of runs and tables.")]
DataDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder with your corpora; also set by TIEBENCH_DATA.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing results.")]
Jobs = Annotated[str, typer.Option(metavar="N", help="How many runs at once: a number, or auto (one per core).")]
EngineName = Annotated[
    str | None, typer.Option(metavar="ENGINE", help="Where runs are executed: local, slurm or ray (tiebench.toml).")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for runs that another process trains.")]
Track = Annotated[
    list[str],
    typer.Option(
        "--track", metavar="TRACKER", help="Show learning curves in tensorboard, trackio or wandb; may be repeated."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Format = Annotated[str, typer.Option(metavar="FORMAT", help="text, markdown, csv, latex, html or json.")]

NO_LIST: list[Any] = []
RESULTS = Path("results")
