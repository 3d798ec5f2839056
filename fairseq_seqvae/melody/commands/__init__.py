"""The commands of `python -m fairseq_seqvae.melody`; one file for each kind."""
