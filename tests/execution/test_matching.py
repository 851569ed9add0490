"""An arm as large as another one: the nearest width or number of layers, whole heads, and what is left over."""

import json

import pytest
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.errors import UsageError
from tiebench.execution.matching import count_amount, find_nearest, match_runs, resize
from tiebench.execution.plan import plan_runs
from tiebench.execution.run import execute_run
from tiebench.execution.run_data import load_data
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store

LSTM = {"type": "lstm", "layers": 1, "width": 16}
GPT = {"type": "gpt2", "layers": 2, "width": 32, "heads": 4, "positions": 64}
LLAMA = {"type": "llama", "layers": 2, "width": 32, "heads": 4}


def plan_match(write_experiment, match: dict, *, architecture: dict = LSTM, arm: str = "tied"):
    """The matched run, the run it was matched with, and the size of their vocabulary."""
    arms = {"untied": {"tie": False}, "tied": {"tie": True}}
    arms[arm]["match"] = match
    runs = {run.arm: run for run in load_experiment(write_experiment(architecture=architecture, arms=arms)).list_runs()}
    found = {run.arm: run for run in match_runs(list(runs.values()))}
    return found.pop(arm), next(iter(found.values())), load_data(runs["untied"]).vocabulary.size


@pytest.mark.parametrize("architecture", [LSTM, GPT, LLAMA], ids=["lstm", "gpt2", "llama"])
@pytest.mark.parametrize("amount", ["parameters", "bytes"])
def test_no_other_width_is_nearer_and_heads_stay_whole(amount, architecture, write_experiment):
    run, other, size = plan_match(write_experiment, {amount: "untied"}, architecture=architecture)
    target = count_amount(other.spec, amount, vocabulary_size=size)
    step = {"lstm": 1, "gpt2": 4, "llama": 8}[architecture["type"]]
    width = run.spec.architecture.width
    assert width >= architecture["width"] and width % step == 0
    assert architecture is LLAMA or width > architecture["width"], "its feed-forward nets grow in steps of 32"
    gaps = {
        tried: abs(count_amount(resize(run.spec, "width", tried), amount, vocabulary_size=size) - target)
        for tried in range(step, 2 * width, step)
    }
    assert gaps[width] == min(gaps.values())
    assert type(run.spec).model_validate(run.spec.model_dump()) == run.spec, "it could have been written"
    assert run.spec.tie.type == "tied" and run.match is None


def test_flops_are_matched_by_layers(write_experiment):
    run, other, size = plan_match(
        write_experiment, {"flops": "tied", "by": "layers"}, architecture={**GPT, "layers": 3}, arm="untied"
    )
    assert run.spec.architecture.layers == 3, "a tie costs no operations"
    assert count_amount(run.spec, "flops", vocabulary_size=size) == count_amount(
        other.spec, "flops", vocabulary_size=size
    )


def test_bytes_are_those_of_parameters_in_float32(write_experiment):
    run, _, size = plan_match(write_experiment, {"parameters": "untied"})
    counts = [count_amount(run.spec, amount, vocabulary_size=size) for amount in ("bytes", "parameters")]
    assert counts[0] == 4 * counts[1]


def test_what_is_left_over_stands_in_check_and_in_the_record(write_experiment, tmp_path):
    file = write_experiment(arms={"untied": {"tie": False}, "tied": {"tie": True, "match": {"parameters": "untied"}}})
    shown = CliRunner().invoke(app, ["check", str(file), "--json"])
    (remark,) = json.loads(shown.stdout)["remarks"]["tied"]
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    plan = plan_runs(load_experiment(file).list_runs(), settings=settings)
    records = {run.arm: execute_run(run, settings=settings) for run in plan.runs}
    totals = {arm: record.parameters.total for arm, record in records.items()}
    assert f"{totals['tied']:,} beside {totals['untied']:,}" in remark
    assert f"({100 * (totals['tied'] / totals['untied'] - 1):+.3g} %)" in remark
    assert remark in records["tied"].warnings and not records["untied"].warnings
    width = records["tied"].spec.architecture.width
    assert f"architecture.width {width} was found" in remark and width > 16
    assert records["tied"].declared == ["architecture.width", "tie"]
    assert remark in CliRunner().invoke(app, ["check", str(file)]).stdout.replace("\n", "")
    again = plan_runs(load_experiment(file).list_runs(), settings=settings)
    assert not again.pending, "the match finds the same width, and with it the same run"


def test_a_run_that_was_not_planned_is_matched_before_it_is_trained(write_experiment, tmp_path):
    file = write_experiment(arms={"untied": {"tie": False}, "tied": {"tie": True, "match": {"parameters": "untied"}}})
    (run,) = load_experiment(file).list_runs(arms=["tied"])
    record = execute_run(run, settings=Settings(store=Store(tmp_path / "results"), device="cpu"))
    assert record.signature != run.signature and record.spec.architecture.width > 16


def test_finished_runs_of_a_matched_arm_are_found_whether_or_not_runs_are_trained(write_experiment, tmp_path):
    file = write_experiment(arms={"untied": {"tie": False}, "tied": {"tie": True, "match": {"parameters": "untied"}}})
    invoke, place = CliRunner().invoke, ["--results", str(tmp_path / "results")]
    for seed in ("1", "2"):
        invoke(app, ["train", str(file), "--jobs", "1", "--seed", seed, *place])
    for how in ("--no-train", "--jobs=1"):
        shown = invoke(app, ["compare", "--config", str(file), "--json", how, *place])
        assert shown.exit_code == 0, shown.output
        numbers = [arm["perplexity"]["test"]["num_seeds"] for arm in json.loads(shown.stdout)[0]["arms"]]
        assert numbers == [2, 2], "seed 2 is not in the file, and is of the same spec"
    looks = ["--until-decided", "--max-seeds", "2", "--no-train"]
    looked = invoke(app, ["compare", "--config", str(file), *looks, *place])
    assert looked.exit_code == 0, looked.output


@pytest.mark.parametrize(
    ("match", "fragments"),
    [
        ({"parameters": "untide"}, ("arms.tied.match.parameters", "did you mean 'untied'")),
        ({"parameters": "tied"}, ("arms.tied.match.parameters", "untied")),
        ({"parameters": "untied", "flops": "untied"}, ("arms.tied.match", "exactly one of parameters, flops, bytes")),
        ({}, ("arms.tied.match", "exactly one")),
        ({"parameters": "untied", "by": "depth"}, ("arms.tied.match.by", "width", "layers")),
        ({"parametres": "untied"}, ("arms.tied.match.parametres", "parameters")),
    ],
    ids=str,
)
def test_a_match_that_means_nothing_is_an_error_with_its_place(match, fragments, write_experiment):
    file = write_experiment(arms={"untied": {"tie": False}, "tied": {"tie": True, "match": match}})
    with pytest.raises(UsageError) as caught:
        load_experiment(file)
    for fragment in fragments:
        assert fragment in caught.value.message, caught.value.message


def test_where_no_width_is_small_enough_the_amount_is_named(write_experiment):
    tiny = {"tie": True, "architecture": {"width": 1}}
    arms = {"tiny": tiny, "deep": {"tie": False, "architecture": {"layers": 40}, "match": {"parameters": "tiny"}}}
    with pytest.raises(UsageError, match=r"no width gives arm 'deep' the [0-9,]+ parameters of 'tiny'"):
        match_runs(load_experiment(write_experiment(arms=arms)).list_runs())


def test_the_search_finds_the_nearest_number_from_either_side():
    for target in range(1, 200):
        found = find_nearest(lambda number: number**2, target=target, largest=40)
        assert found == min(range(1, 20), key=lambda number: (abs(number**2 - target), number))
    assert find_nearest(lambda number: number + 5, target=5, largest=9) is None
    assert find_nearest(lambda number: number + 5, target=15, largest=9) is None
    assert find_nearest(lambda number: number + 5, target=14, largest=9) == 9
