"""`python -m fairseq_seqvae select`: draws that discriminators find as real as the data, by rejection sampling.

    python -m fairseq_seqvae select DATA --path CHECKPOINT --out draws.txt
    python -m fairseq_seqvae select DATA --path CHECKPOINT --reward-sources discriminator,match:length:7 --out draws.txt
    python -m fairseq_seqvae fit-prior DATA --path vae.pt --lines draws.txt --exemplars --out fitted.pt

The checkpoint, such as a language model, draws; discriminators that are trained here tell its draws from training data;
and a draw is kept with a probability proportional to the odds that they give it to be real ("discriminator rejection
sampling", Azadi et al. 2019). Each round trains discriminators on what those before it keep. Rewards are those of
training, of symbols: each adds its weight times what it says to the log-odds, and match:REWARD keeps as much of it as
the data have. The lines of the file are symbols of the dictionary: fairseq-preprocess reads them, `judge --samples`
judges them, `fit-prior --lines` makes them the prior of a model with a latent. Held-out data are not used.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fairseq_seqvae import compat
from fairseq_seqvae.judge.arguments import add_judge, judge_plan
from fairseq_seqvae.support.command_line import positive, positive_number, refuse_existing, report, seed, share
from fairseq_seqvae.support.files import refuse_missing_folder, whole_file

_PROG = "python -m fairseq_seqvae select"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    return report(_PROG, _run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    compat.require_fairseq()
    from fairseq_seqvae.judge.figures import known_transposition
    from fairseq_seqvae.judge.preferences import load_rewards
    from fairseq_seqvae.judge.selection import SelectionPlan, selection
    from fairseq_seqvae.judge.training import Sequences
    from fairseq_seqvae.measure.figures import load, prior_samples, read_split, whole_draws

    refuse_existing([args.out], args.force)
    refuse_missing_folder(args.out)  # before the work
    model, task = load(args.path, args.data, use_cuda=torch.cuda.is_available() and not args.cpu)
    device = next(model.parameters()).device
    real = Sequences(*read_split(task, "train", args.train_sequences).to(device)[1:3])
    rewards = load_rewards(args.reward_sources, args.reward_weights, task, real)
    samples = prior_samples(model, args.draws, args.seed, args.temperature, args.prior)
    drawn = Sequences(*samples[:2]).rows(whole_draws(model, samples))
    scores = rewards.scores(drawn)
    plan = SelectionPlan(
        args.keep, rewards.discriminator, args.rounds, args.discriminators, judge_plan(args), args.seed
    )
    preferences = rewards.preferences(scores, len(drawn.tokens))
    dictionary, known = task.dictionary, known_transposition(task)
    found = selection(real, drawn, len(dictionary), dictionary.pad(), plan, known, preferences)
    for number, one in enumerate(found, start=1):
        kept = one.kept
        right = f"the discriminators are right in {one.accuracy:.1%} of the cases that they did not learn from; "
        told = f"{len(kept)} of {args.draws} draws are kept; their divergence from all is {one.divergence:.2f} nats"
        print(f"round {number}: {'' if math.isnan(one.accuracy) else right}{told}", flush=True)
    if not len(kept):
        raise ValueError("no draw is kept: give more --draws, or a larger --keep.")
    for line in rewards.told(scores, kept):
        print(line)
    _write(args.out, dictionary, drawn.rows(kept))
    print(f"{args.out}: {len(kept)} draws of {args.path}")


def _write(path: Path, dictionary: Any, chosen: Any) -> None:
    """A line per sequence, symbols separated by blanks."""
    ends = dictionary.eos(), dictionary.pad()
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in chosen.tokens.tolist():
            file.write(" ".join(dictionary[token] for token in row if token not in ends) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA", help="folder written by fairseq-preprocess")
    parser.add_argument("--path", required=True, metavar="FILE", help="checkpoint that draws")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="text file to write")
    parser.add_argument(
        "--draws", type=positive, default=200_000, metavar="N", help="what it draws (default: %(default)s)"
    )
    parser.add_argument(
        "--prior", choices=("model", "fitted"), default="model", help="prior of the draws (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=positive_number, default=1.0, metavar="TAU", help="of the decoder (default: 1)"
    )
    _add_choice(parser)
    parser.add_argument("--seed", type=seed, default=1, help="of draws and discriminators (default: %(default)s)")
    add_judge(parser)
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--force", action="store_true", help="overwrite the file to write")
    return parser


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep",
        type=share,
        default=0.1,
        metavar="SHARE",
        help="of the draws; the smaller, the more faithful to the discriminators (default: %(default)s)",
    )
    parser.add_argument(
        "--reward-sources",
        default="discriminator",
        metavar="SOURCES",
        help="as in training, separated by commas; without discriminator, none is trained (default: discriminator)",
    )
    parser.add_argument(
        "--reward-weights",
        metavar="W,...",
        help="one per source; that of match:REWARD is found, so it is 1 (default: 1)",
    )
    parser.add_argument(
        "--rounds", type=positive, default=2, metavar="N", help="one after the other (default: %(default)s)"
    )
    parser.add_argument(
        "--discriminators",
        type=positive,
        default=2,
        metavar="N",
        help="of each round, whose log-odds are averaged (default: %(default)s)",
    )
    parser.add_argument(
        "--train-sequences",
        type=positive,
        default=20_000,
        metavar="N",
        help="they learn from the first N training sequences, and as many draws (default: %(default)s)",
    )


if __name__ == "__main__":
    sys.exit(main())
