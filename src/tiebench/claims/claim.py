"""One claim of a paper: a published figure, a published difference, or an order between arms."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tiebench.claims.contrasts import SignedArms, parse_order, parse_sum
from tiebench.experiment.block import Block

Measure = Literal[
    "test perplexity", "valid perplexity", "train perplexity", "running train perplexity", "ln test perplexity",
    "overfitting", "parameters",
    "rank correlation", "aligned cosine", "simlex-999", "wordsim-353", "subspace distance",
    "verb-143", "men", "rare-word", "mturk-771", "valid bleu", "test bleu", "output share of gradient",
    "average score",
]  # fmt: skip
PAIR_MEASURES = ("rank correlation", "aligned cosine")
EMBEDDING_MEASURES = (*PAIR_MEASURES, "simlex-999", "wordsim-353")
UNMEASURED = (
    "verb-143", "men", "rare-word", "mturk-771", "valid bleu", "output share of gradient", "average score",
)  # fmt: skip
EMBEDDINGS = ("in", "out", "tied")
STUDIES = {"subspace distance": "subspace-alignment"}
ClaimKind = Literal["value", "difference", "order", "check"]


class Claim(Block):
    """One checkable sentence, `says`, in our own words, about a `measure`. It is one of these:

    - a value: `published`, with a `tolerance` whose source the file's `tolerances` or the claim's `notes` state;
    - a difference, such as `difference: tied - untied`, with `published` and a `margin` of at most half of it (the
      default). A published 0 claims that two are equivalent, and then `margin` and `notes` are needed;
    - an order: `relation: tied < untied`, several links or sums on its sides included;
    - a check, which proves little and is counted apart: a count of parameters, or a value that chance gives as well
      (`chance` within the tolerance).

    `of` names what is measured: an arm (by default the only one of `arms`). A measure of embeddings takes two arms:
    first the untied one, whose embeddings are `in` and `out`, then the tied one, whose embedding is `tied`; `of` is
    then one of the three, or a pair such as `out-tied`. Without `experiment`, an arm is written `experiment/arm`; a
    claim that no recipe here can express has no arms either, and `notes` say why. `same_as` is an id, `paper/id` in
    another file: the claim repeats that one's measurement and is not counted again. `overfitting` is ln of the
    validation perplexity minus ln of the running train perplexity, for all arms after the same number of epochs.
    """

    source: str
    says: str
    measure: Measure
    experiment: str | None = None
    arms: list[str] = []
    of: str | None = None
    published: float | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None
    difference: str | None = None
    margin: Annotated[float, Field(gt=0)] | None = None
    relation: str | None = None
    chance: float | None = None
    same_as: str | None = None
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "Claim":
        if (self.published is None) == (self.relation is None):
            raise ValueError("give exactly one of 'published' and 'relation'")
        if (self.published is None or self.difference is not None) != (self.tolerance is None):
            raise ValueError(
                "a value needs 'published' and 'tolerance'; a 'relation' or 'difference' has no 'tolerance'"
            )
        if self.published is None and self.difference is not None:
            raise ValueError("'difference' needs 'published'")
        if self.margin is not None and self.difference is None:
            raise ValueError("'margin' belongs to a 'difference'; a value has a 'tolerance'")
        if self.difference is not None and self.published is not None:
            self._check_margin(abs(self.published) / 2)
        if self.measure not in STUDIES and not self.needs and not self.notes:
            raise ValueError("without 'experiment', 'notes' must say why")
        if self.measure in (*STUDIES, *UNMEASURED) and self.experiment is not None:
            raise ValueError(f"no recipe measures {self.measure}: leave 'experiment' out")
        if self.experiment is not None and not self.arms:
            raise ValueError("'experiment' needs 'arms'")
        if not self.subjects:
            raise ValueError("'of' must say which of several arms is meant")
        self._check_subjects()
        return self

    def _check_margin(self, half: float) -> None:
        if not half and (self.margin is None or not self.notes):
            raise ValueError("a published 0 claims equivalence: 'margin' must say within what, and 'notes' why")
        if half and self.margin is not None and self.margin > half:
            raise ValueError(f"'margin' {self.margin:g} is more than half the claimed effect, {half:g}")

    def _check_subjects(self) -> None:
        """Subjects are arms for what a record holds, and embeddings or pairs of them for what is measured on these."""
        if self.is_about_embeddings and len(self.arms) not in (0, 2):
            raise ValueError("a measure of embeddings needs two 'arms': the untied one and the tied one")
        for name in self.subjects:
            known = EMBEDDINGS if self.is_about_embeddings else self.arms
            parts = name.split("-") if self.is_about_embeddings else [name]
            if self.arms and not set(parts) <= set(known):
                raise ValueError(f"'{name}' is not among {', '.join(known)}")
            if self.is_about_embeddings and len(parts) != (2 if self.measure in PAIR_MEASURES else 1):
                what = "a pair of embeddings, such as out-tied" if self.measure in PAIR_MEASURES else "one embedding"
                raise ValueError(f"'{name}': {self.measure} is of {what}")

    @property
    def kind(self) -> ClaimKind:
        if self.measure == "parameters":
            return "check"
        if self.relation is not None:
            return "order"
        if self.difference is not None:
            return "difference"
        return "check" if self._is_chance else "value"

    @property
    def _is_chance(self) -> bool:
        """Whether chance gives the published value, within the tolerance."""
        if self.chance is None or self.published is None or self.tolerance is None:
            return False
        return abs(self.published - self.chance) <= self.tolerance

    @property
    def contrasts(self) -> list[SignedArms]:
        """What is measured: one sum for a value or a difference; for an order what it says is below 0, link by link."""
        if self.relation is not None:
            return parse_order(self.relation)
        if self.difference is not None:
            return [parse_sum(self.difference)]
        only = self.of or (self.arms[0] if len(self.arms) == 1 else None)
        return [{only: 1}] if only else []

    @property
    def subjects(self) -> list[str]:
        """The names in the contrasts, in the order in which the claim has them."""
        text = self.relation or self.difference
        if text is None:
            return [name for contrast in self.contrasts for name in contrast]
        named = {name for contrast in self.contrasts for name in contrast}
        return list(dict.fromkeys(word for word in text.split() if word in named))

    @property
    def bound(self) -> float | None:
        """How far a measured figure may lie from the published one: the tolerance, or the margin of a difference."""
        if self.difference is None or self.published is None:
            return self.tolerance
        return self.margin or abs(self.published) / 2

    @property
    def is_about_embeddings(self) -> bool:
        return self.measure in EMBEDDING_MEASURES

    @property
    def needs(self) -> dict[str, list[str]]:
        """Experiment to the arms that must have run. Empty where no recipe can express the claim."""
        found: dict[str, list[str]] = {}
        for name in self.arms:
            place, arm = self.locate(name)
            if place is not None:
                found.setdefault(place, []).append(arm)
        return found

    def locate(self, subject: str) -> tuple[str | None, str]:
        """The folder of results that has it (the experiment's, or the study's; None where none can), and its name."""
        if self.experiment is not None or self.measure in STUDIES:
            return self.experiment or STUDIES[self.measure], subject
        place, _, arm = subject.rpartition("/")
        return (place or None), arm
