"""The sentence on seeds says what chance decided in these very runs, and nothing that was the same in all of them."""

import pytest

from tiebench.comparison.seed_effects import describe_seeds, list_seed_effects

WEIGHTS, MASKS, OFFSET = "the initial weights", "the dropout masks", "where the training text begins"
WINDOWS = "where the windows of the text are cut, and their order"


@pytest.mark.parametrize(
    ("architecture", "options", "expected"),
    [
        ("lstm", {"random_offset": True}, [WEIGHTS, OFFSET]),
        ("lstm", {"random_offset": False}, [WEIGHTS]),
        ("gpt2", {}, [WEIGHTS, WINDOWS]),
    ],
)
def test_each_architecture_names_what_its_batches_draw(architecture, options, expected, make_arm):
    training = {"epochs": 1, "batch_size": 4, "window": 10, "optimizer": {"type": "sgd", "learning_rate": 1.0}}
    spec = make_arm("tied", architecture=architecture, training={**training, **options})
    assert list_seed_effects(spec) == expected


@pytest.mark.parametrize("block", [{"architecture": {"dropout": 0.1}}, {"embedding": {"word_dropout": 0.1}}])
def test_masks_are_named_where_something_is_dropped(block, make_arm):
    spec = make_arm("tied", architecture="lstm")
    for name, changes in block.items():
        spec = spec.model_copy(update={name: getattr(spec, name).model_copy(update=changes)})
    assert MASKS in list_seed_effects(spec)
    assert MASKS not in list_seed_effects(make_arm("tied", architecture="lstm"))


def test_the_recipes_of_the_papers_read_the_same_batches_at_every_seed(make_record):
    """A record from before the switch says nothing of it, and had it off."""
    arms = {
        arm: [make_record(arm, seed, changes=[("spec.training.random_offset", None)]) for seed in (1, 2)]
        for arm in ("untied", "tied")
    }
    assert describe_seeds(arms) == ["Seeds differ in the initial weights."]
    assert describe_seeds({arm: records[:1] for arm, records in arms.items()}) == []


def test_arms_that_draw_other_things_are_told_one_by_one(make_record):
    arms = {
        arm: [make_record(arm, seed, changes=[("spec.training.random_offset", arm == "tied")]) for seed in (1, 2)]
        for arm in ("untied", "tied")
    }
    assert describe_seeds(arms) == [f"Seeds differ of untied in {WEIGHTS}; of tied in {WEIGHTS} and {OFFSET}."]
