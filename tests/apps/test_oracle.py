"""The oracle of the synthetic experiment: its weights, its likelihoods, its samples."""

import hashlib
import itertools
import math

import numpy as np
import oracles
import pytest
import torch

from fairseq_seqvae.oracle import Estimate, Oracle

NAMES = ["embedding", "Wi", "Ui", "bi", "Wf", "Uf", "bf", "Wog", "Uog", "bog", "Wc", "Uc", "bc", "Wo", "bo"]

# What the authors' program drew from their oracle, three sequences of 8 tokens, and its mean NLL of each, nats.
PUBLISHED_SEQUENCES = [
    [3816, 2854, 4718, 2836, 2852, 3994, 4109, 1931],
    [2681, 185, 859, 4158, 864, 3182, 1916, 1163],
    [3316, 3642, 1241, 887, 54, 2902, 3947, 3580],
]
PUBLISHED_NLL = [6.340628, 5.874819, 5.588574]


@pytest.fixture(scope="module")
def paper():
    return Oracle.from_seed(88)


def log_probs_after(weights, tokens):
    """Log-probabilities of the next token after *tokens*, by the equations, in double precision."""
    w = {name: array.astype(float) for name, array in weights.items()}
    hidden = len(w["bi"])
    h, c = np.zeros(hidden), np.zeros(hidden)
    for token in [0, *tokens]:
        x = w["embedding"][token]

        def gate(name, x=x, h=h):
            return x @ w["W" + name] + h @ w["U" + name] + w["b" + name]

        i, f, o = (1 / (1 + np.exp(-gate(name))) for name in ("i", "f", "og"))
        c = f * c + i * np.tanh(gate("c"))
        h = o * np.tanh(c)
    logits = h @ w["Wo"] + w["bo"]
    return logits - np.log(np.exp(logits).sum())


def sequence_nll(weights, tokens):
    """Nats of the whole sequence."""
    return -sum(log_probs_after(weights, tokens[:t])[token] for t, token in enumerate(tokens))


class TestWeights:
    def test_seed_88_is_the_oracle_of_the_paper_bit_for_bit(self, paper):
        content = b"".join(array.astype("<f4").tobytes() for array in paper.weights.values())
        assert list(paper.weights) == NAMES
        assert hashlib.sha256(content).hexdigest() == "27ae99bb4a6e14db978b6eed781bd9dbbff99e3723db994eab71062b6d05136d"
        assert [array.shape for array in paper.weights.values()] == (
            [(5000, 32)] + [(32, 32), (32, 32), (32,)] * 4 + [(32, 5000), (5000,)]
        )

    def test_are_the_first_draws_of_their_seed(self, tiny):
        draws = np.random.RandomState(5).normal(0, 1, 100).astype(np.float32)
        flat = np.concatenate([array.ravel() for array in tiny.weights.values()])
        assert np.array_equal(flat, draws[: len(flat)]) and len(flat) == 3 * 2 + 4 * (4 + 4 + 2) + 2 * 3 + 3

    def test_survive_their_file(self, tiny, here):
        tiny.save_npz("oracle.weights")  # the name is kept, whatever its ending
        read = Oracle.from_npz("oracle.weights")
        assert list(read.weights) == NAMES
        assert all(np.array_equal(read.weights[name], tiny.weights[name]) for name in NAMES)
        assert torch.equal(read.sample(5, 6, seed=1), tiny.sample(5, 6, seed=1))

    def test_of_a_file_may_be_double_and_in_any_order(self, tiny, here):
        arrays = {name: tiny.weights[name].astype(np.float64) for name in reversed(NAMES)}
        np.savez("other.npz", **arrays, comment=np.array("ours"))
        assert torch.equal(Oracle.from_npz("other.npz").sample(5, 6, seed=1), tiny.sample(5, 6, seed=1))

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"Wi": None, "bo": None}, "oracle.npz: an oracle has the arrays .*, of which Wi, bo are missing"),
            ({"Uf": None}, "of which Uf is missing"),
            ({"bog": np.zeros(3)}, r"`bog` must have the shape \(2,\) but has \(3,\): `embedding`.*\(3, 2\) and `Wo`"),
            ({"Wo": np.zeros((2, 4))}, r"`Wo` must have the shape \(2, 3\) but has \(2, 4\)"),
            ({"embedding": np.zeros(3)}, r"`embedding` must have the shape \(V, E\) but has \(3,\)"),
            ({"Wo": np.zeros((0, 3))}, r"`Wo` must have the shape \(H, V\) but has \(0, 3\)"),
            ({"bi": np.array([1, np.nan])}, r"`bi` \(float64\) must hold finite real numbers"),
            ({"bi": np.array(["a", "b"])}, r"`bi` .* must hold finite real numbers"),
            ({"bi": np.array([None, {}], dtype=object)}, "oracle.npz is no .npz file of plain arrays"),
        ],
    )
    def test_that_do_not_fit_are_named(self, tiny, here, change, message):
        arrays = {name: array for name, array in {**tiny.weights, **change}.items() if array is not None}
        np.savez("oracle.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            Oracle.from_npz("oracle.npz")

    @pytest.mark.parametrize("content", [b"", b"text\n", b"PK\x03\x04rest", b"\x93NUMPY"])
    def test_file_of_another_kind(self, here, content):
        (here / "wrong.npz").write_bytes(content)
        with pytest.raises(ValueError, match="wrong.npz is no .npz file of plain arrays"):
            Oracle.from_npz("wrong.npz")

    def test_single_array_is_no_npz(self, here):
        np.save("array.npy", np.zeros(3))
        with pytest.raises(ValueError, match="array.npy is no .npz file"):
            Oracle.from_npz("array.npy")


class TestNll:
    def test_of_the_paper_is_that_of_its_authors(self, paper):
        tokens = torch.tensor(PUBLISHED_SEQUENCES)
        assert torch.allclose(paper.nll(tokens), torch.tensor(PUBLISHED_NLL), rtol=0, atol=5e-6)

    def test_by_hand(self):
        # Without recurrence and embedding: h = sigmoid(0) tanh(c), c = 0.5 c + 0.5 tanh(1), logits (2 h, 0).
        shapes = {name: array.shape for name, array in Oracle.from_seed(0, 2, 1, 1).weights.items()}
        weights = {name: np.zeros(shape) for name, shape in shapes.items()}
        weights["bc"][:] = 1
        weights["Wo"][0, 0] = 2
        c1 = 0.5 * math.tanh(1)
        c2 = 0.5 * c1 + 0.5 * math.tanh(1)
        first, second = (
            math.log(1 + math.exp(math.tanh(c))) for c in (c1, c2)
        )  # -log p(1); p(0) is exp(2 h) as likely
        expected = [first + second, first + second - math.tanh(c2), first - math.tanh(c1) + second]
        nll = Oracle(weights).nll(torch.tensor([[1, 1], [1, 0], [0, 1]]))
        assert nll.tolist() == pytest.approx([value / 2 for value in expected], abs=1e-6)

    def test_equals_the_loop(self, tiny):
        tokens = list(itertools.product(range(3), repeat=4))
        expected = [sequence_nll(tiny.weights, row) / 4 for row in tokens]
        assert tiny.nll(torch.tensor(tokens)).tolist() == pytest.approx(expected, abs=1e-6)

    def test_all_sequences_of_a_length_have_the_mass_one(self, tiny):
        for length in (1, 2, 5):
            tokens = torch.tensor(list(itertools.product(range(3), repeat=length)))
            assert float((-tiny.nll(tokens).double() * length).exp().sum()) == pytest.approx(1, abs=1e-5)

    def test_does_not_depend_on_the_other_rows(self, tiny):
        tokens = torch.randint(3, (2500, 3), generator=torch.Generator().manual_seed(0))  # three chunks of rows
        whole = tiny.nll(tokens)
        assert whole.shape == (2500,) and whole.dtype == torch.float32
        for row in (0, 1023, 1024, 2499):
            assert tiny.nll(tokens[row : row + 1]).item() == pytest.approx(whole[row].item(), abs=1e-6)

    def test_of_nothing_is_empty_and_inputs_are_kept(self, tiny):
        assert tiny.nll(torch.empty(0, 4, dtype=torch.long)).shape == (0,)
        tokens = torch.tensor([[0, 1, 2]])
        tiny.nll(tokens)
        assert tokens.tolist() == [[0, 1, 2]]

    @pytest.mark.parametrize(
        "tokens, error, message",
        [
            (torch.zeros(3, dtype=torch.long), ValueError, r"\(B, T\) with T at least 1 but has \(3,\)"),
            (torch.zeros(3, 0, dtype=torch.long), ValueError, r"but has \(3, 0\)"),
            (torch.zeros(3, 2), TypeError, "torch.int64 but is torch.float32"),
            (torch.tensor([[0, 3]]), ValueError, r"must lie in 0 .. 2 but reach from 0 to 3: fairseq's indices"),
            (torch.tensor([[-1, 1]]), ValueError, "reach from -1 to 1"),
        ],
    )
    def test_bad_tokens(self, tiny, tokens, error, message):
        with pytest.raises(error, match=message):
            tiny.nll(tokens)


class TestSamples:
    def test_follow_the_exact_distribution(self, tiny):
        n, length = 30_000, 3
        tokens = tiny.sample(n, length, seed=1)
        assert tokens.shape == (n, length) and tokens.dtype == torch.int64
        outcomes = list(itertools.product(range(3), repeat=length))
        probs = [math.exp(-sequence_nll(tiny.weights, row)) for row in outcomes]
        numbers = (tokens * torch.tensor([9, 3, 1])).sum(dim=1)
        oracles.assert_frequencies(np.bincount(numbers, minlength=27), probs)

    def test_go_on_after_token_0(self):
        oracle = Oracle.from_seed(5, 3, 2, 2)
        oracle.weights["bo"][:] = [4, 0, 0]
        tokens = Oracle(oracle.weights).sample(200, 12, seed=1)
        assert tokens.shape == (200, 12) and (tokens == 0).float().mean() > 0.5
        # Were a 0 the end, only padding would follow it.
        followers = tokens[:, 1:][tokens[:, :-1] == 0]
        assert set(followers.tolist()) == {0, 1, 2}

    def test_are_a_function_of_seed_draw_and_row(self, tiny):
        tokens = tiny.sample(200, 10, seed=1)
        assert torch.equal(tokens, tiny.sample(200, 10, seed=1))
        assert torch.equal(tokens[:50, :6], tiny.sample(50, 6, seed=1))
        others = [tiny.sample(200, 10, seed=2), tiny.sample(200, 10, seed=1, draw=1)]
        assert not any(torch.equal(tokens, other) for other in others)

    def test_nll_of_samples_is_the_exact_entropy(self, tiny):
        outcomes = list(itertools.product(range(3), repeat=4))
        nlls = [sequence_nll(tiny.weights, row) for row in outcomes]
        entropy = sum(math.exp(-nll) * nll for nll in nlls) / 4
        found = tiny.entropy_estimate(4000, 4, seed=3)
        assert isinstance(found, Estimate)
        assert abs(found.mean - entropy) < oracles.normal_quantile() * found.standard_error
        variance = sum(math.exp(-nll) * (nll / 4 - entropy) ** 2 for nll in nlls)
        assert found.standard_error == pytest.approx(math.sqrt(variance / 4000), rel=0.1)

    def test_of_the_paper_have_the_known_entropy(self, paper):
        # Of 10,000 sequences of 20 tokens each: 5.839 +- 0.005.
        found = paper.entropy_estimate(1000, 20, seed=1)
        assert abs(found.mean - 5.839) < 4 * math.hypot(found.standard_error, 0.005)

    @pytest.mark.parametrize("n, length", [(0, 5), (5, 0)])
    def test_sizes_must_be_positive(self, tiny, n, length):
        with pytest.raises(ValueError, match=f"at least 1 but are {n} and {length}"):
            tiny.sample(n, length, seed=1)
