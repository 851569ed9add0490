"""Sums of things measured, as claims write them: `tied - untied`, `tied-projected + untied < tied + untied-projected`.

A contrast is a dict from what is measured to its weight in the sum, such as {"tied": 1, "untied": -1}.
"""

import re

SignedArms = dict[str, int]
SIGN = re.compile(r"\s+([<>])\s+")


def parse_sum(text: str) -> SignedArms:
    """`tied - untied` is {"tied": 1, "untied": -1}. Names stand between signs with spaces around them.

    Raises ValueError for anything else.
    """
    words = text.split()
    names, signs = words[::2], ["+", *words[1::2]]
    if len(words) % 2 == 0 or not set(signs) <= {"+", "-"} or set(names) & {"+", "-", "<", ">"}:
        raise ValueError(f"'{text}' is no sum of names: write one such as tied - untied")
    weights: SignedArms = dict.fromkeys(names, 0)
    for name, sign in zip(names, signs, strict=True):
        weights[name] += 1 if sign == "+" else -1
    return weights


def parse_order(text: str) -> list[SignedArms]:
    """What an order says is below 0, one contrast for each of its signs: `a < b > c` is a - b and c - b.

    Raises ValueError for what is no order.
    """
    parts = SIGN.split(text)
    if len(parts) < 3:
        raise ValueError("'relation' must order names, such as tied < untied")
    sides = [parse_sum(part) for part in parts[::2]]
    pairs = zip(sides, parts[1::2], sides[1:], strict=False)
    return [subtract(left, right) if sign == "<" else subtract(right, left) for left, sign, right in pairs]


def subtract(left: SignedArms, right: SignedArms) -> SignedArms:
    """The difference of two sums."""
    return {name: left.get(name, 0) - right.get(name, 0) for name in {**left, **right}}
