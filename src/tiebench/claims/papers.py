"""The files of claims: what a paper claims, as data, with the paper and the sources of the tolerances.

One YAML in `configs/claims/` is one paper; adding a paper is adding a file.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from tiebench.claims.claim import Claim
from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.block import Block
from tiebench.experiment.bundled import list_claim_files
from tiebench.experiment.problems import explain_problems, raise_problems
from tiebench.experiment.yaml_file import read_document

ALL = "all"


class Paper(Block):
    """Where the claims were published. `arxiv` is missing for what is no paper."""

    title: str
    authors: str
    venue: str
    year: Annotated[int, Field(ge=1900)]
    arxiv: str | None = None


class ClaimFile(Block):
    """One YAML. `tolerances` says where the tolerances of its values come from."""

    paper: Paper
    tolerances: str
    claims: Annotated[dict[str, Claim], Field(min_length=1)]


@dataclass(frozen=True)
class PaperClaims:
    """A paper by its file name, and its claims by their ids."""

    name: str
    paper: Paper
    tolerances: str
    claims: dict[str, Claim]

    @property
    def sources(self) -> list[str]:
        """The tables and figures that the claims come from, in the order of the file."""
        return list(dict.fromkeys(claim.source for claim in self.claims.values()))

    def choose(self, only: list[str]) -> dict[str, Claim]:
        """The claims whose id or source is among `only`; all when it is empty."""
        return {id: claim for id, claim in self.claims.items() if not only or id in only or claim.source in only}


def load_papers(name: str, *, only: list[str] | tuple[str, ...] = ()) -> list[PaperClaims]:
    """The paper of that name, a file of one's own, or `all`. Raises UsageError, also for an unknown id in `only`."""
    papers = [read_claims(file) for file in _find_claim_files(name)]
    sources = {source for paper in papers for source in paper.sources}
    ids = {id for paper in papers for id in paper.claims}
    for asked in only:
        if asked not in sources | ids:
            hint = f"{did_you_mean(asked, sources, more=ids)}, or one of their {len(ids)} claims by its name"
            raise UsageError(f"--only {asked}: no such claim, table or figure", hint)
    return papers


def read_claims(file: Path) -> PaperClaims:
    """Raises UsageError that lists every problem with file, line, what was found and what is allowed."""
    document = read_document(file)
    try:
        content = TypeAdapter(ClaimFile).validate_python(document.data)
    except ValidationError as error:
        hint = f"`tiebench reproduce {file} --dry-run` tries the file without training"
        raise_problems(explain_problems(error, model=ClaimFile, data=document.data), document, hint=hint)
        raise
    for id, claim in content.claims.items():
        if claim.same_as is not None and "/" not in claim.same_as and claim.same_as not in content.claims:
            raise UsageError(
                f"{document.locate(('claims', id, 'same_as'))}: claim '{id}' is the same as '{claim.same_as}', unknown",
                did_you_mean(claim.same_as, list(content.claims)),
            )
    return PaperClaims(file.stem, content.paper, content.tolerances, content.claims)


def describe_paper(file: Path) -> str:
    """One line for lists: title, venue, how many claims of which kind, from where."""
    content = read_claims(file)
    paper, sources = content.paper, ", ".join(content.sources)
    counts = Counter(claim.kind for claim in content.claims.values())
    kinds = ", ".join(f"{number} {kind}{'' if number == 1 else 's'}" for kind, number in counts.items())
    return f"{paper.title} ({paper.authors}, {paper.venue} {paper.year}): {kinds} of {sources}"


def _find_claim_files(name: str) -> list[Path]:
    bundled = list_claim_files()
    if name == ALL:
        return list(bundled.values())
    if name in bundled:
        return [bundled[name]]
    if Path(name).is_file():
        return [Path(name)]
    raise UsageError(f"no claims of a paper '{name}'", did_you_mean(name, [*bundled, ALL]))
