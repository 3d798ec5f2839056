"""Decoders: p(y|z), fused over time for training, a policy for sampling. Each file registers one."""
