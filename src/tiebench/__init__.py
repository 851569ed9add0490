"""tiebench: what happens to a language model when its input and output embeddings are one matrix."""

__version__ = "0.1.0"
