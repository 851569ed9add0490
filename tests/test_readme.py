"""What the README says can be typed, loaded and run."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from precision import bound_error
from torch.nn import functional as F
from typer.main import get_command

from tiebench.cli.app import app
from tiebench.experiment.embedding_config import EmbeddingConfig
from tiebench.experiment.loading import load_experiment
from tiebench.models.language_model import build_model, count_parameters

ROOT = Path(__file__).parents[1]
TEXT = (".py", ".yaml", ".yml", ".md", ".toml", ".ipynb", ".sh")
README = (ROOT / "README.md").read_text("utf-8")
SHELL = "\n".join(re.findall(r"```\n(.*?)```", README, flags=re.DOTALL))
COMMANDS = re.findall(r"^(?:\$ )?(tiebench .*)$", SHELL, flags=re.MULTILINE)
TARGETS = re.findall(r"^make (\S+)", SHELL, flags=re.MULTILINE)


def test_the_two_commands_are_makefile_targets():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert {"compare", "test"} <= set(TARGETS)
    for target in TARGETS:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_after_make_the_command_is_put_on_the_path():
    assert "`source .venv/bin/activate` puts\n`tiebench` on your PATH" in README


def test_the_data_folder_is_named_by_its_variable_alone():
    """The place where the tests' machine has its data stands in `.ci/run`, and nowhere else."""
    folders = ("src", "tests", "configs", "scripts", "benchmarks", "examples", ".github")
    files = [
        file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in TEXT and file.is_file()
    ]
    files += [ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("*.md")]
    assert len(files) > 300
    place = "../" + "shared"
    assert [file.relative_to(ROOT) for file in files if place in file.read_text("utf-8")] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_parses(line):
    words = shlex.split(line, comments=True)[1:]
    command = get_command(app).commands[words[0]]
    placeholders = {"CONFIG": "quickstart", "RUN": "results/quickstart/tied/seed-1"}
    arguments = [placeholders.get(word, word) for word in words[1:]]
    command.make_context(words[0], arguments)


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z-]+)", README))))
def test_every_option_exists(option):
    known = {name for command in get_command(app).commands.values() for one in command.params for name in one.opts}
    assert option in known


def test_the_example_experiment_loads_and_builds(tmp_path):
    text = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)[0]
    file = tmp_path / "my-experiment.yaml"
    file.write_text(text, "utf-8")
    experiment = load_experiment(file)
    assert list(experiment.arms) == list(yaml.safe_load(text)["arms"])
    totals = {arm: count_parameters(build_model(spec, vocabulary_size=8192)) for arm, spec in experiment.arms.items()}
    assert totals["untied"].total - totals["tied"].total == 8192 * 256
    assert totals["tied"] == totals["tied-scaled"]


def test_the_example_tie_is_whole():
    """A tie whose output embedding is computed from a parameter still gets the right gradient."""
    entry: dict = {"__name__": "negated"}
    exec(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0], entry)
    embedding = entry["build"](None, EmbeddingConfig(), vocabulary_size=30, width=8)
    torch.manual_seed(1)
    embedding.shared.data.normal_()
    tokens, targets = torch.randint(0, 30, (2, 2, 5))
    embedding.loss(embedding.embed(tokens), targets, scale=0.5).backward()
    found, embedding.shared.grad = embedding.shared.grad.clone(), None
    logits = embedding.logits(embedding.embed(tokens))
    (0.5 * F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")).backward()
    # sums over 8 products, 30 words and 10 tokens, of absolute values below 20 in a score and 40 in a gradient
    torch.testing.assert_close(found, embedding.shared.grad, rtol=0.0, atol=bound_error(8 + 30 + 10, size=40.0))


def test_the_printed_outputs_are_those_of_the_published_records(tmp_path):
    refresh = runpy.run_path(str(ROOT / "scripts" / "refresh_pages.py"))
    results = refresh["copy_published"](ROOT, tmp_path)
    assert refresh["BLOCK"].search(README), "the README shows no output"
    assert refresh["fill_blocks"](README, results=results) == README, "run scripts/refresh_pages.py"
    page = (ROOT / "results" / "README.md").read_text("utf-8")
    assert refresh["render_results"](results) == page, "run scripts/refresh_pages.py"


def test_the_pages_of_grids_are_those_of_the_published_records(tmp_path):
    refresh = runpy.run_path(str(ROOT / "scripts" / "refresh_pages.py"))
    files = refresh["render_grids"](refresh["copy_published"](ROOT, tmp_path))
    assert set(files) >= {"map-small.md", "map-small.svg"}
    for name, text in files.items():
        assert (ROOT / "results" / name).read_text("utf-8") == text, f"{name}: run scripts/refresh_pages.py"
