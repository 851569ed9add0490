"""What the four WikiText entries have in common: the paper, the licence, the file names and the hub's tables."""

from tiebench.corpora.hub import HubText
from tiebench.corpora.catalogue import Source


def declare_wikitext(name: str, *, title: str, suffix: str, expected_tokens: dict[str, int] | None = None,
                     expected_vocabulary: int | None = None) -> Source:
    """The entry `name`, whose published files are `wiki.{train,valid,test}.<suffix>`."""
    return Source(
        name=name,
        title=title,
        citation="Merity et al. 2016, Pointer Sentinel Mixture Models, arXiv 1609.07843",
        licence="CC BY-SA 3.0",
        download=f"Download {name}-v1.zip, or the configuration {name}-v1 of Salesforce/wikitext on huggingface.co, "
                 f"from a machine with network: the text is {name}/wiki.{{train,valid,test}}.{suffix}.",
        layouts=(f"{name}/wiki.{{split}}.{suffix}", f"{name}-v1/wiki.{{split}}.{suffix}",
                 f"{name}/{{split}}.txt", f"wiki.{{split}}.{suffix}"),
        hub=HubText("Salesforce/wikitext", column="text", config=f"{name}-v1"),
        restore_line=restore_line,
        expected_tokens=expected_tokens,
        expected_vocabulary=expected_vocabulary,
    )


def restore_line(row: str) -> str:
    """The hub's rows are the lines with their newlines, but a blank line, published as one space, is empty."""
    return row if row.endswith("\n") else f"{row or ' '}\n"
