"""The README of an exported model: what it is, what it scored and how it was scored, from its record alone."""

import json

from tiebench.reporting.escaping import escape_markdown
from tiebench.reporting.render import format_number
from tiebench.results.record import Evaluation, Record

SCORES_HEADER = "| split | perplexity | bits per byte | tokens | protocol |\n| --- | ---: | ---: | ---: | --- |"


def write_model_card(record: Record, *, unsaid: list[str]) -> str:
    """A Markdown page; `unsaid` are the options of the training that the exported format has no key for."""
    spec, tied = record.spec, record.spec.tie.type == "tied"
    name = escape_markdown(f"{record.experiment}/{record.arm}/seed-{record.seed}")
    ends = "one matrix at both ends (tied)" if tied else "two embedding matrices (untied)"
    rows = [_describe_score_row(evaluation) for evaluation in record.evaluations.values()]
    lines = [
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [tiebench, weight-tying]\n---",
        f"# {name}",
        f"A language model of type {spec.architecture.type} with {ends}, trained by tiebench on the corpus "
        f"{escape_markdown(record.corpus.name)}. It has {record.parameters.total:,} parameters and "
        f"{record.vocabulary.size:,} tokens (vocabulary: {spec.vocabulary.type}).",
        "\n".join([SCORES_HEADER, *rows]),
        "Each figure is over the whole split; text begins after the token that ends a line (`bos_token`, `eos_token`). "
        "Put this token before a text that is to be scored; generation stops at the next one.",
    ]
    if unsaid:
        lines.append(
            "It was trained with dropout that `config.json` has no key for: "
            + ", ".join(f"`{key}`" for key in unsaid)
            + ". It acts in training only."
        )
    lines += [
        f"Run {record.signature}, by version {escape_markdown(record.provenance.versions.get('tiebench', 'unknown'))} "
        f"of tiebench. The corpus has SHA-256 {escape_markdown(record.corpus.checksum)}. What was trained:",
        "```json\n" + json.dumps(_hide_paths(record), indent=1) + "\n```",
    ]
    return "\n\n".join(lines) + "\n"


def _describe_score_row(evaluation: Evaluation) -> str:
    per_byte = "" if evaluation.bits_per_byte is None else format_number(evaluation.bits_per_byte)
    protocol = ", ".join(f"{key} {value}" for key, value in evaluation.protocol.items())
    cells = [evaluation.split, format_number(evaluation.perplexity), per_byte, f"{evaluation.tokens:,}", protocol]
    return "| " + " | ".join(map(escape_markdown, cells)) + " |"


def _hide_paths(record: Record) -> dict:
    """The spec without where its text lay on somebody's machine, and without what is null."""
    content = record.spec.model_dump(mode="json", exclude_none=True)
    content["corpus"] = {key: value for key, value in content["corpus"].items() if key in ("type", "split")}
    return content
