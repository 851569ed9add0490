"""The same workloads in other programs beside ours, interleaved in fresh processes: ratios with their spread.

    python benchmarks/bench_peers.py --word-language-model DIR --nano-gpt DIR

DIR is the folder with the program's model.py. Every process gets the same number of threads. On a CPU a peer runs as
shipped, and once more with the settings of allocator and OpenMP that tiebench makes for itself; on CUDA it runs as
shipped, in the workload's precision (float32 without TF32 in any), nanoGPT with its own compilation. Every round
begins with another program. With --bf16 a CPU's workloads are taken in bfloat16 too, peers under torch's autocast; the
page then has our rate in bfloat16 over theirs in both precisions, of the same round.
Refused where other work takes more than 5 % of the machine, unless --busy says that it is known, and then the page
says it. Writes performance.json, or performance-cuda.json (every sample, by processor: those of other processors stay),
and performance.md into --results.
"""

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quiet_machine import check_quiet, describe_processor, look_at_machine, measure_other_work, read_other_work

from tiebench.cli.app import SPINS
from tiebench.execution.workloads import HALF

KEEP = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647:glibc.malloc.top_pad=67108864"
ALLOCATORS = {"shipped": {}, "tuned": {"GLIBC_TUNABLES": KEEP, "GOMP_SPINCOUNT": SPINS}}
OURS = "tiebench"
PEERS = {"lstm": ("word_language_model",), "gpt": ("nanoGPT", "HF GPT2LMHeadModel")}
WORKLOADS = ("lstm-200-ptb", "lstm-200-wikitext-2", "lstm-650-wikitext-2", "gpt-256-ptb", "gpt-256-wikitext-2")
ON_CUDA = (*WORKLOADS, "lstm-650-ptb", "lstm-1500-ptb", "gpt2-small")
EVALUATION_BATCH = 10
Step = Callable[[], int]


def build_word_language_model(run: Any, vocabulary_size: int, ids: Any, *, folder: Path) -> tuple[Step, Step]:
    """pytorch/examples: its model, and the body of its loops for training and for evaluation (batches of 10)."""
    import torch

    options, training = run.spec.architecture, run.spec.training
    width, tied, window = options.width, run.spec.tie.type == "tied", training.window
    model = load_model(folder).RNNModel("LSTM", vocabulary_size, width, width, 2, options.dropout, tied)
    model.to(ids.device)
    criterion, place = torch.nn.NLLLoss(), {"train": 0, "score": 0}
    in_training, in_scoring = ask_autocasts(run, ids.device.type)
    rows = {"train": training.batch_size, "score": EVALUATION_BATCH}
    cut = {kind: ids[: len(ids) // number * number].view(number, -1) for kind, number in rows.items()}
    batches = {kind: columns.t().contiguous() for kind, columns in cut.items()}
    hidden = {kind: model.init_hidden(number) for kind, number in rows.items()}

    def read(kind: str) -> tuple[Any, Any]:
        start = place[kind] = place[kind] % (len(batches[kind]) - window - 1)
        place[kind] += window
        return batches[kind][start : start + window], batches[kind][start + 1 : start + 1 + window].reshape(-1)

    def train() -> int:
        inputs, targets = read("train")
        model.train()
        model.zero_grad()
        with in_training:
            output, state = model(inputs, tuple(part.detach() for part in hidden["train"]))
            loss = criterion(output, targets)
        hidden["train"] = state
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.optimizer.clip_norm)
        for parameter in model.parameters():
            parameter.data.add_(parameter.grad, alpha=-training.optimizer.learning_rate)
        return targets.numel()

    @torch.no_grad()
    def score() -> int:
        inputs, targets = read("score")
        model.eval()
        with in_scoring:
            output, hidden["score"] = model(inputs, hidden["score"])
            criterion(output, targets).item()
        return targets.numel()

    return train, score


def build_nano_gpt(run: Any, vocabulary_size: int, ids: Any, *, folder: Path) -> tuple[Step, Step]:
    """nanoGPT: its model (tied by construction), its optimizer and the body of its loop."""
    import torch

    options, asked = run.spec.architecture, run.spec.training.optimizer
    module = load_model(folder)
    sizes = {"n_layer": options.layers, "n_head": options.heads, "n_embd": options.width}
    config = module.GPTConfig(block_size=run.spec.training.window, vocab_size=vocabulary_size, bias=True, **sizes)
    model = module.GPT(config)
    model.to(ids.device)
    optimizer = model.configure_optimizers(asked.weight_decay, asked.learning_rate, asked.betas, ids.device.type)
    if ids.device.type == "cuda":
        model = torch.compile(model)
    return build_steps(model, optimizer, run, ids, ask=lambda inputs, targets: model(inputs, targets)[1])


def build_hugging_face(run: Any, vocabulary_size: int, ids: Any, *, folder: Path | None) -> tuple[Step, Step]:
    """GPT2LMHeadModel of the installed transformers, with torch's fused AdamW (the default of its Trainer)."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    options, asked = run.spec.architecture, run.spec.training.optimizer
    sizes = {"n_layer": options.layers, "n_head": options.heads, "n_embd": options.width}
    quiet = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    tied = run.spec.tie.type == "tied"
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary_size,
            n_positions=run.spec.training.window,
            use_cache=False,
            tie_word_embeddings=tied,
            bos_token_id=0,
            eos_token_id=0,
            **sizes,
            **quiet,
        )
    )
    model.to(ids.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=asked.learning_rate, betas=asked.betas, fused=True, weight_decay=asked.weight_decay
    )

    def ask(inputs: Any, targets: Any) -> Any:
        logits = model(inputs).logits
        return torch.nn.functional.cross_entropy(logits.view(-1, vocabulary_size), targets.reshape(-1))

    return build_steps(model, optimizer, run, ids, ask=ask)


def build_steps(model: Any, optimizer: Any, run: Any, ids: Any, *, ask: Callable[[Any, Any], Any]) -> tuple[Step, Step]:
    """A training and a scoring step of a transformer; `ask(inputs, targets)` is its mean loss.

    As ours, it scores in the precision of the evaluation, and as many windows at a time.
    """
    import torch

    from tiebench.training.evaluation import WINDOWS_AT_ONCE

    training = run.spec.training
    rows = ids[: len(ids) // training.window * training.window].view(-1, training.window)
    num_scored = run.spec.evaluation.batch_size or WINDOWS_AT_ONCE
    in_training, in_scoring = ask_autocasts(run, ids.device.type)

    def read(number: int) -> tuple[Any, Any]:
        chosen = rows[torch.randint(len(rows), (number,), device=ids.device)]
        return chosen, chosen.roll(-1, 1)

    def train() -> int:
        model.train()
        with in_training:
            loss = ask(*read(training.batch_size))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return training.batch_size * training.window

    @torch.no_grad()
    def score() -> int:
        model.eval()
        with in_scoring:
            ask(*read(num_scored)).item()
        return num_scored * training.window

    return train, score


def ask_autocasts(run: Any, device_type: str) -> tuple[Any, Any]:
    """For training and for scoring: torch's autocast to bfloat16, switched on where the workload asks for it."""
    import torch

    precisions = run.spec.training.precision, run.spec.evaluation.precision
    training, scoring = (
        torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bf16") for precision in precisions
    )
    return training, scoring


def load_model(folder: Path) -> Any:
    """The `model.py` of a checkout. It is registered, because dataclasses look their module up."""
    spec = importlib.util.spec_from_file_location("peer_model", folder / "model.py")
    sys.modules["peer_model"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDERS = {
    "word_language_model": build_word_language_model,
    "nanoGPT": build_nano_gpt,
    "HF GPT2LMHeadModel": build_hugging_face,
}


def take_sample(
    program: str, workload: str, arm: str, *, folder: Path | None, seconds: float, threads: int, device: str
) -> dict:
    """One measurement, in this process."""
    from tiebench.execution import bench, environment

    if program == OURS:
        return bench.measure_arm(workload, arm=arm, seconds=seconds, num_threads=threads, device=device).figures()
    import torch

    from tiebench.execution.workloads import open_workload
    from tiebench.training.precision import keep_float32

    torch.set_num_threads(threads)
    keep_float32()
    place = torch.device(device)
    opened = open_workload(workload, arm=arm, device=device)
    ids = torch.from_numpy(opened.streams["train"].ids).long().to(place)
    train, score = BUILDERS[program](opened.run, opened.vocabulary_size, ids, folder=folder)
    environment.restart_peak_memory(place)
    return {
        "train_tokens_per_second": time_steps(train, seconds=seconds, device=place),
        "evaluation_tokens_per_second": time_steps(score, seconds=seconds, device=place),
        "peak_memory_bytes": environment.measure_peak_memory(place),
    }


def time_steps(step: Step, *, seconds: float, device: Any) -> float:
    """Tokens per second of the median step, after three steps to warm up."""
    from tiebench.execution.bench import Clock

    clock, rates = Clock(device), []
    for _ in range(3):
        step()
    clock.lap()
    ends = time.perf_counter() + seconds
    while len(rates) < 5 or time.perf_counter() < ends:
        num_tokens = step()
        rates.append(num_tokens / clock.lap())
    return statistics.median(rates)


def list_contestants(workload: str, folders: dict[str, Path | None], *, device: str = "cpu") -> list[tuple[str, str]]:
    """(program, allocator): ours, then each peer of this kind whose code is at hand, with each allocator.

    In bfloat16 peers have our settings of the allocator alone: as shipped nobody runs them so on a CPU.
    """
    peers = [peer for peer in PEERS[re.match("[a-z]+", workload)[0]] if peer.startswith("HF") or folders.get(peer)]
    allocators = ("shipped",) if device != "cpu" else ("tuned",) if workload.endswith(HALF) else ALLOCATORS
    return [(OURS, "tuned"), *((peer, allocator) for peer in peers for allocator in allocators)]


def list_arms(workload: str) -> tuple[str, ...]:
    """nanoGPT has one table only, so transformers are compared tied."""
    return ("untied", "tied") if workload.startswith("lstm") else ("tied",)


def spawn_sample(program: str, allocator: str, workload: str, arm: str, *, asked: argparse.Namespace) -> dict:
    """A sample in a process of its own."""
    folder = vars(asked).get(program.replace("nanoGPT", "nano_gpt"))
    command = [sys.executable, __file__, "--sample", program, workload, arm, "--seconds", str(asked.seconds)]
    command += ["--device", asked.device, "--threads", str(asked.threads)]
    command += ["--folder", str(folder)] if folder else []
    settings = {"GOMP_SPINCOUNT": SPINS} if program == OURS else ALLOCATORS[allocator]
    before = read_other_work()
    answer = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    others = measure_other_work(before)
    if answer.returncode:
        raise SystemExit(f"{program} on {workload} failed:\n{answer.stderr}")
    figures = json.loads(answer.stdout.splitlines()[-1])
    names = {"program": program, "allocator": allocator, "workload": workload, "arm": arm}
    return {**names, "other_work": others, **figures}


def take_round(number: int, workload: str, *, asked: argparse.Namespace) -> list[dict]:
    """One sample of every program and allocator on every arm of a workload, in turn; who begins changes by round."""
    folders = {"word_language_model": asked.word_language_model, "nanoGPT": asked.nano_gpt}
    contestants = list_contestants(workload, folders, device=asked.device)
    first = number % len(contestants)
    return [
        {"round": number, **spawn_sample(program, allocator, workload, arm, asked=asked)}
        for arm in list_arms(workload)
        for program, allocator in (*contestants[first:], *contestants[:first])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--word-language-model", type=Path)
    parser.add_argument("--nano-gpt", type=Path)
    parser.add_argument("--workload", action="append", choices=(*ON_CUDA, *(name + HALF for name in ON_CUDA)))
    parser.add_argument("--bf16", action="store_true", help="each workload in bfloat16 too, on a CPU")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--add", action="store_true", help="add rounds to what this processor has in performance.json")
    parser.add_argument("--busy", action="store_true", help="measure beside other work; the page says so")
    parser.add_argument("--sample", nargs=3, metavar=("PROGRAM", "WORKLOAD", "ARM"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sample:
        options = {"folder": asked.folder, "seconds": asked.seconds, "threads": asked.threads, "device": asked.device}
        print(json.dumps(take_sample(*asked.sample, **options)))
        return
    from performance_page import keep_samples, name_file, read_processors
    from quiet_machine import name_processor

    from tiebench.execution.bench import describe_setting

    quiet = check_quiet(look_at_machine(), busy=asked.busy)
    file = name_file("performance", device=asked.device, folder=asked.results)
    setting, samples = describe_setting(asked.device, num_threads=asked.threads), []
    setting["hardware"]["openmp_spins"] = SPINS
    setting["processor"] = describe_processor()
    before = read_processors(file).get(name_processor(setting))
    if asked.add and before:
        samples = before["samples"]
        if {**before["setting"], "at_start": None} != {**setting, "at_start": None}:
            raise SystemExit(f"{file} was measured in another setting: leave out --add, or choose another --results")
        quiet["busy"] |= before["setting"].get("at_start", {}).get("busy", False)
    setting["at_start"] = quiet
    chosen = asked.workload or (WORKLOADS if asked.device == "cpu" else ON_CUDA)
    if asked.bf16:
        chosen = dict.fromkeys(each for name in chosen for each in (name, name.removesuffix(HALF) + HALF))
    begin = 1 + max((sample["round"] for sample in samples), default=-1)
    for number in range(begin, begin + asked.rounds):
        for workload in chosen:
            samples += take_round(number, workload, asked=asked)
            keep_samples(setting, samples, file=file)


if __name__ == "__main__":
    main()
