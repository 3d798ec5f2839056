"""Policies with known probabilities. They follow the protocol of rollouts and import nothing from the package."""

import oracles
import torch

EOS, PAD, VOCAB = 2, 1, 5


class Policy:
    """Checks what every policy may rely on: state and tokens come with one row each."""

    eos, pad = EOS, PAD

    def start(self, z):
        return self.first_state(z)

    def advance(self, prev_tokens, state):
        assert isinstance(state, tuple) and all(len(part) == len(prev_tokens) for part in state)
        assert prev_tokens.dim() == 1 and prev_tokens.dtype == torch.int64 and len(prev_tokens) > 0
        return self.step(prev_tokens, state)

    def logits(self, features):
        assert features.dim() == 2 and len(features) > 0
        return self.read(features)


class GroupedMarkov(Policy):
    """p(token | previous token): a table of logits (G, V), entered with the previous token modulo G."""

    def __init__(self, table):
        self.table = table

    def first_state(self, z):
        return (torch.zeros(len(z), 1),)

    def step(self, prev_tokens, state):
        return prev_tokens.remainder(len(self.table)).unsqueeze(1).float(), (state[0] + 1,)

    def read(self, features):
        return self.table[features[:, 0].long()]

    def probs(self, previous):
        return oracles.softmax(self.table[previous % len(self.table)].tolist())


class WholeHistory(Policy):
    """The next token depends on z (the number of a table, in column 0) and on all tokens so far and their order.

    A state that was lost, mixed up between rows, or advanced once too often gives other probabilities. Padding is
    impossible. `features` hold half of the logits, so that leaving out `logits` shows too.
    """

    STATES = 11

    def __init__(self, num_z=2, seed=0, eos_bonus=0.0):
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(num_z, self.STATES, VOCAB, generator=generator)
        self.table[..., PAD] = float("-inf")
        self.table[..., EOS] += eos_bonus

    def first_state(self, z):
        return z[:, 0].long(), torch.zeros(len(z), dtype=torch.long)

    def step(self, prev_tokens, state):
        number, history = state
        history = (3 * history + prev_tokens + 1) % self.STATES
        return self.table[number, history] / 2, (number, history)

    def read(self, features):
        return features * 2

    def next_logits(self, number, tokens):
        """Logits after the list `tokens`, by a loop over it."""
        history = 0
        for token in [EOS, *tokens]:
            history = (3 * history + token + 1) % self.STATES
        return self.table[number, history]

    def next_probs(self, number, temperature=1.0, forbid_eos_before=0):
        def probs(tokens):
            logits = (self.next_logits(number, tokens) / temperature).tolist()
            if len(tokens) < forbid_eos_before:
                logits[EOS] = -float("inf")
            return oracles.softmax(logits)

        return probs


class Script(Policy):
    """Deterministic: after each token comes `script[token]`."""

    def __init__(self, script, vocab=VOCAB):
        self.table = torch.full((max(vocab, max(script, default=0) + 1), vocab), float("-inf"))
        for previous, following in script.items():
            self.table[previous, following] = 0.0
        # Whatever has no line in the script ends.
        self.table[self.table.isinf().all(dim=1), EOS] = 0.0

    def first_state(self, z):
        return (z,)

    def step(self, prev_tokens, state):
        return self.table[prev_tokens], state

    def read(self, features):
        return features


class Writer(Policy):
    """Writes the number in column 0 of z, for ever."""

    def __init__(self, vocab):
        self.vocab = vocab

    def first_state(self, z):
        return (z[:, :1],)

    def step(self, prev_tokens, state):
        return state[0], state

    def read(self, features):
        logits = torch.full((len(features), self.vocab), float("-inf"))
        return logits.scatter(1, features.long(), 0.0)
