"""`python -m fairseq_seqvae.export`: a checkpoint without what only training needs."""
