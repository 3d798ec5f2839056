"""Sampling from a policy, and Monte Carlo completion of prefixes."""
