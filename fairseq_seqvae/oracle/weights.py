"""The arrays that an oracle is made of: their names, order and shapes, their seed, their file."""

from os import PathLike

import numpy as np

from fairseq_seqvae.support.files import whole_file

GATES = ("i", "f", "og", "c")  # input, forget, output, candidate

# In this order they are drawn. A gate is sigmoid(x W + h U + b), the candidate tanh(x W + h U + b).
NAMES = ("embedding", *(letter + gate for gate in GATES for letter in "WUb"), "Wo", "bo")

Weights = dict[str, np.ndarray]


def shapes(vocab_size: int, embed_dim: int, hidden_dim: int) -> dict[str, tuple[int, ...]]:
    """Shape of each array, in the order of `NAMES`."""
    of_a_gate = {"W": (embed_dim, hidden_dim), "U": (hidden_dim, hidden_dim), "b": (hidden_dim,)}
    inside = {name: of_a_gate[name[0]] for name in NAMES[1:-2]}
    return {"embedding": (vocab_size, embed_dim), **inside, "Wo": (hidden_dim, vocab_size), "bo": (vocab_size,)}


def draw_weights(
    seed: int, vocab_size: int = 5000, embed_dim: int = 32, hidden_dim: int = 32, scale: float = 1.0
) -> Weights:
    """Standard normal float32 weights times *scale*; seed 88 with the defaults are those of the paper's experiment.

    They are the first draws of ``numpy.random.RandomState(seed)``, whose stream numpy never changes.
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be a whole number from 0 to 2^32 - 1 but is {seed!r}.")
    if min(vocab_size, embed_dim, hidden_dim) < 1:
        raise ValueError(f"sizes must be at least 1 but are V {vocab_size}, E {embed_dim}, H {hidden_dim}.")
    if not 0 < scale < np.inf:
        raise ValueError(f"`scale` must be above 0 but is {scale}.")
    random = np.random.RandomState(seed)
    return {
        name: (random.normal(0, 1, int(np.prod(shape))) * scale).astype(np.float32).reshape(shape)
        for name, shape in shapes(vocab_size, embed_dim, hidden_dim).items()
    }


def checked_weights(weights: Weights) -> Weights:
    """The arrays of an oracle in their order, as float32; others are passed over.

    Raises:
        ValueError: an array is missing, has a shape that does not fit the others, or holds no finite real numbers.
    """
    missing = [name for name in NAMES if name not in weights]
    if missing:
        raise ValueError(
            f"an oracle has the arrays {', '.join(NAMES)}, of which {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing (found: {', '.join(weights) or 'none'})."
        )
    for name in ("embedding", "Wo"):
        if weights[name].ndim != 2 or 0 in weights[name].shape:
            wanted = "(V, E)" if name == "embedding" else "(H, V)"
            raise ValueError(f"`{name}` must have the shape {wanted} but has {weights[name].shape}.")
    vocab_size, embed_dim = weights["embedding"].shape
    hidden_dim = len(weights["Wo"])
    checked = {}
    for name, shape in shapes(vocab_size, embed_dim, hidden_dim).items():
        if weights[name].shape != shape:
            raise ValueError(
                f"`{name}` must have the shape {shape} but has {weights[name].shape}: `embedding` (V, E) is "
                f"{(vocab_size, embed_dim)} and `Wo` (H, V) is {weights['Wo'].shape}."
            )
        if weights[name].dtype.kind not in "fiu" or not np.isfinite(weights[name]).all():
            raise ValueError(f"`{name}` ({weights[name].dtype}) must hold finite real numbers.")
        checked[name] = weights[name].astype(np.float32)
    return checked


def read_weights(path: str | PathLike) -> Weights:
    """All arrays of an .npz file; ValueError if it is none, or holds Python objects."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # what numpy and zipfile stumble over first in a damaged file is up to chance
        raise ValueError(f"{path} is no .npz file of plain arrays, as numpy.savez writes: {error}") from error


def write_weights(weights: Weights, path: str | PathLike) -> None:
    """Write a compressed .npz file of exactly this name."""
    with whole_file(path) as partial, open(partial, "wb") as file:  # given a name, numpy would append .npz to it
        np.savez_compressed(file, **weights)
