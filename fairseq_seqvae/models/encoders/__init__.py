"""Encoders: tokens to the posterior q(z|x)."""
