"""`python -m fairseq_seqvae` prints the folder to give to fairseq's commands as `--user-dir`.

    fairseq-train DATA --user-dir "$(python -m fairseq_seqvae)" --task seqvae ...

Only the folder goes to standard output. Should fairseq be missing or broken, one sentence on standard error says so and
the exit status is 1.
"""

import argparse
import platform
import sys
from pathlib import Path

from fairseq_seqvae import __version__, compat


def versions() -> str:
    """Return the versions that a problem report should contain, one a line."""
    rows = {
        "fairseq-seqvae": __version__,
        "fairseq": compat.fairseq_version(),
        "torch": compat.installed_version("torch"),
        "numpy": compat.installed_version("numpy"),
        "python": platform.python_version(),
    }
    return "\n".join(f"{name} {version or '(not installed)'}" for name, version in rows.items())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fairseq_seqvae", description="Print the folder to give to fairseq's commands as --user-dir."
    )
    parser.add_argument("--version", action="store_true", help="print the versions of all that matters instead")
    args = parser.parse_args()
    print(versions() if args.version else Path(__file__).resolve().parent)
    if problem := compat.fairseq_problem():
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
