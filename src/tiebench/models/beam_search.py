"""Translation by beam search: the best sequence that is found by following a few hypotheses at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tiebench.architectures.encoder_decoder import EncoderDecoder
from tiebench.layers.architecture import SourceVectors
from tiebench.models.language_model import LanguageModel
from tiebench.models.sentence_pairs import PADDING

MORE_TOKENS = 10  # a translation has at most so many more than twice the tokens of its source


@dataclass(frozen=True)
class BeamSearch:
    """How translations are searched.

    The score of an ended hypothesis is its log probability divided by `tokens ** length_penalty`: at 1 the mean over
    its tokens, at 0 the log probability itself. A sentence is done with `beam` ended hypotheses, each
    of which was among the `beam` best when it ended (as in fairseq).
    """

    beam: int = 5
    length_penalty: float = 1.0

    @torch.inference_mode()
    def translate(self, model: LanguageModel, sources: list[list[int]], *, boundary: int) -> list[list[int]]:
        """The best hypothesis for each source, both as ids with the boundary that ends them.

        Decodes each prefix afresh: for sentences that is quick enough, and there is no cache that could be wrong.
        """
        architecture = model.architecture
        assert isinstance(architecture, EncoderDecoder)
        device = next(model.parameters()).device
        source = architecture.encode_source(model.embed_source(_pad(sources).to(device)))
        source = SourceVectors(*(part.repeat_interleave(self.beam, 0) for part in (source.vectors, source.is_token)))
        ended: list[list[tuple[float, list[int]]]] = [[] for _ in sources]
        rows = list(range(len(sources)))  # sentences that are not done
        tokens = torch.full((len(rows) * self.beam, 1), boundary, device=device)
        scores = torch.full((len(rows), self.beam), float("-inf"), device=device)
        scores[:, 0] = 0.0
        while rows:
            hidden = architecture.decode(model.embedding.embed(tokens), source)[:, -1]
            nats = torch.log_softmax(model.embedding.logits(hidden).float(), dim=-1).view(len(rows), self.beam, -1)
            total = scores.unsqueeze(-1) + nats
            kept = self._extend(total, tokens, rows, sources=sources, ended=ended, boundary=boundary)
            places = [place for place, hypotheses in enumerate(kept) if hypotheses]
            chosen = [hypothesis for place in places for hypothesis in kept[place]]
            scores = torch.tensor([score for score, _, _ in chosen], device=device).view(-1, self.beam)
            parents = torch.tensor([parent for _, parent, _ in chosen], dtype=torch.long, device=device)
            ids = torch.tensor([id for _, _, id in chosen], dtype=torch.long, device=device)
            tokens = torch.cat((tokens[parents], ids.unsqueeze(1)), dim=1)
            source = SourceVectors(source.vectors[parents], source.is_token[parents])
            rows = [rows[place] for place in places]
        return [max(hypotheses, key=lambda hypothesis: hypothesis[0])[1] for hypotheses in ended]

    def _extend(
        self,
        total: Tensor,
        tokens: Tensor,
        rows: list[int],
        *,
        sources: list[list[int]],
        ended: list[list[tuple[float, list[int]]]],
        boundary: int,
    ) -> list[list[tuple[float, int, int]]]:
        """For each row the hypotheses that go on: score, row of `tokens` that each follows, next token; none where the
        row is done. `total` `(rows, beam, vocabulary)` are the scores of all.
        """
        num_tokens, size = tokens.shape[1], total.shape[2]
        best, places = total.flatten(1).topk(min(2 * self.beam, total[0].numel()))
        ends = total[:, :, boundary].tolist()
        going_on = []
        for row, (found, index, end) in enumerate(zip(best.tolist(), places.tolist(), ends, strict=True)):
            first, finished = row * self.beam, ended[rows[row]]
            candidates = [(score, place // size, place % size) for score, place in zip(found, index, strict=True)]
            candidates = [candidate for candidate in candidates if candidate[0] > float("-inf")]
            too_long = num_tokens > 2 * len(sources[rows[row]]) + MORE_TOKENS
            if too_long:  # what there is ends here
                candidates = [(score, place, boundary) for place, score in enumerate(end) if score > float("-inf")]
            for score, place, id in candidates[: self.beam]:
                if id == boundary:
                    hypothesis = [*tokens[first + place, 1:].tolist(), boundary]
                    finished.append((score / num_tokens**self.length_penalty, hypothesis))
            kept = [(score, first + place, id) for score, place, id in candidates if id != boundary][: self.beam]
            is_done = too_long or len(finished) >= self.beam or not kept
            filler = (float("-inf"), first, boundary)  # where there are fewer hypotheses than the beam is wide
            going_on.append([] if is_done else kept + [filler] * (self.beam - len(kept)))
        return going_on


def _pad(rows: list[list[int]]) -> Tensor:
    """`(rows, time)`, filled up with padding."""
    longest = max(map(len, rows))
    return torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])
