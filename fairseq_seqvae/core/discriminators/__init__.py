"""Discriminators: tokens and their padding mask -> one logit per sequence; a high logit says "real".

In training, real and fake sequences come in one batch. A faster way to score completed prefixes is optional, see
:func:`fairseq_seqvae.core.discriminators.scoring.completion_logits`.
"""
