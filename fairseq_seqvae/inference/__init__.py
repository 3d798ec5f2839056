"""Generation: latent vectors, the sampler for fairseq commands, and the Python interface."""
