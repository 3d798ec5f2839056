"""Rewards of sequences, and what they make of prefixes."""
