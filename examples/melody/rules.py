"""What melodies have more or less of, to be matched: `--reward-sources match:examples/melody/rules.py:pitches`."""

BAR = 16  # steps


def bars_of(sample):
    symbols = sample.split()
    return [[int(s) for s in symbols[i : i + BAR] if s.isdigit()] for i in range(0, len(symbols), BAR)]


def pitches(samples, **kwargs):
    """Different pitches per bar."""
    return [sum(len(set(bar)) for bar in bars) / len(bars) for bars in map(bars_of, samples)]


def notes(samples, **kwargs):
    """Notes per bar."""
    return [sum(map(len, bars)) / len(bars) for bars in map(bars_of, samples)]


def steps(samples, **kwargs):
    """Share of the intervals that are one or two semitones."""
    return shares_of_intervals(samples, lambda interval: 0 < interval <= 2)


def leaps(samples, **kwargs):
    """Share of the intervals above five semitones."""
    return shares_of_intervals(samples, lambda interval: interval > 5)


def shares_of_intervals(samples, counts):
    shares = []
    for bars in map(bars_of, samples):
        found = [note for bar in bars for note in bar]
        intervals = [abs(b - a) for a, b in zip(found, found[1:], strict=False)]
        shares.append(sum(map(counts, intervals)) / max(len(intervals), 1))
    return shares
