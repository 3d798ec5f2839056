"""Files, command lines, checkpoints, memory: what the rest of the package stands on. Knows nothing of fairseq."""
