"""Text from a trained model, one token at a time."""

from pathlib import Path

import torch
from torch import Tensor

from tiebench.corpora.vocabulary import load_vocabulary
from tiebench.errors import UsageError
from tiebench.execution.run import open_model
from tiebench.experiment.schema import TRANSLATED
from tiebench.models.language_model import LanguageModel
from tiebench.results.record import VOCABULARY_FILE, read_record


@torch.inference_mode()
def sample_text(folder: Path, *, prompt: str, num_tokens: int, temperature: float, seed: int) -> str:
    """The prompt and what the model of a finished run writes after it.

    Raises TiebenchError when the run has no weights (published records come without), UsageError for a prompt
    whose words the model does not know at all.
    """
    record = read_record(folder)
    if isinstance(record.spec.corpus, TRANSLATED):
        raise UsageError(f"{folder} translates, and writes no text of its own", f"tiebench translate {folder} FILE")
    model = open_model(record, folder)
    vocabulary = load_vocabulary(folder / VOCABULARY_FILE, identity=record.vocabulary.identity)
    ids = [vocabulary.boundary, *encode_prompt(vocabulary, prompt)]
    generator = torch.Generator().manual_seed(seed)
    longest = model.architecture.max_context or len(ids) + num_tokens
    state = None
    fed = torch.tensor([ids[-longest:]])
    for _ in range(num_tokens):
        scores, state = _advance(model, fed, state)
        ids.append(_choose(scores, temperature=temperature, generator=generator))
        fed = torch.tensor([ids[-1:] if model.architecture.recurrent else ids[-longest:]])
    return vocabulary.decode(ids[1:])


def encode_prompt(vocabulary, prompt: str) -> list[int]:  # noqa: ANN001
    """The prompt's ids without an end of line."""
    if not prompt:
        return []
    ids = [int(token) for token in vocabulary.encode(prompt)]
    ids = ids[:-1] if ids[-1] == vocabulary.boundary else ids
    unknown = getattr(vocabulary, "unknown", None)
    if unknown is not None and ids and all(token == unknown for token in ids):
        raise UsageError(
            f"the model knows no word of {prompt!r}", "words are those of its training text, case included"
        )
    return ids


def _advance(model: LanguageModel, tokens: Tensor, state) -> tuple[Tensor, object]:  # noqa: ANN001
    """Scores `(vocabulary,)` after the last token."""
    hidden, state = model.encode(tokens, state)
    return model.embedding.logits(hidden[0, -1]), state


def _choose(scores: Tensor, *, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(scores.argmax())
    return int(torch.multinomial(torch.softmax(scores / temperature, dim=-1), 1, generator=generator))
