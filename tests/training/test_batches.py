"""Training reads every token once an epoch, in an order that depends on the seed and the step alone."""

import numpy as np
import pytest
import torch

from tiebench.corpora.stream import TokenStream
from tiebench.errors import TiebenchError
from tiebench.training.batches import Batches


def number_tokens(num_tokens: int) -> TokenStream:
    """A stream whose ids are their own positions, so that every token can be recognised."""
    return TokenStream(np.arange(num_tokens + 1, dtype=np.uint16), num_tokens, 0, 0, 0)


def make(num_tokens: int = 1003, *, contiguous: bool, seed: int = 1, batch_size: int = 4, window: int = 10) -> Batches:
    return Batches(number_tokens(num_tokens), batch_size, window, contiguous, seed)


def read_epoch(batches: Batches, epoch: int = 0) -> list[int]:
    """All targets of an epoch, in the order in which they are read."""
    first = epoch * batches.steps_per_epoch
    return [int(id) for step in range(first, first + batches.steps_per_epoch) for id in batches.read(step)[1].flatten()]


@pytest.mark.parametrize("num_tokens", [1003, 1000, 81, 43, 40, 4])
def test_contiguous_rows_read_every_token_once_but_the_rest_of_the_division(num_tokens):
    batches = make(num_tokens, contiguous=True)
    kept = num_tokens // 4 * 4
    assert sorted(read_epoch(batches)) == list(range(1, kept + 1))
    assert read_epoch(batches, epoch=1) == read_epoch(batches)


def test_contiguous_rows_go_on_where_they_stopped():
    batches = make(contiguous=True)
    for step in range(1, batches.steps_per_epoch):
        before, after = batches.read(step - 1)[1], batches.read(step)[0]
        assert torch.equal(before[:, -1], after[:, 0])
    assert batches.starts_epoch(0) and batches.starts_epoch(batches.steps_per_epoch) and not batches.starts_epoch(1)


@pytest.mark.parametrize("contiguous", [True, False])
def test_targets_are_the_inputs_one_further(contiguous):
    batches = make(contiguous=contiguous)
    for step in range(2 * batches.steps_per_epoch):
        inputs, targets = batches.read(step)
        assert inputs.dtype == targets.dtype == torch.int64
        assert torch.equal(inputs + 1, targets)
        assert len(inputs) == 4 and inputs.shape[1] <= 10


def test_shuffled_windows_read_no_token_twice_and_leave_out_less_than_a_batch_and_a_window():
    batches = make(contiguous=False)
    for epoch in range(3):
        found = read_epoch(batches, epoch)
        assert len(set(found)) == len(found)
        assert len(found) > 1003 - (4 + 2) * 10
        assert max(found) <= 1003


def test_every_epoch_has_an_order_and_an_offset_of_its_own():
    batches = make(contiguous=False)
    orders = [read_epoch(batches, epoch) for epoch in range(6)]
    assert len({tuple(order) for order in orders}) == 6
    assert len({order[0] % 10 for order in orders}) > 1
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("contiguous", [True, False])
def test_two_arms_see_the_same_batches_and_a_run_can_go_on_anywhere(contiguous):
    first, second = make(contiguous=contiguous), make(contiguous=contiguous)
    steps = list(range(2 * first.steps_per_epoch))
    expected = {step: first.read(step) for step in steps}
    for step in reversed(steps):
        assert all(torch.equal(one, other) for one, other in zip(second.read(step), expected[step], strict=True))


def test_another_seed_shuffles_otherwise_and_leaves_rows_as_they_are():
    assert read_epoch(make(contiguous=False, seed=2)) != read_epoch(make(contiguous=False))
    assert read_epoch(make(contiguous=True, seed=2)) == read_epoch(make(contiguous=True))


@pytest.mark.parametrize(("num_tokens", "contiguous"), [(3, True), (40, False)])
def test_too_little_text_is_an_error_with_both_numbers(num_tokens, contiguous):
    with pytest.raises(TiebenchError, match=rf"{num_tokens} tokens, too few for one batch of 4 x 10"):
        make(num_tokens, contiguous=contiguous)
