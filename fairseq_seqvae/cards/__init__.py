"""The oracle card: the paper's synthetic experiment for a set of methods, lengths and seeds."""
