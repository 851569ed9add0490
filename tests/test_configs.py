"""Every experiment in `configs/` loads, plans its runs and can be built, whichever it is."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tiebench.comparison.checks import check_specs
from tiebench.errors import UsageError
from tiebench.experiment.bundled import bundled_folder, find_config, list_claim_files, list_configs
from tiebench.experiment.differences import find_differences
from tiebench.experiment.grid import is_grid, load_grid
from tiebench.experiment.loading import Experiment, load_experiment
from tiebench.experiment.schema import ArmSpec
from tiebench.models.language_model import build_on_meta, count_parameters

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
GRIDS = [file for file in sorted(CONFIGS.glob("*.yaml")) if is_grid(file)]
EXPERIMENTS = [file for file in FILES if "claims" not in file.relative_to(CONFIGS).parts and file not in GRIDS]
VOCABULARY_SIZES = {"ptb": 10_000, "wikitext-2": 33_278, "wikitext-103": 267_735}
ANY_SIZE = 12_345


def name_file(file: Path) -> str:
    return str(file.relative_to(CONFIGS))


@cache
def load(file: Path) -> Experiment:
    return load_experiment(file)


def test_there_are_configs():
    assert len(EXPERIMENTS) >= 3
    assert {"quickstart", "ptb-lstm-small", "press-wolf-2017-small"} <= {file.stem for file in EXPERIMENTS}
    assert len(FILES) > len(EXPERIMENTS), "and claims"


@pytest.mark.parametrize("file", EXPERIMENTS, ids=name_file)
def test_an_experiment_loads_under_its_own_name_and_says_what_it_is(file):
    experiment = load(file)
    assert experiment.name == file.stem
    assert len(experiment.description) > 20
    runs = experiment.list_runs()
    assert len(runs) == len(experiment.arms) * len(experiment.seeds)
    assert len({run.signature for run in runs}) == len(runs), "two runs of an experiment would be the same"


@pytest.mark.parametrize("file", GRIDS, ids=name_file)
def test_every_cell_of_a_grid_is_such_an_experiment(file):
    grid = load_grid(file)
    assert grid.name == file.stem and len(grid.description) > 20
    runs = [run for cell in grid.cells for run in cell.experiment.list_runs()]
    assert len({run.signature for run in runs}) == len({run.name for run in runs}) == len(runs)
    for cell in grid.cells:
        check_arms(cell.experiment)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=name_file)
def test_every_arm_can_be_built(file):
    check_arms(load(file))


def check_arms(experiment):
    """Every arm can be built, with the embeddings that its tie says."""
    for arm, spec in experiment.arms.items():
        size = ANY_SIZE
        if spec.vocabulary.type == "words":
            size = spec.vocabulary.size or VOCABULARY_SIZES.get(spec.corpus.type, ANY_SIZE)
        model = build_on_meta(spec, vocabulary_size=size)
        counts = count_parameters(model)
        table = count_table(spec, size=size, width=spec.embedding.width or model.architecture.width)
        expected = {"tied": (0, 0, table), "untied": (table, table, 0), "three-way": (0, 0, table)}
        expected = (expected | {"untied-late": expected["tied"]})[spec.tie.type]
        if model.architecture.reads_source and spec.tie.type != "three-way":
            expected = (expected[0] + table, *expected[1:])  # the source's own
        assert (counts.input, counts.output, counts.shared) == expected, arm


def count_table(spec: ArmSpec, *, size: int, width: int) -> int:
    """What one end's matrices hold: a row of the embedding's width for each word, narrower ones in later bands."""
    adaptive = spec.embedding.adaptive
    ends = [0, *(adaptive.cutoffs if adaptive else ()), size]
    factor = adaptive.factor if adaptive else 1
    return sum((stop - start) * (width // factor**band) for band, (start, stop) in enumerate(pairwise(ends)))


@pytest.mark.parametrize("file", [*EXPERIMENTS, *GRIDS], ids=name_file)
def test_a_bundled_experiment_is_found_by_name(file):
    if file.parent == CONFIGS:
        assert list_configs()[file.stem] == find_config(file.stem)
        assert find_config(file.stem).read_bytes() == file.read_bytes()


def test_bundled_are_these_files_and_no_others():
    assert set(list_configs()) == {file.stem for file in (*EXPERIMENTS, *GRIDS) if file.parent == CONFIGS}
    assert {file.stem for file in FILES} == set(list_configs()) | set(list_claim_files())
    assert bundled_folder().is_dir()
    with pytest.raises(UsageError, match="no such file"):
        find_config("configs/nothing.yaml")


@pytest.mark.parametrize("file", FILES, ids=name_file)
def test_a_file_is_ordinary_yaml_too(file):
    assert isinstance(yaml.safe_load(file.read_text("utf-8")), dict)


def test_the_quickstart_compares_tied_with_untied_at_several_seeds():
    experiment = load(CONFIGS / "quickstart.yaml")
    assert list(experiment.arms) == ["untied", "tied"] and len(experiment.seeds) >= 3
    assert experiment.arms["tied"].corpus.type == "pydocs", "what every machine has"
    assert experiment.declared == ("tie", "training.optimizer.learning_rate")
    assert experiment.untuned == ["untied", "tied"], "each gets its own"


@pytest.mark.parametrize("name", ["precision-ptb", "precision-gpt2-ptb"])
def test_precision_is_all_that_its_experiments_differ_in(name):
    """Both arms are scored in fp32, so that the comparison is of what was trained and not of how it was scored."""
    experiment = load(CONFIGS / f"{name}.yaml")
    specs = {arm: spec.model_dump() for arm, spec in experiment.arms.items()}
    assert find_differences(specs, spell_out=True) == [("training.precision", {"fp32": "fp32", "bf16": "bf16"})]
    assert experiment.declared == ("training.precision",)
    check_specs(experiment.arms)


def test_the_authors_program_of_2017_is_the_text_with_their_switches():
    """What `ptb_word_lm_WT_PR.py` does otherwise than the paper says, and nothing else."""
    text, program = (load(CONFIGS / f"press-wolf-2017-small{end}.yaml").arms for end in ("", "-as-coded"))
    assert list(text) == list(program)
    for arm in program:
        differences = find_differences(
            {"text": text[arm].model_dump(), "program": program[arm].model_dump()}, spell_out=True
        )
        found = {path: values["program"] for path, values in differences}
        penalty = found.pop("embedding.output_projection.penalty", None)
        projection = {
            "embedding.output_projection.form": "code",
            "embedding.output_projection.bias": True,
            "embedding.output_projection.bias_init.uniform": 0.1,
        }
        expected = {
            "architecture.biases": "one",
            "embedding.output_bias_init.uniform": 0.1,
            "evaluation.valid_batch_size": 20,
            "training.drop_partial_window": True,
            "training.optimizer.clip_lookups": "unsummed",
            "training.schedule.hold_epochs": 5,
        }
        assert found == expected | (projection if "projected" in arm else {}), arm
        assert penalty == (1 / 6.5 if "projected" in arm else None)
        assert (program[arm].evaluation.checkpoint, program[arm].training.random_offset) == ("last", False)
    totals = {arm: count_parameters(build_on_meta(spec, vocabulary_size=10_000)).total for arm, spec in program.items()}
    assert {arm: round(total / 1e6, 2) for arm, total in totals.items()} == {
        "untied": 4.65,
        "tied": 2.65,
        "untied-projected": 4.69,
        "tied-projected": 2.69,
    }, "as the paper prints them"


@pytest.mark.parametrize(
    "file", sorted(CONFIGS.glob("press-wolf-2017-*.yaml")) + sorted(CONFIGS.glob("zaremba-*.yaml"))
)
def test_what_the_authors_scored_last_is_scored_last(file):
    """Their programs (PTB in Lua and in TensorFlow, Bayesian dropout in Lua) train to the end and score that model."""
    specs = load(file).arms.values()
    assert {spec.evaluation.checkpoint for spec in specs} == {"last"}
    assert {spec.training.random_offset for spec in specs} == {False}, "and begin at the beginning"
