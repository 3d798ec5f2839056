"""SeqVAE for fairseq. This folder is the `--user-dir`.

Importing the package alone imports nothing else, so that its core (torch only) can be used without fairseq and leaves
anybody's fairseq as it is. fairseq's commands import the folders `tasks` and `models` of a `--user-dir` themselves;
a program of your own calls `register()`.
"""

from pathlib import Path

__version__ = "0.1.0"


def register() -> None:
    """Register the task, models, criterions, optimizer and scorer with fairseq, as `--user-dir` does.

    Raises:
        ImportError: fairseq is missing or broken; the message says what to do
    """
    from fairseq_seqvae import compat

    compat.require_fairseq()
    from fairseq.tasks import import_tasks

    import_tasks(str(Path(__file__).parent / "tasks"), f"{__name__}.tasks")
