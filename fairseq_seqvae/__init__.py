"""SeqVAE for fairseq. This folder is the `--user-dir`.

Importing the package, or its core (torch only), neither needs fairseq nor changes it. fairseq's commands import the
folders `tasks` and `models` of a `--user-dir` themselves. In your own program, call `register()` instead: fairseq skips
a `--user-dir` whose package the program has already imported.
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
