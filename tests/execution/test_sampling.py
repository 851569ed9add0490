"""Text after a prompt that is longer than what the model sees at once."""

from tiebench.execution.run import execute_run
from tiebench.execution.sampling import sample_text
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.store import Store


def test_of_a_long_prompt_the_model_sees_the_end(write_experiment, tmp_path):
    body = {"type": "gpt2", "layers": 1, "width": 16, "heads": 2, "positions": 10}
    (run,) = load_experiment(write_experiment(architecture=body, arms=None, tie=True)).list_runs()
    settings = Settings(store=Store(tmp_path / "results"), device="cpu")
    execute_run(run, settings=settings)
    folder = settings.store.folder(run.experiment, run.arm, run.seed)
    prompts = [" ".join(["the"] * number) for number in (20, 30)]
    texts = [sample_text(folder, prompt=prompt, num_tokens=4, temperature=0.0, seed=1) for prompt in prompts]
    after = [text.removeprefix(prompt) for text, prompt in zip(texts, prompts, strict=True)]
    assert after[0] and after[0] == after[1] != texts[1]
