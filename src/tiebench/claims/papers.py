"""What a paper claims, as data: a published figure with a tolerance, or an order between arms, and where it stands.

A direction and a value are two claims. One YAML in `configs/claims/` is one paper; adding a paper is adding a file.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.block import Block
from tiebench.experiment.bundled import list_claim_files
from tiebench.experiment.problems import explain_problems, raise_problems
from tiebench.experiment.yaml_file import read_document

Measure = Literal[
    "test perplexity", "valid perplexity", "train perplexity", "running train perplexity", "overfitting", "parameters",
    "rank correlation", "aligned cosine", "simlex-999", "wordsim-353", "subspace distance",
]  # fmt: skip
PAIR_MEASURES = ("rank correlation", "aligned cosine")
EMBEDDING_MEASURES = (*PAIR_MEASURES, "simlex-999", "wordsim-353")
EMBEDDINGS = ("in", "out", "tied")
STUDIES = {"subspace distance": "subspace-alignment"}
ALL = "all"
CHECK = "`tiebench reproduce FILE --no-train` tries a file of claims without training"
RELATION = re.compile(r"\s+([<>])\s+")


class Paper(Block):
    """Where the claims were published. `arxiv` is missing for what is no paper."""

    title: str
    authors: str
    venue: str
    year: Annotated[int, Field(ge=1900)]
    arxiv: str | None = None


class Claim(Block):
    """One checkable sentence, `says`, in our own words; exactly one of `published` (with `tolerance`) and `relation`.

    `of` names what is measured: an arm (by default the only one of `arms`). A measure of tables takes two arms, first
    the untied one, whose tables are `in` and `out`, then the tied one, whose table is `tied`; there `of` is a table or
    a pair such as `out-tied`. `relation` orders several: `tied < untied`. `overfitting` is ln of the validation
    perplexity minus ln of the train perplexity. Where no recipe can express a claim, `experiment` is left out, and
    `notes` say why.
    """

    source: str
    says: str
    measure: Measure
    experiment: str | None = None
    arms: list[str] = []
    of: str | None = None
    published: float | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None
    relation: str | None = None
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "Claim":
        if (self.published is None) == (self.relation is None):
            raise ValueError("give exactly one of 'published' and 'relation'")
        if (self.published is None) != (self.tolerance is None):
            raise ValueError("'published' and 'tolerance' go together")
        if self.measure not in STUDIES and self.experiment is None and not self.notes:
            raise ValueError("without 'experiment', 'notes' must say why")
        if self.measure in STUDIES and self.experiment is not None:
            raise ValueError(f"{self.measure} comes from a study of its own: leave 'experiment' out")
        if self.experiment is not None and not self.arms:
            raise ValueError("'experiment' needs 'arms'")
        if self.relation is not None and len(RELATION.split(self.relation)) < 3:
            raise ValueError("'relation' orders names, such as: tied < untied")
        if not self.subjects:
            raise ValueError("'of' must say which of several arms is meant")
        self._check_subjects()
        return self

    def _check_subjects(self) -> None:
        """Arms for what a record holds; tables, or pairs of them, for what is measured on tables."""
        if self.is_about_embeddings and len(self.arms) not in (0, 2):
            raise ValueError("a measure of tables needs two 'arms': the untied one and the tied one")
        for name in self.subjects:
            known = EMBEDDINGS if self.is_about_embeddings else self.arms
            parts = name.split("-") if self.is_about_embeddings else [name]
            if self.arms and not set(parts) <= set(known):
                raise ValueError(f"'{name}' is not among {', '.join(known)}")
            if self.is_about_embeddings and len(parts) != (2 if self.measure in PAIR_MEASURES else 1):
                what = "a pair of tables, such as out-tied" if self.measure in PAIR_MEASURES else "one table"
                raise ValueError(f"'{name}': {self.measure} is of {what}")

    @property
    def subjects(self) -> list[str]:
        """What is measured: one name for a value, two or more for a relation."""
        if self.relation is not None:
            return RELATION.split(self.relation)[::2]
        only = self.of or (self.arms[0] if len(self.arms) == 1 else None)
        return [only] if only else []

    @property
    def signs(self) -> list[str]:
        """The `<` and `>` between the subjects."""
        return RELATION.split(self.relation)[1::2] if self.relation else []

    @property
    def is_about_embeddings(self) -> bool:
        return self.measure in EMBEDDING_MEASURES

    @property
    def place(self) -> str | None:
        """The folder of results that has what is needed: the experiment's, or the study's; None where none can."""
        return self.experiment or STUDIES.get(self.measure)


class ClaimFile(Block):
    """One YAML. `tolerances` says where the tolerances come from."""

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
    papers = [read_claims(file) for file in _find_files(name)]
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
        raise_problems(explain_problems(error, model=ClaimFile, data=document.data), document, hint=CHECK)
        raise
    return PaperClaims(file.stem, content.paper, content.tolerances, content.claims)


def describe_paper(file: Path) -> str:
    """One line for lists: title, venue, how many claims, from where."""
    content = read_claims(file)
    paper, number, sources = content.paper, len(content.claims), ", ".join(content.sources)
    return f"{paper.title} ({paper.authors}, {paper.venue} {paper.year}): {number} claims of {sources}"


def _find_files(name: str) -> list[Path]:
    bundled = list_claim_files()
    if name == ALL:
        return list(bundled.values())
    if name in bundled:
        return [bundled[name]]
    if Path(name).is_file():
        return [Path(name)]
    raise UsageError(f"no claims of a paper '{name}'", did_you_mean(name, [*bundled, ALL]))
