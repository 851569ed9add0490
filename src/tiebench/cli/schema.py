"""`tiebench schema`: the JSON schema of an experiment file, for editors that complete and check it."""

from tiebench.cli.output import print_json


def schema() -> None:
    """Print the JSON schema of an experiment file."""
    from tiebench.experiment.json_schema import build_json_schema

    print_json(build_json_schema())
