"""Small tools as commands: subwords, curves of a training. They need neither torch nor fairseq."""
