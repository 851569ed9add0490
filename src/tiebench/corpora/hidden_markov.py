"""A source of words whose loss is known: a hidden Markov model in which words have a role as target and one as context.

A hidden state emits a word, mostly one whose *target role* it is; the word's *context role*, mostly, decides the next
state:

    p(x_t = w | z_t)         = (1 - STRAY) weight(w) [role(w) = z_t] / (weights of role z_t) + STRAY weight(w) / (all)
    p(z_t+1 | z_t, x_t = w)  = (1 - STAY) transitions[context role(w), z_t+1] + STAY [z_t+1 = z_t]

That the two roles of a word agree is what tying presumes: one vector then says both what precedes a word and what
follows it. Where they do not agree, a tied vector has to hold two roles, and an untied one only one at each end.

Word 0 is the end of a line, which the vocabulary counts as a token; a text begins as if one had just been read.
"""

from dataclasses import dataclass

import numpy as np

STRAY = 0.1  # of a state's words are not of its role, so that a word does not give the state away
STAY = 0.1  # how often the state stays whatever the word, so that more than the last word counts
NEXT = (0.6, 0.3, 0.1)  # the probabilities of the states that a context role leads to
FLATTENING = 4  # word r has the weight 1 / (r + 1 + FLATTENING) (Mandelbrot's form of Zipf's law)
AT_ONCE_DRAWS = 2**14


@dataclass(frozen=True)
class MarkovSource:
    """`emissions` `(states, words)` and `transitions` `(states, states)`, rows that add up to one, and `context_roles`
    `(words,)`: the row of `transitions` that a word leads to.
    """

    emissions: np.ndarray
    transitions: np.ndarray
    context_roles: np.ndarray

    @property
    def start(self) -> np.ndarray:
        """The probabilities of the first state, `(states,)`: those after the end of a line."""
        return self.transitions[self.context_roles[0]]


def build_source(*, num_words: int, num_states: int, agreement: float, seed: int) -> MarkovSource:
    """The source of this seed. A word's context role is its target role with probability `agreement`, and otherwise one
    drawn at random; lowering the agreement at one seed makes more words disagree and changes nothing else.
    """
    generator = np.random.Generator(np.random.PCG64([seed, 0]))
    weights = 1 / (np.arange(num_words) + 1 + FLATTENING)
    target_roles = np.arange(num_words) % num_states
    other_roles = (generator.random(num_words) * num_states).astype(int)
    context_roles = np.where(generator.random(num_words) < agreement, target_roles, other_roles)
    emissions = np.where(target_roles == np.arange(num_states)[:, None], weights, 0.0)
    emissions = (1 - STRAY) * emissions / emissions.sum(axis=1, keepdims=True) + STRAY * weights / weights.sum()
    transitions = np.zeros((num_states, num_states))
    for probability in NEXT:  # of permutations, so that no state is rare
        transitions[np.arange(num_states), np.argsort(generator.random(num_states))] += probability
    return MarkovSource(emissions, transitions, context_roles)


def draw_words(source: MarkovSource, *, num_words: int, generator: np.random.Generator) -> list[int]:
    """At least `num_words` words, and then up to the end of the line."""
    emitted = np.cumsum(source.emissions, axis=1)
    followed = np.cumsum(source.transitions, axis=1)
    state, words = _pick(np.cumsum(source.start), generator.random()), []
    while True:
        for emit, stay, follow in generator.random((AT_ONCE_DRAWS, 3)):
            word = _pick(emitted[state], emit)
            words.append(word)
            if stay >= STAY:
                state = _pick(followed[source.context_roles[word]], follow)
            if word == 0 and len(words) >= num_words:
                return words


def measure_nats(source: MarkovSource, words: list[int]) -> np.ndarray:
    """-ln p of each word given those before it, `(words,)`: exact, by the forward algorithm (Rabiner 1989)."""
    belief, nats = source.start, np.empty(len(words))
    for place, word in enumerate(words):
        joint = belief * source.emissions[:, word]
        probability = joint.sum()
        nats[place] = -np.log(probability)
        belief = (1 - STAY) * source.transitions[source.context_roles[word]] + STAY * joint / probability
    return nats


def _pick(cumulative: np.ndarray, draw: float) -> int:
    """The place of a draw between 0 and 1; the last sum may be below 1 by rounding."""
    return min(int(np.searchsorted(cumulative, draw, side="right")), len(cumulative) - 1)
