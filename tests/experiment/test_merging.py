"""How an arm's block, and an override, is laid over the rest."""

import pytest

from tiebench.errors import UsageError
from tiebench.experiment.merging import apply_override, expand_shorthands, list_paths, merge, parse_override


def test_blocks_are_merged_key_by_key():
    base = {"embedding": {"width": 10, "output_bias": True}, "other": 1}
    assert merge(base, {"embedding": {"width": 20}}) == {"embedding": {"width": 20, "output_bias": True}, "other": 1}
    assert base["embedding"]["width"] == 10, "the base stays as it is"


def test_another_type_replaces_and_the_same_type_merges():
    base = {"type": "lstm", "width": 10, "dropout": 0.5}
    assert merge(base, {"type": "gpt2", "width": 20}) == {"type": "gpt2", "width": 20}
    assert merge(base, {"type": "lstm", "width": 20}) == {"type": "lstm", "width": 20, "dropout": 0.5}
    assert merge(base, {"width": 20}) == {"type": "lstm", "width": 20, "dropout": 0.5}
    assert merge({"optimizer": base}, {"optimizer": {"type": "sgd"}}) == {"optimizer": {"type": "sgd"}}


@pytest.mark.parametrize("group", [("epochs", "steps", "tokens"), ("uniform", "normal")])
def test_of_keys_that_exclude_each_other_the_later_wins(group):
    for one in group:
        for other in group:
            assert merge({one: 1, "kept": 2}, {other: 3}) == {other: 3, "kept": 2}
    both = dict.fromkeys(group[:2], 1)
    assert merge({}, both) == both, "two at once are for the check to find"


def test_null_takes_a_block_away():
    assert merge({"output_projection": {"penalty": 1.0}}, {"output_projection": None}) == {"output_projection": None}
    assert merge({"output_projection": None}, {"output_projection": {"penalty": 1.0}}) == {
        "output_projection": {"penalty": 1.0}
    }


def test_shorthands():
    assert expand_shorthands({"tie": True}) == {"tie": {"type": "tied"}}
    assert expand_shorthands({"tie": False}) == {"tie": {"type": "untied"}}
    assert expand_shorthands({"tie": "tied", "corpus": "ptb", "vocabulary": "words", "architecture": "lstm"}) == {
        "tie": {"type": "tied"},
        "corpus": {"type": "ptb"},
        "vocabulary": {"type": "words"},
        "architecture": {"type": "lstm"},
    }
    assert expand_shorthands({"training": {"tie": True}}) == {"training": {"tie": True}}, "only at the top"


def test_overrides_are_read_as_yaml():
    assert parse_override("training.epochs=1") == (("training", "epochs"), 1)
    assert parse_override("a.b = 3e-4") == (("a", "b"), 3e-4)
    assert parse_override("corpus.train=a=b.txt") == (("corpus", "train"), "a=b.txt")
    for text in ("training.epochs", "=1", ".a=1", "a..b=1", ""):
        with pytest.raises(UsageError, match="expected dotted.key=value"):
            parse_override(text)


def test_an_override_goes_into_the_shared_part():
    data = {"training": {"epochs": 3}, "arms": {"tied": {"tie": True}}}
    assert apply_override(data, ("training", "epochs"), 1)["training"] == {"epochs": 1}
    assert apply_override(data, ("training", "steps"), 9)["training"] == {"steps": 9}
    assert apply_override(data, ("arms", "tied", "embedding", "width"), 8)["arms"] == {
        "tied": {"tie": True, "embedding": {"width": 8}}
    }


@pytest.mark.parametrize(
    ("path", "arm"),
    [
        (("tie",), "tied"),
        (("tie", "type"), "tied"),
        (("embedding", "output_projection"), "projected"),
        (("embedding", "output_projection", "penalty"), "projected"),
    ],
)
def test_an_override_that_an_arm_would_undo_is_refused(path, arm):
    data = {"arms": {arm: {"tie": True} if arm == "tied" else {"embedding": {"output_projection": {"penalty": 0.1}}}}}
    with pytest.raises(UsageError, match=rf"arm '{arm}' sets {'.'.join(path)} itself") as caught:
        apply_override(data, path, 1)
    assert f"--set arms.{arm}.{'.'.join(path)}=" in caught.value.hint


def test_an_arm_that_sets_a_neighbour_is_no_obstacle():
    data = {"embedding": {"width": 8}, "arms": {"projected": {"embedding": {"output_projection": {"penalty": 0.1}}}}}
    assert apply_override(data, ("embedding", "width"), 16)["embedding"] == {"width": 16}


def test_paths_of_a_block():
    assert list_paths({"tie": {"type": "tied"}, "embedding": {"output_projection": {"penalty": 1}, "width": 2}}) == [
        "tie.type",
        "embedding.output_projection.penalty",
        "embedding.width",
    ]
    assert list_paths({}) == [] and list_paths({"projection": {}}) == ["projection"]
