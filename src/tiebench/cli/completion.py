"""What the shell proposes after a tab where an argument is a name: bundled experiments, papers, lists.

Where a name fits none of them, the shell proposes files.
"""

from collections.abc import Iterable

import typer


def complete_config(incomplete: str) -> list[str]:
    """Bundled experiments."""
    from tiebench.experiment.bundled import list_configs

    return _keep_beginning(list_configs(), incomplete)


def complete_paper(incomplete: str) -> list[str]:
    """Papers whose claims are bundled, and `all`."""
    from tiebench.experiment.bundled import list_claim_files

    return _keep_beginning([*list_claim_files(), "all"], incomplete)


def complete_kind(incomplete: str) -> list[str]:
    """What `tiebench list` lists."""
    from tiebench.cli.inventory import LISTED
    from tiebench.experiment.documentation import BLOCKS

    return _keep_beginning(dict.fromkeys((*LISTED, *BLOCKS)), incomplete)


def complete_name(context: typer.Context, incomplete: str) -> list[str]:
    """The entries of the list that was named before."""
    from tiebench.cli.inventory import FILES
    from tiebench.experiment.documentation import BLOCKS

    kind = context.params.get("kind") or ""
    known = BLOCKS[kind] if kind in BLOCKS else FILES[kind]() if kind in FILES else ()
    return _keep_beginning(known, incomplete)


def _keep_beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
