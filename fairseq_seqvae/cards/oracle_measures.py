"""What the oracle's card measures of a checkpoint, and what it reads in the log of its training."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairseq_seqvae.cards import mixing
from fairseq_seqvae.cards.oracle_settings import Settings
from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.model import estimate
from fairseq_seqvae.oracle.score import read_tokens
from fairseq_seqvae.support.files import whole_file

# The last judgements of a discriminator on held-out data, whose mean the card has.
LAST_JUDGEMENTS = 3


@dataclass(frozen=True)
class Measuring:
    """Measures checkpoints of one length for a card.

    Attributes:
        settings: of the card
        oracle: that the data are of
        data: the folder of fairseq-preprocess; the text is in its neighbour `text`
        length: of the sequences
    """

    settings: Settings
    oracle: Oracle
    data: Path
    length: int

    def measured(self, checkpoint: Path, seed: int, folder: Path, with_bigrams: bool) -> dict[str, Any]:
        """What the card says of *checkpoint*; values of each sequence go into sequences.npz.

        Args:
            checkpoint: of the model
            seed: of samples and of draws of z
            folder: where samples.txt is, at temperature 1, and where sequences.npz is written
            with_bigrams: mix the model with a bigram table, which has no samples.txt
        """
        # Imports fairseq: seconds, which a finished cell need not wait for.
        from fairseq_seqvae.measure import figures as measure

        settings, taus = self.settings, self.settings.temperatures
        model, task = measure.load(checkpoint, self.data)
        if with_bigrams:
            train, valid = (self._text(split) for split in ("train", "valid"))
            model.decoder = mixing.fit(model.decoder, train, valid, self.oracle.vocab_size, task.dictionary.nspecial)
        held_out = measure.read_split(task, "test", settings.held_out)
        figures, arrays = measure.measure_held_out(model, held_out, taus, settings.importance_samples, seed)
        points, oracle_nlls = [], []
        for i, tau in enumerate(taus):
            if tau == 1 and not with_bigrams:
                tokens = read_tokens(folder / "samples.txt", self.oracle.vocab_size, self.length)
            else:
                tokens = oracle_samples(model, task, settings.draws, seed, tau)
            nll = self.oracle.nll(tokens)
            oracle_nlls.append(nll.numpy())
            mean, standard_error = estimate(nll)
            points.append(
                {
                    "temperature": tau,
                    "oracle_nll": mean,
                    "oracle_nll_standard_error": standard_error,
                    "held_out_nll": figures["nll"][i],
                    "held_out_nll_standard_error": figures["nll_standard_error"][i],
                    "elbo_per_sequence": figures["elbo_per_sequence"][i],
                    **measure.variety(tokens, torch.full((len(tokens),), self.length)),
                }
            )
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "sequences.npz") as path:
            np.savez_compressed(path, temperatures=taus, oracle_nll=np.stack(oracle_nlls), **arrays)
        kept = ("kl", "mutual_information", "active_units", "latent_dim", "sequences", "importance_samples")
        mixed = {"table_weight": model.decoder.weight} if with_bigrams else {}
        return {**{key: figures[key] for key in kept}, **mixed, **progress(checkpoint), "points": points}

    def _text(self, split: str) -> torch.Tensor:
        return read_tokens(self.data.parent / "text" / f"{split}.txt", self.oracle.vocab_size, self.length)


def said_of_rewards(log: Path) -> dict[str, float]:
    """What the log of a training says at last of its discriminator and its reward; nothing where it has none.

    ``d_acc_held_out``: share of held-out sentences and fresh samples that the discriminator tells correctly, the mean
    of the last judgements; ``reward_rank``: rank correlation of the reward with the oracle's log-probability, the mean
    over the last half of what was logged.
    """
    judged, ranks = [], []
    for line in log.read_text(encoding="utf-8").splitlines():
        if found := re.search(r"\| train_inner \| (\{.*\})$", line.strip()):
            stats = json.loads(found[1])
            judged += [float(stats[key]) for key in ("d_acc_held_out",) if key in stats]
            names = [key for key in stats if key.startswith("rewards/oracle:") and key.endswith("/rank")]
            ranks += [float(stats[key]) for key in names]
    said = {"d_acc_held_out": judged[-LAST_JUDGEMENTS:], "reward_rank": ranks[len(ranks) // 2 :]}
    return {key: float(np.mean(values)) for key, values in said.items() if values}


def oracle_samples(model: Any, task: Any, number: int, seed: int, temperature: float = 1.0) -> torch.Tensor:
    """Draws from the prior as the oracle numbers its tokens, (N, T)."""
    from fairseq_seqvae.measure import figures as measure

    return measure.prior_samples(model, number, seed, temperature).tokens - task.dictionary.nspecial


def progress(checkpoint: Path, seconds_before: float = 0.0) -> dict[str, float]:
    """Updates of a checkpoint, and seconds of training up to it, validation and saving included.

    Args:
        seconds_before: not to be counted
    """
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    state = load_checkpoint_to_cpu(str(checkpoint))
    return {
        "updates": state["optimizer_history"][-1]["num_updates"],
        "seconds": round(state["extra_state"]["previous_training_time"] - seconds_before, 1),
    }
