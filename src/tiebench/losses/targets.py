"""What a target may be beside a token id."""

IGNORED = -100
"""A target that no loss and no perplexity counts: torch's own `ignore_index`."""
