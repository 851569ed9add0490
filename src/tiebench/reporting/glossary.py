"""What each column of the report's tables means."""

import re
from collections.abc import Iterable

# The first pattern that fits a whole column name explains it.
_ENTRIES = (
    (r"experiment", "The experiment file that the runs were made from."),
    (r"arm", "One of the settings that an experiment compares."),
    (
        r"(test|valid) change",
        "By how many percent the arm's perplexity (or bits per byte) differs from that of the baseline, the arm above "
        "it without a change; negative is lower, so better. In brackets the 95 % interval.",
    ),
    (
        r"p",
        "The probability of a difference at least as large if there were none; of a claim, if the claim were false. "
        "Small values speak against chance. Marked (looking), it holds however often one looked while adding seeds.",
    ),
    (r"p within", "The same of a difference as large as the margin: small values speak for an equivalence within it."),
    (
        r"(test|valid|train)( bits/byte)?",
        "Perplexity (or bits per byte) on that part of the text: exp of the mean nats per token; lower "
        "is better. Mean over seeds ± standard deviation (number of seeds).",
    ),
    (r"test by word", "Perplexity per word of the test split, also where tokens are smaller than words."),
    (r"bits per byte", "Bits that the model needs for a byte of the test split; comparable across vocabularies."),
    (r"parameters", "All trained numbers of the model; a tied matrix counts once."),
    (
        r"input|output",
        "Parameters of the input or of the output embedding, where it is a matrix of its own.",
    ),
    (r"shared", "Parameters of the one matrix that a tied model uses as input and as output embedding."),
    (r"other", "Parameters beside the embedding matrices: output bias, projections."),
    (r"architecture", "Parameters of the model between its embeddings."),
    (r"epoch", "Passes over the training text before the checkpoint that was scored."),
    (r"tokens/s", "Training tokens per second on the machine named below."),
    (r"seeds?", "The number that all random draws of a run follow from; of an arm, how many such runs there are."),
    (r"training tokens", "How many tokens of the training text had been read, each reading counted."),
    (r"mean over seeds", "Validation perplexity at that moment, the mean of an arm's runs."),
    (r"lowest seed|highest seed", "The same, of the run with the lowest or the highest."),
    (r"in training", "How often the token to be predicted stands in the training text."),
    (r"targets", "How many tokens of the test split are of this kind."),
    (
        r"BLEU change",
        "How many points of 100 the arm's BLEU lies above (+) or below (-) that of the baseline; above is better. In "
        "brackets the 95 % interval.",
    ),
    (r"BLEU|chrF", "How well the test split is translated, 0 to 100; higher is better. Mean over seeds."),
    (r".+ nats", "Nats per token that the baseline needs for these targets; a nat is 1.44 bits."),
    (r".+ change", "How many nats per token more (+) or fewer (-) the arm needs for these targets than the baseline."),
    (r".+ part", "What these targets add to the change over the whole text."),
    (r"paper", "Whose claim it is: first authors and year."),
    (r"claim", "A statement of the paper, by the name under which it is entered in tiebench."),
    (
        r"verdict",
        "reproduced, contradicted, inconclusive (too few seeds to say), or altered (run with another recipe than the "
        "claim names). Of a check: holds, or does not hold.",
    ),
    (r"measured", "What the runs of this report gave for the claim: mean ± standard deviation (number of seeds)."),
    (r"published", "The figure in the paper and the margin that counts as agreement; of an order, the order."),
    (r"interval", "The 90 % interval of what was measured."),
    (r"measure", "The quantity that was measured."),
    (r"source", "The table, figure or sentence of the paper."),
    (r"key", "A key of the experiment file in which the arms differ; a column for each arm has its value."),
    (r"of", "The arm or embedding that the measurement is about."),
    (r"value", "The figure that was measured."),
    (r"command", "What was typed to make the runs."),
    (r"runs", "How many of the runs shown were made in this way."),
    (r"commit", "The version of tiebench's source that made them."),
    (r"machine", "Where they were made, as a number; the list below the table describes each machine."),
)


def explain_column(name: str) -> str | None:
    """What a column means; None for one that has no entry."""
    return next((text for pattern, text in _ENTRIES if re.fullmatch(pattern, name)), None)


def list_terms(columns: Iterable[str]) -> list[tuple[str, str]]:
    """(column names, what they mean) for the columns of a page in their order; names with one meaning together."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(columns):
        text = explain_column(name)
        if text is not None:
            found.setdefault(text, []).append(name)
    return [(", ".join(names), text) for text, names in found.items()]
