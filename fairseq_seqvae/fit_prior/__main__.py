"""`python -m fairseq_seqvae fit-prior`: a mixture of Gaussians takes the place of a trained model's prior.

    python -m fairseq_seqvae fit-prior DATA --path checkpoints/checkpoint_last.pt --out fitted.pt
    python -m fairseq_seqvae fit-prior DATA --path vae.pt --draws-of language-model.pt --exemplars --out fitted.pt
    python -m fairseq_seqvae fit-prior DATA --path vae.pt --lines draws.txt --exemplars --out fitted.pt
    fairseq-generate DATA ... --path fitted.pt --gen-subset prior --prior fitted --sampling --beam 1

The first fits the mixture to the latent vectors of the training sequences ("ex-post density estimation", Ghosh et al.
2020). In the second, its components are the posteriors of sequences that another model draws: a draw of z is a draw of
that model, encoded. In the third they are those of the lines of a file, such as those that `select` writes. The file
that is written is the checkpoint and the mixture. It serves wherever the checkpoint does, and without --prior fitted it
does the same.
"""

import argparse
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fairseq_seqvae import compat
from fairseq_seqvae.support import checkpoints
from fairseq_seqvae.support.command_line import positive, positive_number, refuse_existing, report
from fairseq_seqvae.support.files import refuse_missing_folder, whole_file

if TYPE_CHECKING:
    from fairseq_seqvae.core.latents.mixture import GaussianMixturePrior
    from fairseq_seqvae.fit_prior.encoding import Encoded

_PROG = "python -m fairseq_seqvae fit-prior"
_PREFIX = "fitted_prior."  # of the mixture's tensors in a checkpoint
_COMPONENTS = 10
_DRAWS = 20_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    return report(_PROG, _run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    compat.require_fairseq()
    from fairseq_seqvae.fit_prior import mixture
    from fairseq_seqvae.fit_prior.encoding import refuse_unsuited
    from fairseq_seqvae.measure.figures import load

    refuse_existing([args.out], args.force)
    refuse_missing_folder(args.out)  # before the work
    _refuse_idle_flags(args)
    model, task = load(args.path, args.data, use_cuda=torch.cuda.is_available() and not args.cpu)
    refuse_unsuited(model)
    encoded = _encode(model, task, args)
    if args.exemplars:
        prior = mixture.of_exemplars(encoded.posteriors)
    else:
        points = encoded.points(args.source or "means", args.seed)
        prior = mixture.fit(points, args.components or _COMPONENTS, args.covariance or "full", args.seed)
    _write(args, prior)
    sources = (args.draws_of, "draws"), (args.lines, "lines"), (args.split, "sequences")
    of = next(f"{what} of {source}" for source, what in sources if source)
    if args.exemplars:
        print(f"{args.out}: the posteriors of {len(encoded.ids)} {of}, one of which is chosen for each draw of z")
        return
    z = torch.from_numpy(points)
    before = float(-(z.square().sum(dim=1) + z.size(1) * math.log(2 * math.pi)).mean() / 2)
    print(
        f"{args.out}: {len(prior.weights)} components for the latent {args.source or 'means'} of {len(points)} {of}, "
        f"which have a log-density of {float(prior.log_prob(z).mean()):.3f} nats each, on average, instead of "
        f"{before:.3f} under N(0, I)"
    )


def _refuse_idle_flags(args: argparse.Namespace) -> None:
    """Raise a ValueError for a flag that another one leaves nothing to do."""
    for flag, value in (("components", args.components), ("covariance", args.covariance), ("from", args.source)):
        if args.exemplars and value is not None:
            raise ValueError(f"--{flag} is for a mixture that is fitted, but --exemplars fits none: omit one of them.")
    if args.draws_of is None and args.temperature is not None:
        raise ValueError("--temperature is that of --draws-of: give that, too, or omit --temperature.")
    given = [flag for flag in ("split", "draws_of", "lines") if getattr(args, flag) is not None]
    if len(given) > 1:
        flags = ", ".join(f"--{flag.replace('_', '-')}" for flag in given)
        raise ValueError(f"each of {flags} says what is encoded: give one of them.")
    args.split = args.split or "train"


def _encode(model: Any, task: Any, args: argparse.Namespace) -> "Encoded":
    from fairseq_seqvae.fit_prior.encoding import encode_draws, encode_lines, encode_split
    from fairseq_seqvae.measure.figures import load

    if args.lines is not None:
        return encode_lines(model, task, args.lines, args.sequences)
    if args.draws_of is None:
        return encode_split(model, task, args.split, args.sequences)
    drawing, _ = load(args.draws_of, args.data, use_cuda=next(model.parameters()).is_cuda)
    try:
        return encode_draws(model, drawing, args.sequences or _DRAWS, args.seed, args.temperature or 1.0)
    except ValueError as error:
        raise ValueError(f"--draws-of {args.draws_of}: {error}") from error


def _write(args: argparse.Namespace, prior: "GaussianMixturePrior") -> None:
    """The checkpoint with *prior* in it."""
    with checkpoints.reading(args.path):
        state = torch.load(args.path, map_location="cpu", weights_only=True)
    kept = {name: value for name, value in state["model"].items() if not name.startswith(_PREFIX)}
    state["model"] = kept | {f"{_PREFIX}{name}": value for name, value in prior.state_dict().items()}
    buffer = io.BytesIO()  # torch's own writer of files does not say why it cannot write one
    torch.save(state, buffer)
    with whole_file(args.out) as partial:
        partial.write_bytes(buffer.getbuffer())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA", help="folder written by fairseq-preprocess")
    parser.add_argument("--path", required=True, metavar="FILE", help="checkpoint")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write: checkpoint and mixture")
    _add_what_is_encoded(parser)
    parser.add_argument(
        "--exemplars",
        action="store_true",
        help="fit nothing: the posterior of each sequence is a component. Those of training data make near copies",
    )
    parser.add_argument(
        "--components", type=positive, metavar="K", help=f"of the mixture that is fitted (default: {_COMPONENTS})"
    )
    parser.add_argument("--covariance", choices=("full", "diag"), help="of each of them (default: full)")
    parser.add_argument(
        "--from",
        dest="source",
        choices=("means", "samples"),
        help="what it is fitted to: means of q(z|x), or a draw of each (default: means)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the fit and of the draws (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--force", action="store_true", help="overwrite the file to write")
    return parser


def _add_what_is_encoded(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", metavar="NAME", help="split that is encoded (default: train)")
    parser.add_argument(
        "--draws-of",
        metavar="FILE",
        help="encode what this checkpoint draws from its prior instead, such as a language model (--latent-dim 0) of "
        "the same data",
    )
    parser.add_argument(
        "--lines",
        type=Path,
        metavar="FILE",
        help="encode the lines of this file instead: symbols of the dictionary, separated by blanks",
    )
    parser.add_argument(
        "--temperature", type=positive_number, metavar="TAU", help="of the draws of --draws-of (default: 1)"
    )
    parser.add_argument(
        "--sequences",
        type=positive,
        metavar="N",
        help=f"the first N sequences of the split or lines of the file, or N draws (default: all; {_DRAWS} draws)",
    )


if __name__ == "__main__":
    raise SystemExit(main())
