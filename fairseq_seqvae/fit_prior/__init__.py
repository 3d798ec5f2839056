"""`python -m fairseq_seqvae.fit_prior`: a mixture of Gaussians instead of the prior that a model was trained with."""
