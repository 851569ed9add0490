"""Bounds of numbers that the command line asks for too: whoever only wants help need not wait for pydantic."""

LARGEST_SEED = 2**63 - 1
LARGEST_FLOAT = 3e38  # what a float32 can hold
