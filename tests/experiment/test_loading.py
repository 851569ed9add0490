"""From a file to its runs: arms, seeds, what is declared, and what is wrong, all at once."""

from pathlib import Path

import pytest

from tiebench.errors import UsageError, did_you_mean
from tiebench.experiment.loading import load_experiment, resolve_document
from tiebench.experiment.schema import ArmSpec
from tiebench.experiment.yaml_file import parse_document

TEXT = """\
name: sound
description: A small one.
corpus: pydocs
architecture: {type: lstm, layers: 1, width: 16}
embedding: {init: {uniform: 0.1}}
training:
  epochs: 2
  batch_size: 4
  window: 10
  optimizer: {type: sgd, learning_rate: 3e-1}
seeds: [3, 1]
arms:
  untied: {tie: false}
  tied: {tie: true}
  projected: {tie: true, embedding: {output_projection: {penalty: 0.15}}}
"""


def resolve(text: str = TEXT):
    return resolve_document(parse_document(text, source="x.yaml"))


def explain(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        resolve(text)
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def write(tmp_path: Path, text: str = TEXT) -> Path:
    (tmp_path / "My-File.yaml").write_text(text, "utf-8")
    return tmp_path / "My-File.yaml"


def test_arms_share_what_stands_above_them():
    experiment = resolve()
    assert list(experiment.arms) == ["untied", "tied", "projected"]
    assert [arm.tie.type for arm in experiment.arms.values()] == ["untied", "tied", "tied"]
    assert all(arm.training == experiment.arms["tied"].training for arm in experiment.arms.values())
    assert experiment.arms["tied"].training.optimizer.learning_rate == 0.3
    assert experiment.arms["projected"].embedding.output_projection.penalty == 0.15
    assert experiment.arms["projected"].embedding.init == experiment.arms["tied"].embedding.init
    assert experiment.arms["tied"].embedding.output_projection is None
    assert experiment.declared == ("embedding.output_projection.penalty", "tie")


def test_runs_come_seed_by_seed_in_the_order_of_the_file():
    experiment = resolve()
    assert [(run.seed, run.arm) for run in experiment.list_runs()] == [
        (seed, arm) for seed in (3, 1) for arm in ("untied", "tied", "projected")
    ]
    chosen = experiment.list_runs(arms=["tied", "tied"], seeds=[9, 9, 3])
    assert [run.name for run in chosen] == ["sound/tied/seed-9", "sound/tied/seed-3"]
    with pytest.raises(UsageError, match="x.yaml has no arm 'tide'") as caught:
        experiment.list_runs(arms=["tide"])
    assert "did you mean 'tied'" in caught.value.hint


@pytest.mark.parametrize(
    ("tie", "arm"), [("true", "tied"), ("false", "untied"), ("{type: tied}", "tied"), ("untied", "untied")]
)
def test_a_file_without_arms_has_one_named_after_its_tie(tie, arm):
    experiment = resolve(TEXT[: TEXT.index("arms:")] + f"tie: {tie}\n")
    assert list(experiment.arms) == [arm] and experiment.declared == ("tie",)


def test_what_is_left_out_has_its_defaults(tmp_path):
    text = TEXT.replace("name: sound\n", "").replace("seeds: [3, 1]\n", "").replace("description: A small one.\n", "")
    experiment = load_experiment(write(tmp_path, text))
    assert (experiment.name, experiment.seeds, experiment.description) == ("my-file", (1,), "")
    spec = experiment.arms["tied"]
    assert spec.vocabulary.type == "words" and spec.training.schedule.type == "constant"
    assert spec.architecture.dropout == 0.0, "an entry's own defaults are filled in"
    assert spec.evaluation.train is False


def test_seeds_have_offsets_of_their_own_unless_the_file_says_otherwise():
    assert all(arm.training.random_offset is True for arm in resolve().arms.values())
    off = resolve(TEXT.replace("  window: 10\n", "  window: 10\n  random_offset: false\n"))
    assert all(arm.training.random_offset is False for arm in off.arms.values())
    bare = resolve().arms["tied"].model_dump(mode="json")
    del bare["training"]["random_offset"]
    assert ArmSpec.model_validate(bare).training.random_offset is None, "a record from before the option had none"


def test_overrides_reach_every_arm_and_are_remembered(tmp_path):
    overrides = ("training.steps=5", "arms.tied.embedding.width=8", "name=other")
    experiment = load_experiment(write(tmp_path), overrides=overrides)
    assert {(arm.training.epochs, arm.training.steps) for arm in experiment.arms.values()} == {(None, 5)}
    assert {name: arm.embedding.width for name, arm in experiment.arms.items()} == {
        "untied": None,
        "tied": 8,
        "projected": None,
    }
    assert experiment.altered == overrides and experiment.name == "other"
    assert all(run.altered == overrides for run in experiment.list_runs())
    with pytest.raises(UsageError, match="arm 'untied' sets tie itself"):
        load_experiment(write(tmp_path), overrides=("tie=true",))


def test_a_wrong_override_is_said_as_an_override(tmp_path):
    with pytest.raises(UsageError, match=r"--set training.window=0: training.window: found 0; .*greater than 0"):
        load_experiment(write(tmp_path), overrides=("training.window=0",))


def test_everything_that_is_wrong_is_said_once_with_its_line():
    text = (
        TEXT.replace("name: sound", "name: Not Sound")
        .replace("layers: 1", "layer: 1")
        .replace("window: 10", "window: ten")
        .replace("{uniform: 0.1}", "{uniform: -0.1}")
        .replace("type: sgd", "type: sdg")
        .replace("[3, 1]", "[3, three]")
        .replace("penalty: 0.15", "penalty: much")
    )
    problems = explain(text)
    assert [problem.partition(": ")[0] for problem in sorted(problems, key=lambda line: int(line.split(":")[1]))] == [
        "x.yaml:1",
        "x.yaml:4",
        "x.yaml:4",
        "x.yaml:5",
        "x.yaml:9",
        "x.yaml:10",
        "x.yaml:11",
        "x.yaml:15",
    ]
    said = "\n".join(problems)
    for fragment in (
        "architecture.layer: found 1; unknown key; did you mean 'layers'?",
        "architecture.layers: this key is needed",
        "training.window: found 'ten'; expected a whole number",
        "training.optimizer.type: found 'sdg'; did you mean 'sgd'?",
        "arms.projected.embedding.output_projection.penalty: found 'much'; expected a number",
    ):
        assert fragment in said, said


def test_a_problem_of_the_shared_part_is_not_said_once_for_each_arm():
    assert len(explain(TEXT.replace("batch_size: 4", "batch_size: 0"))) == 1


def test_a_near_miss_is_answered_with_a_suggestion_and_all_that_is_allowed():
    assert did_you_mean("lsmt", ["lstm", "gpt2"]) == "did you mean 'lstm'? allowed: gpt2, lstm"
    assert did_you_mean("zzz", ["lstm", "gpt2"]) == "allowed: gpt2, lstm"


def test_checks_between_fields_are_made_where_other_fields_are_wrong():
    text = (
        TEXT.replace("epochs: 2", "epochs: 2\n  steps: 3")
        .replace("window: 10", "window: ten")
        .replace("batch_size: 4", "batch_size: 4\n  accumulate: 3")
        .replace("{uniform: 0.1}", "{uniform: 0.1, normal: 0.2}")
        .replace("layers: 1, width: 16", "layers: x, width: 16, masks: per_gate, dropout_hidden: 0.1")
    )
    said = "\n".join(explain(text))
    for fragment in (
        "training.window: found 'ten'",
        "give exactly one budget out of 'epochs', 'steps' and 'tokens'; found epochs and steps",
        "accumulate (3) must divide batch_size (4)",
        "exactly one of 'uniform' and 'normal'",
        "masks: per_gate belongs to variational dropout",
        "architecture.layers: found 'x'",
    ):
        assert fragment in said, said


def test_a_check_says_nothing_about_a_value_that_is_wrong_itself():
    assert len(explain(TEXT.replace("epochs: 2", "epochs: two"))) == 1
    assert len(explain(TEXT.replace("batch_size: 4", "batch_size: four\n  accumulate: 3"))) == 1
    assert len(explain(TEXT.replace("  batch_size: 4\n", "  accumulate: 3\n"))) == 1


def test_a_typo_at_the_top_is_compared_with_all_keys_that_stand_there():
    (said,) = explain(TEXT.replace("seeds: [3, 1]", "seed: [3, 1]"))
    assert (
        said.startswith("x.yaml:11: seed: unknown key; did you mean 'seeds'?") and "arms, " in said and "corpus" in said
    )
    (said,) = explain(TEXT.replace("description:", "descripton:"))
    assert "did you mean 'description'?" in said


def test_a_shorthand_that_is_wrong_in_an_arm_has_its_line():
    assert explain(TEXT.replace("untied: {tie: false}", "untied: {tie: flase}")) == [
        "x.yaml:13: arms.untied.tie.type: found 'flase'; allowed: three-way, tied, untied, untied-late"
    ]


def test_a_description_is_text_and_a_long_value_is_cut():
    assert explain(TEXT.replace("A small one.", "[1]")) == ["x.yaml:2: description: found [1]; expected text"]
    (said,) = explain(TEXT.replace("window: 10", f"window: {'x' * 10_000}"))
    assert len(said) < 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("layers: 1", "layers: 1001"), "less than or equal to 1000"),
        (("width: 16", "width: 1000001"), "less than or equal to 1000000"),
        (("window: 10", f"window: {10**30}"), "less than or equal to 10000000"),
        (("epochs: 2", f"epochs: {10**13}"), "less than or equal to 1000000000000"),
        (("3e-1", "1e39"), "less than or equal to 3e+38"),
        (("3e-1", "1e400"), "finite number"),
        (("[3, 1]", f"[{2**63}]"), "of 0 to 9223372036854775807"),
        (("corpus: pydocs", "corpus: pydocs\nvocabulary: {type: bpe, size: 1000001}"), "less than or equal to 1000000"),
    ],
)
def test_every_number_has_a_bound_that_is_said(change, says):
    (said,) = explain(TEXT.replace(*change))
    assert says in said, said


def test_claims_are_no_experiment():
    with pytest.raises(UsageError, match="is a file of claims") as caught:
        resolve("paper: {}\nclaims: {}\n")
    assert "tiebench reproduce" in caught.value.hint


def test_a_match_that_is_wrong_has_its_line():
    said = explain(TEXT.replace("projected: {", "projected: {match: {size: untied}, "))
    assert len(said) == 2 and all(line.startswith("x.yaml:15: arms.projected.match") for line in said)
    assert "unknown key" in said[0] and "exactly one of parameters, flops, bytes" in said[1]
