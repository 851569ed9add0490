"""Ranks that share a batch out see together the masks of a process that has all of it."""

import pytest
import torch

from tiebench.layers.dropout import Dropout
from tiebench.layers.row_share import RowShare
from tiebench.layers.word_dropout import draw_word_mask

NUM_ROWS, TIME, WIDTH = 5, 7, 3


def list_shares(num_ranks: int) -> list[RowShare]:
    return [RowShare(rank, num_ranks, NUM_ROWS) for rank in range(num_ranks)]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_every_row_is_one_ranks(num_ranks):
    rows = torch.arange(NUM_ROWS)
    shares = [rows[share.place] for share in list_shares(num_ranks)]
    assert torch.cat(shares).tolist() == rows.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_rank_without_rows_says_so_and_stands_at_the_first():
    shares = list_shares(8)
    empty = [share for share in shares if share.is_empty]
    assert len(empty) == 8 - NUM_ROWS and all(share.place == slice(0, 1) for share in empty)
    assert [share.place.start for share in shares if not share.is_empty] == list(range(NUM_ROWS))


@pytest.mark.parametrize("shared_over_time", [True, False])
def test_masks_of_shares_are_rows_of_the_whole_mask(shared_over_time):
    vectors = torch.ones(NUM_ROWS, TIME, WIDTH)

    def draw_twice(rows: RowShare | None) -> list[torch.Tensor]:
        dropout = Dropout(0.4, shared_over_time=shared_over_time)
        dropout.generator, dropout.rows = seeded(), rows
        seen = vectors if rows is None else vectors[rows.place]
        return [dropout(seen), dropout(seen)]

    whole, parts = draw_twice(None), [draw_twice(share) for share in list_shares(2)]
    for index, mask in enumerate(whole):
        assert torch.equal(torch.cat([part[index] for part in parts]), mask)
    assert not torch.equal(*whole), "a second mask is another one"


def test_words_are_dropped_as_in_the_whole_batch():
    tokens = torch.randint(4, (NUM_ROWS, TIME), generator=seeded())
    whole = draw_word_mask(tokens, probability=0.5, generator=seeded())
    parts = [
        draw_word_mask(tokens[share.place], probability=0.5, generator=seeded(), rows=share) for share in list_shares(2)
    ]
    assert torch.equal(torch.cat(parts), whole)
