"""`python -m fairseq_seqvae fit-prior`: fits a mixture of Gaussians to the latent vectors of a split.

    python -m fairseq_seqvae fit-prior DATA --path checkpoints/checkpoint_last.pt --out fitted.pt
    fairseq-generate DATA ... --path fitted.pt --gen-subset prior --prior fitted --sampling --beam 1

The file that it writes is the checkpoint and the mixture ("ex-post density estimation", Ghosh et al. 2020). It serves
wherever the checkpoint does, and without --prior fitted it does the same.
"""

import argparse
import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from fairseq_seqvae import compat
from fairseq_seqvae.support import checkpoints
from fairseq_seqvae.support.command_line import positive, refuse_existing, report
from fairseq_seqvae.support.files import whole_file

_PROG = "python -m fairseq_seqvae fit-prior"
_PREFIX = "fitted_prior."  # of the mixture's tensors in a checkpoint


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    return report(_PROG, _run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    compat.require_fairseq()
    from fairseq_seqvae.fit_prior.mixture import encode, fit, refuse_unsuited
    from fairseq_seqvae.measure.figures import load

    refuse_existing([args.out], args.force)
    if not args.out.parent.is_dir():  # before the work
        raise FileNotFoundError(f"there is no folder {args.out.parent} to write {args.out.name} into: make it first")
    model, task = load(args.path, args.data, use_cuda=torch.cuda.is_available() and not args.cpu)
    refuse_unsuited(model)
    points = encode(model, task, args.split, args.sequences, args.source, args.seed)
    mixture = fit(points, args.components, args.covariance, args.seed)
    with checkpoints.reading(args.path):
        state = torch.load(args.path, map_location="cpu", weights_only=True)
    kept = {name: value for name, value in state["model"].items() if not name.startswith(_PREFIX)}
    state["model"] = kept | {f"{_PREFIX}{name}": value for name, value in mixture.state_dict().items()}
    buffer = io.BytesIO()  # torch's own writer of files does not say why it cannot write one
    torch.save(state, buffer)
    with whole_file(args.out) as partial:
        partial.write_bytes(buffer.getbuffer())
    z = torch.from_numpy(points)
    before = float(-(z.square().sum(dim=1) + z.size(1) * math.log(2 * math.pi)).mean() / 2)
    print(
        f"{args.out}: {args.components} components for the latent {args.source} of {len(points)} sequences of "
        f"{args.split}, which have a log-density of {float(mixture.log_prob(z).mean()):.3f} nats each, on average, "
        f"instead of {before:.3f} under N(0, I)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA", help="folder written by fairseq-preprocess")
    parser.add_argument("--path", required=True, metavar="FILE", help="checkpoint")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write: checkpoint and mixture")
    parser.add_argument(
        "--components", type=positive, default=10, metavar="K", help="of the mixture (default: %(default)s)"
    )
    parser.add_argument(
        "--covariance", choices=("full", "diag"), default="full", help="of each component (default: %(default)s)"
    )
    parser.add_argument(
        "--from",
        dest="source",
        choices=("means", "samples"),
        default="means",
        help="what it is fitted to: means of q(z|x), or a draw of each (default: %(default)s)",
    )
    parser.add_argument("--split", default="train", help="split that is encoded (default: %(default)s)")
    parser.add_argument("--sequences", type=positive, metavar="N", help="its first N sequences (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the fit and of the draws (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--force", action="store_true", help="overwrite the file to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
