"""`python -m fairseq_seqvae.compat` prints the table of repairs as a page, `docs/repairs.md`."""

from fairseq_seqvae.compat.repairs import as_markdown

print(as_markdown(), end="")
