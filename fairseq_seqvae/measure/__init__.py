"""`python -m fairseq_seqvae.measure`: what a checkpoint says of held-out sequences, and how varied its samples are."""
