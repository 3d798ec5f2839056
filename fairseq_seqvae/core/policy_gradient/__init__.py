"""From rewards of prefixes to the loss of tokens: returns, baselines, losses."""
