"""Tunes as sound: a WAV file without an instrument's samples, from a few partials with an envelope."""

import io
import math
import wave
from collections.abc import Sequence

import numpy as np

from fairseq_seqvae.melody.tunes import Tune

RATES = (8000, 48000)  # samples per second, from and to
MAX_SECONDS = 1200
_PARTIALS = (1.0, 0.45, 0.22, 0.12, 0.06)  # loudness of the tone and its overtones
_ATTACK, _RELEASE, _DECAY = 0.012, 0.06, 1.2  # seconds
_LOUDNESS = 0.5  # of the most a sample can hold


def wav_bytes(tunes: Sequence[Tune], tempo: float | None = None, rate: int = 22050) -> bytes:
    """A WAV file (one channel, 16 bits) with the tunes one after another.

    Args:
        tunes: in order.
        tempo: quarter notes per minute, 4 to 1000; None for the tempo of each tune, 120 where it has none.
        rate: samples per second, 8000 to 48000.

    Raises `ValueError` for a tempo or rate outside these bounds, or sound of more than `MAX_SECONDS` seconds.
    """
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"`rate` must be {RATES[0]} to {RATES[1]} samples per second but is {rate}")
    paces = [tempo or tune.tempo or 120 for tune in tunes]
    for pace in paces:
        if not 4 <= pace <= 1000:
            raise ValueError(f"`tempo` must be 4 to 1000 quarter notes per minute but is {pace:g}")
    step_seconds = [60 / (pace * tune.steps_per_quarter) for pace, tune in zip(paces, tunes, strict=True)]
    total = sum(seconds * tune.length for seconds, tune in zip(step_seconds, tunes, strict=True))
    if total > MAX_SECONDS:
        raise ValueError(
            f"the sound would last {total:.0f} s, more than {MAX_SECONDS} s: raise the tempo or give fewer"
        )
    sound = np.zeros(math.ceil((total + _RELEASE) * rate) + 1, dtype=np.float32)
    begin = 0.0
    for seconds, tune in zip(step_seconds, tunes, strict=True):
        for note in tune.notes:
            tone = _tone(note.pitch, note.length * seconds, rate)
            first = round((begin + note.start * seconds) * rate)
            sound[first : first + len(tone)] += tone[: len(sound) - first]
        begin += seconds * tune.length
    samples = np.clip(np.rint(sound * (2**15 - 1)), -(2**15), 2**15 - 1).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(samples.tobytes())
    return file.getvalue()


def _tone(pitch: int, seconds: float, rate: int) -> np.ndarray:
    """A note, float32, with its release after its end."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    times = np.arange(math.ceil((seconds + _RELEASE) * rate), dtype=np.float64) / rate
    partials = [(n, loud) for n, loud in enumerate(_PARTIALS, start=1) if n * frequency < 0.45 * rate]
    tone = sum((loud * np.sin(2 * np.pi * n * frequency * times) for n, loud in partials), np.zeros_like(times))
    rise = np.minimum(times / _ATTACK, 1.0)
    fall = np.clip((seconds + _RELEASE - times) / _RELEASE, 0.0, 1.0)
    # Two notes sound together for the release only: divided by the partials' sum, they stay within the samples' range.
    return (_LOUDNESS / sum(_PARTIALS) * tone * rise * fall * np.exp(-times / _DECAY)).astype(np.float32)
