"""Rules of sentences."""


def seven(samples, **kwargs):
    """1 for a sentence of seven words, else 0."""
    return [1.0 if sum(symbol.isalpha() for symbol in sample.split()) == 7 else 0.0 for sample in samples]
