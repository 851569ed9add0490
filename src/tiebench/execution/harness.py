"""A finished run as a model of lm-evaluation-harness, through its Python interface (extra `lm-eval`).

For what no other library reads, such as an LSTM; `tiebench export` writes gpt2 and llama for `lm_eval --model hf`.

    import lm_eval
    from tiebench.execution.harness import HarnessModel
    tasks = lm_eval.tasks.TaskManager(include_path="examples/lm-eval")
    model = HarnessModel("results/EXPERIMENT/ARM/seed-1")
    lm_eval.simple_evaluate(model=model, tasks=["tiebench_text"], task_manager=tasks)

This file alone needs the harness.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]

from tiebench.corpora.stream import TokenStream
from tiebench.corpora.vocabulary import load_vocabulary
from tiebench.errors import TiebenchError, UsageError
from tiebench.execution.run import open_model
from tiebench.experiment.schema import TRANSLATED
from tiebench.results.record import VOCABULARY_FILE, read_record
from tiebench.training.evaluation import score_stream


class HarnessModel(LM):
    """Computes likelihoods with the weights of a run; every text begins after a boundary, as in training.

    Raises TiebenchError for a folder without a finished run or without weights, UsageError for one that translates.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.record = read_record(self.folder)
        if isinstance(self.record.spec.corpus, TRANSLATED):
            raise UsageError(f"{folder} translates, and scores no text by itself", "give a run of a language model")
        self.model = open_model(self.record, self.folder)
        self.vocabulary = load_vocabulary(self.folder / VOCABULARY_FILE, identity=self.record.vocabulary.identity)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log likelihood of each whole text, in nats, scored as the run's own test split was."""
        return [self.score_text(request.args[0]) for request in requests]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log likelihood of each continuation after its context, in nats, and whether it is the likeliest one."""
        return [self.score_continuation(*request.args) for request in requests]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Raises UsageError: a run is only scored here, and generates no text."""
        raise UsageError(
            f"{self.folder} is only scored here, and generates no text", "choose tasks that ask for likelihoods"
        )

    def score_text(self, text: str) -> float:
        """The log likelihood of a text. Raises TiebenchError where words of it are lost to the vocabulary."""
        ids = np.array([self.vocabulary.boundary, *self._encode(text)], dtype=np.uint32)
        if len(ids) == 1:
            return 0.0
        stream = TokenStream(ids, len(ids) - 1, len(text.split()), len(text.encode("utf-8")), 0)
        return -score_stream(self.model, stream, spec=self.record.spec).nll

    @torch.inference_mode()
    def score_continuation(self, context: str, continuation: str) -> tuple[float, bool]:
        """As in `loglikelihood`. White space at the end of a context is taken for the beginning of what follows.

        A transformer sees as much of the context as it can. Raises TiebenchError for a continuation longer than that.
        """
        kept = context.rstrip()
        num_given, ids = len(self._encode(kept)), self._encode(context + continuation)
        targets = torch.tensor(ids[num_given:], dtype=torch.long)
        if not len(targets):
            return 0.0, True
        longest = self.model.architecture.max_context
        if longest is not None and len(targets) > longest:
            hint = "choose a task of shorter answers, or one of whole texts (loglikelihood_rolling)"
            raise TiebenchError(f"an answer has {len(targets)} tokens, and the model sees {longest} at once", hint)
        seen = [self.vocabulary.boundary, *ids[:-1]][-longest if longest is not None else 0 :]
        hidden, _ = self.model.encode(torch.tensor([seen]))
        scores = self.model.embedding.logits(hidden[0, -len(targets) :]).double().log_softmax(-1)
        found = scores.gather(1, targets[:, None])
        return float(found.sum()), bool((scores.argmax(-1) == targets).all())

    def _encode(self, text: str) -> list[int]:
        ids, num_lost = self.vocabulary.encode_piece(text)
        if num_lost:
            raise TiebenchError(
                f"a text has words that the vocabulary of {self.folder} does not have ({num_lost}): no likelihood",
                "score a run with vocabulary bpe or bytes",
            )
        return ids.tolist()
