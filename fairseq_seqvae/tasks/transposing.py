"""Transposition of melodies in training: `--transpose`, `--transpose-by` for the dictionary of the data."""

import logging
from typing import Any

from fairseq.data import Dictionary
from torch import Tensor

from fairseq_seqvae.core.augmentation import CHROMATIC, Transposition
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.models.dictionaries import is_filler
from fairseq_seqvae.options import whole_numbers
from fairseq_seqvae.support.processes import is_master

logger = logging.getLogger(__name__)


def transposition(pitches: str | None, dictionary: Dictionary, by: str = "semitones") -> Transposition | None:
    """What `--transpose` and `--transpose-by` ask for; None without the former.

    Args:
        pitches: lowest and highest pitch, such as "52,90", which the options have checked
        dictionary: the symbols of the data
        by: ``semitones`` or ``scale``

    Raises:
        ValueError: the pitches or the symbols are not those of melodies
    """
    if pitches is None:
        return None
    from fairseq_seqvae.melody.scales import MAJOR
    from fairseq_seqvae.melody.tokens import MAX_PITCH, MIN_PITCH, PITCH_OF, SYMBOLS

    low, high = whole_numbers(pitches)
    if low < MIN_PITCH or high > MAX_PITCH:
        raise ValueError(
            f"--transpose {pitches} goes beyond the pitches of melodies: stay within {MIN_PITCH},{MAX_PITCH}."
        )
    symbols = {dictionary[token]: token for token in range(dictionary.nspecial, len(dictionary))}
    symbols = {symbol: token for symbol, token in symbols.items() if not is_filler(symbol)}
    if foreign := symbols.keys() - set(SYMBOLS):
        raise ValueError(
            f"--transpose {pitches} is for melodies, but the dictionary has the symbol {min(foreign)!r}: it needs data "
            f"that consist of _ (hold), . (off) and {MIN_PITCH}..{MAX_PITCH} (onsets), as fairseq_seqvae melody writes "
            "them; omit the flag."
        )
    missing = [str(pitch) for pitch in range(low, high + 1) if str(pitch) not in symbols]
    if is_master():
        logger.info(
            f"training sentences are transposed within the pitches {low} to {high}"
            + (
                f", but never onto {', '.join(missing)}, which the dictionary does not have (see docs/training.md)"
                if missing
                else ""
            )
        )
    with_pitch = {token: PITCH_OF[symbol] for symbol, token in symbols.items() if symbol in PITCH_OF}
    scale = MAJOR if by == "scale" else CHROMATIC
    return Transposition.of_pitches(with_pitch, len(dictionary), low, high, (dictionary.unk(),), scale)


def transposed(sample: dict[str, Any], transposition: Transposition, draws: Draws) -> dict[str, Any]:
    """A batch with each of its sentences transposed by an interval of its own: sources, targets and decoder inputs."""
    target = sample["target"]
    known = transposition.to(target.device)
    uniforms = draws.uniforms(Stream.TRANSPOSITION, sample["id"], 0, 1).squeeze(dim=1)
    intervals = known.draw(target, uniforms)

    def apply(tokens: Tensor) -> Tensor:
        return known.apply(tokens, intervals)

    net_input = dict(sample["net_input"])
    for name in ("src_tokens", "prev_output_tokens"):
        net_input[name] = apply(net_input[name])
    return sample | {"target": apply(target), "net_input": net_input}
