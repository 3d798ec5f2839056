"""The list of all flags of the package; see :mod:`fairseq_seqvae.flags.__main__`."""
