"""Which engine is chosen: by the option, else by the settings file, whose mistakes are named with file and key."""

import pytest

from tiebench.errors import UsageError
from tiebench.execution import engine_config
from tiebench.execution.engine_config import LocalEngine, SlurmEngine, choose_engine, choose_trackers


@pytest.fixture
def write(tmp_path):
    def write_file(text):
        file = tmp_path / "tiebench.toml"
        file.write_text(text, "utf-8")
        return file

    return write_file


def pretend_installed(monkeypatch):
    monkeypatch.setattr(engine_config, "find_spec", lambda name: True)
    monkeypatch.setattr(engine_config.shutil, "which", lambda name: f"/usr/bin/{name}")


def test_without_option_and_file_it_is_this_machine(tmp_path):
    assert choose_engine(file=tmp_path / "tiebench.toml") == LocalEngine()


def test_the_file_chooses_and_the_option_comes_first(write, monkeypatch):
    pretend_installed(monkeypatch)
    file = write('[engine]\ntype = "slurm"\ncpus = 4\npartition = "short"\n')
    assert choose_engine(file=file) == SlurmEngine(cpus=4, partition="short")
    assert choose_engine("local", file=file) == LocalEngine()
    assert choose_engine("slurm", file=write('[engine]\ntype = "ray"\ncpus = 9\n')) == SlurmEngine()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[engine]\ntype = 'slurm'\npartitoin = 'a'\n", "unknown key 'engine.partitoin' of the engine slurm"),
        ("[engines]\n", "unknown key 'engines'"),
        ("engine = 3\n", "engine is 3, not a block"),
        ("[engine]\ntype = 'slurm'\ncpus = 'many'\n", "engine.cpus"),
        ("[engine]\ntype = 'slurm'\ncpus = 0\n", "engine.cpus"),
        ("[engine]\ntype = 'slumr'\n", "engine.type 'slumr' is no engine"),
        ("[engine]\ntype = [1]\n", "is no engine"),
        ("[engine\n", "cannot be read"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_file_and_key(write, text, named, monkeypatch):
    pretend_installed(monkeypatch)
    file = write(text)
    with pytest.raises(UsageError) as caught:
        choose_engine(file=file)
    assert str(file) in caught.value.message and named in caught.value.message and caught.value.hint


def test_an_unknown_engine_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(UsageError, match="--engine slrum is no engine") as caught:
        choose_engine("slrum", file=tmp_path / "tiebench.toml")
    assert "did you mean 'slurm'" in caught.value.hint and "local, ray, slurm" in caught.value.hint


@pytest.mark.parametrize(("engine", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_an_absent_extra_is_refused_with_the_line_that_installs_it(engine, package, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_config, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"needs the package {package}") as caught:
        choose_engine(engine, file=tmp_path / "tiebench.toml")
    assert f"pip install 'tiebench[{engine}]'" in caught.value.hint


def test_one_that_is_given_whole_is_taken_as_it_is_where_it_is_installed(monkeypatch):
    pretend_installed(monkeypatch)
    assert choose_engine(SlurmEngine(cpus=4)) == SlurmEngine(cpus=4)
    monkeypatch.setattr(engine_config, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package submitit"):
        choose_engine(SlurmEngine(cpus=4))


def test_slurm_needs_its_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_config, "find_spec", lambda name: True)
    monkeypatch.setattr(engine_config.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="needs the command sbatch"):
        choose_engine("slurm", file=tmp_path / "tiebench.toml")


def test_trackers_stand_in_the_file_and_the_option_comes_first(write, tmp_path):
    file = write('callbacks = ["tensorboard", "wandb"]\n[engine]\ntype = "local"\n')
    assert choose_trackers(file=file) == ("tensorboard", "wandb") and choose_engine(file=file) == LocalEngine()
    assert choose_trackers(["trackio"], file=file) == ("trackio",)
    assert choose_trackers(file=tmp_path / "missing.toml") == ()
    with pytest.raises(UsageError, match="callbacks is 'wandb', not a list of names"):
        choose_trackers(file=write('callbacks = "wandb"\n'))
