"""`python -m fairseq_seqvae judge`: can a discriminator that is trained afterwards tell samples from held-out data?"""
