"""Training reads every token once an epoch, in an order that depends on the seed and the step alone."""

import numpy as np
import pytest
import torch

from tiebench.corpora.stream import TokenStream
from tiebench.errors import TiebenchError, UsageError
from tiebench.models.language_model import build_on_meta
from tiebench.training.batches import Batches, build_batches

TRAINING = {"epochs": 1, "batch_size": 4, "window": 10, "optimizer": {"type": "sgd", "learning_rate": 1.0}}


def number_tokens(num_tokens: int) -> TokenStream:
    """A stream whose ids are their own positions, so that every token can be recognised."""
    return TokenStream(np.arange(num_tokens + 1, dtype=np.uint16), num_tokens, 0, 0, 0)


def make(
    num_tokens: int = 1003, *, contiguous: bool, seed: int = 1, batch_size: int = 4, window: int = 10, **options: bool
) -> Batches:
    return Batches(number_tokens(num_tokens), batch_size, window, contiguous, seed, **options)


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


def test_another_seed_shuffles_otherwise_and_leaves_rows_without_an_offset_as_they_are():
    assert read_epoch(make(contiguous=False, seed=2)) != read_epoch(make(contiguous=False))
    assert read_epoch(make(contiguous=True, seed=2)) == read_epoch(make(contiguous=True))


@pytest.mark.parametrize(("num_tokens", "contiguous"), [(3, True), (40, False)])
def test_too_little_text_is_an_error_with_both_numbers(num_tokens, contiguous):
    with pytest.raises(TiebenchError, match=rf"{num_tokens} tokens, too few for one batch of 4 x 10"):
        make(num_tokens, contiguous=contiguous)


@pytest.mark.parametrize("num_tokens", [1003, 1000, 43, 40, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_an_offset_an_epoch_still_reads_every_token_once_but_the_rest_of_the_division(num_tokens, seed):
    batches = make(num_tokens, contiguous=True, seed=seed, random_offset=True)
    found = read_epoch(batches)
    dropped = {(batches.first_token - 1 - place) % num_tokens + 1 for place in range(num_tokens % 4)}
    assert sorted(found) == sorted(set(range(1, num_tokens + 1)) - dropped)
    assert read_epoch(batches, epoch=1) == found


def test_each_seed_has_an_offset_of_its_own_and_two_arms_share_it():
    firsts = [make(contiguous=True, seed=seed, random_offset=True).first_token for seed in range(8)]
    assert len(set(firsts)) == 8 and max(firsts) - min(firsts) > 300, "spread over the text"
    assert firsts == [make(contiguous=True, seed=seed, random_offset=True).first_token for seed in range(8)]
    assert make(contiguous=True, seed=3).first_token == 0


def test_rows_with_an_offset_go_on_at_the_beginning_of_the_text_where_it_ends():
    batches = make(contiguous=True, random_offset=True)
    wrapped = 0
    for step in range(batches.steps_per_epoch):
        inputs, targets = batches.read(step)
        assert torch.equal(targets, inputs + 1)
        if step:
            before = batches.read(step - 1)[1][:, -1]
            assert torch.equal(inputs[:, 0], before % 1003), (
                "the last token stands where the boundary before the first does"
            )
        wrapped += int((inputs[:, 1:] < inputs[:, :-1]).sum() + (inputs[:, 0] == 0).sum())
    assert wrapped == 1


def test_a_partial_window_can_be_left_out():
    assert make(1033, contiguous=True).steps_per_epoch == 26
    batches = make(1033, contiguous=True, drop_partial_window=True)
    assert batches.steps_per_epoch == 25
    assert all(batches.read(step)[1].shape == (4, 10) for step in range(50))
    assert read_epoch(batches) == read_epoch(make(1033, contiguous=True))[: 25 * 40]
    assert make(1000, contiguous=True, drop_partial_window=True).steps_per_epoch == 25, "where none is partial"
    with pytest.raises(TiebenchError, match="too few for one batch"):
        make(39, contiguous=True, drop_partial_window=True)


def test_the_options_of_training_reach_the_batches(make_arm):
    asked = {**TRAINING, "random_offset": True, "drop_partial_window": True}
    given, plain = (
        build_batches(make_arm(training=training).training, stream=number_tokens(1033), recurrent=True, seed=1)
        for training in (asked, TRAINING)
    )
    assert given.first_token != 0 and given.steps_per_epoch == 25
    assert plain.first_token == 0 and plain.steps_per_epoch == 26, "what a record says that does not speak of them"


def test_windows_that_begin_anywhere_cannot_be_told_not_to(make_arm):
    spec = make_arm(architecture="gpt2", training={**TRAINING, "random_offset": False})
    with pytest.raises(UsageError, match="windows of a gpt2 begin anywhere"):
        build_on_meta(spec, vocabulary_size=50)
    build_on_meta(make_arm(architecture="gpt2", training={**TRAINING, "random_offset": True}), vocabulary_size=50)


@pytest.mark.parametrize("num_steps", [0, 1, 7, 26, 60])
@pytest.mark.parametrize(
    "options", [{"contiguous": True}, {"contiguous": True, "drop_partial_window": True}, {"contiguous": False}]
)
def test_tokens_are_counted_as_they_are_read(num_steps, options):
    """A last window that is not full counts for what it holds."""
    batches = make(**options)
    read = sum(batches.count_targets(batches.read(step)[1]) for step in range(num_steps))
    assert batches.count_tokens(num_steps) == batches.count_rows(num_steps) == read
