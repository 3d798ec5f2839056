"""Latent spaces. All that is known of the prior, and of the family of posteriors, is known here."""
