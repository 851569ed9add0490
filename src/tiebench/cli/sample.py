"""`tiebench sample`: write text with a trained model."""

from pathlib import Path
from typing import Annotated

import typer

from tiebench.cli.options import AsJson, check_seed
from tiebench.cli.output import print_json
from tiebench.cli.workflow import find_run_folder
from tiebench.reporting.escaping import escape


def sample(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run with its weights.")],
    prompt: Annotated[str, typer.Option(help="The beginning of the text.")] = "",
    num_tokens: Annotated[int, typer.Option("--tokens", min=1, max=1_000_000, help="How many tokens.")] = 100,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=1000.0, help="Divides the scores; 0 always takes the likeliest token.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", callback=check_seed, help="Equal seeds give equal text.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write text with a trained model."""
    from tiebench.execution.sampling import sample_text

    text = sample_text(find_run_folder(run), prompt=prompt, num_tokens=num_tokens, temperature=temperature, seed=seed)
    if as_json:
        print_json({"run": str(run), "prompt": prompt, "text": text})
    else:
        typer.echo(escape(text))
