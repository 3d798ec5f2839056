"""Decoders: p(y|z), as fairseq decoders and as policies of rollouts."""
