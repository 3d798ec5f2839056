"""Labels of the sentences: the folder that ``--labels`` names, and what ``--condition`` asks for.

They are a data set of their own, as fairseq's task ``sentence_prediction`` has them: DATA/NAME is a folder that
fairseq-preprocess --only-source wrote from files with one label per line, for the same splits as the sentences.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.models.conditions import Conditions, label_folder
from fairseq_seqvae.models.dictionaries import is_filler
from fairseq_seqvae.tasks import run_checks
from fairseq_seqvae.tasks.datasets import SequenceDataset, read_split

_HINT = "fairseq-preprocess --only-source --trainpref LABELS --destdir {folder}, one label per line of the text"


class LabelData:
    """The labels of the sentences in one or several folders of data.

    Args:
        folders: of the data, which are its shards
        name: of the folder of labels in each of them

    Raises:
        ValueError, FileNotFoundError: there is no such folder, or it has no dictionary of labels, or two have different
            ones
    """

    def __init__(self, folders: Sequence[str], name: str):
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise ValueError(f"--labels must be the name of a folder inside DATA, such as label, but is {name!r}.")
        self.name = name
        path, *others = (os.path.join(folder, name, "dict.txt") for folder in folders)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"--labels {name}: there is no dictionary of labels {path}: make it by "
                f"{_HINT.format(folder=os.path.dirname(path))}."
            )
        self.dictionary = Dictionary.load(path)
        for other in others:
            if os.path.isfile(other) and Dictionary.load(other).symbols != self.dictionary.symbols:
                raise ValueError(
                    f"--labels {name}: {other} has other labels than {path}: preprocess the labels of all shards with "
                    f"--srcdict {path}."
                )

    @property
    def names(self) -> list[str]:
        """All labels, without symbols that only fill the dictionary up."""
        found = self.dictionary.symbols[self.dictionary.nspecial :]
        return [name for name in found if not is_filler(name)]

    def number(self, label: str, flag: str = "--condition") -> int:
        """The number of a label.

        Raises:
            ValueError: there is no such label; the message begins with *flag*
        """
        if label not in self.names:
            known = ", ".join(self.names[:20]) + (", ..." if len(self.names) > 20 else "")
            raise ValueError(f"{flag} {label!r} is no label of this model: give one of {known}.")
        return self.dictionary.index(label) - self.dictionary.nspecial

    def of_split(self, folder: str, split: str, dataset_impl: str | None = None, combine: bool = False) -> Tensor:
        """The labels of the sentences of a split, (N,).

        Raises:
            FileNotFoundError: there are none for this split
            ValueError: a line has not exactly one label, or one that the dictionary does not have
        """
        place = os.path.join(folder, self.name)
        try:
            lines = read_split(place, split, self.dictionary, dataset_impl, combine)
        except FileNotFoundError as error:
            how = _HINT.format(folder=place).replace("--trainpref", f"--{split.rstrip('0123456789')}pref")
            raise FileNotFoundError(
                f"--labels {self.name}: there is no split {split!r} in {place}: make it by {how}."
            ) from error
        sizes = torch.tensor(lines.sizes)
        if len(wrong := (sizes != 2).nonzero()):  # the label and EOS
            line = int(wrong[0])
            raise ValueError(
                f"--labels {self.name}: line {line + 1} of split {split!r} in {place} has {int(sizes[line]) - 1} "
                "labels, but each sentence has one: write several as one, such as reel_minor."
            )
        found = torch.cat([lines[number][:1] for number in range(len(lines))]).long() - self.dictionary.nspecial
        if len(unknown := (found < 0).nonzero()):
            raise ValueError(
                f"--labels {self.name}: line {int(unknown[0]) + 1} of split {split!r} in {place} has a label that the "
                "training data do not have: omit such sentences."
            )
        return found

    def put_into(self, dataset: SequenceDataset, *where: Any) -> None:
        """Give a split of the data its labels; further arguments as of :meth:`of_split`.

        Raises:
            ValueError: there are not as many as sentences
        """
        labels = self.of_split(*where)
        if len(labels) != len(dataset):
            folder, split = where[:2]
            raise ValueError(
                f"--labels {self.name}: split {split!r} in {folder} has {len(dataset)} sentences but {len(labels)} "
                "labels: both files need the same lines."
            )
        dataset.labels = labels

    def counts(self, folders: Sequence[str], split: str, dataset_impl: str | None = None) -> Tensor:
        """How often each label occurs in a split of all *folders*, (L,) int64."""
        found = torch.cat([self.of_split(folder, split, dataset_impl) for folder in folders])
        return torch.bincount(found, minlength=len(self.dictionary) - self.dictionary.nspecial)


class LabelledTask(FairseqTask):
    """A task whose sentences may have labels.

    Attributes:
        labels: of the data; None: there are none
        in_training: a model was built to be trained
    """

    dictionary: Dictionary
    in_training: bool

    def __init__(self, cfg: Any):
        super().__init__(cfg)
        self.labels: LabelData | None = None
        self.in_training = False
        if getattr(cfg, "labels", None):
            self.find_labels(str(cfg.labels))

    def find_labels(self, name: str | None) -> None:
        """Read the dictionary of the labels that a model knows, or forget that of a model which knows none.

        Raises:
            ValueError, FileNotFoundError: see :class:`LabelData`; or --condition asks for a label, but there are none
        """
        if name is None:
            if condition := getattr(self.cfg, "condition", None):
                raise ValueError(
                    f"--condition {condition} needs a model that was trained with --labels, which this one was not: "
                    "omit it."
                )
            self.labels = None
        elif self.labels is None or self.labels.name != name:
            self.labels = LabelData(utils.split_paths(self.cfg.data), name)

    def find_labels_of(self, model_options: Any) -> None:
        """The same for a model of these options."""
        self.find_labels(label_folder(model_options))
        if self.labels is not None and self.condition is not None:
            self.labels.number(self.condition)

    @property
    def condition(self) -> str | None:
        """The label that is asked for; tasks of earlier checkpoints do not know."""
        return getattr(self.cfg, "condition", None)

    def conditions(self) -> Conditions | None:
        """The labels for a model that is built, in training with their counts, which else are in its checkpoint."""
        if self.labels is None:
            return None
        dictionary = self.labels.dictionary
        counts = torch.zeros(len(dictionary) - dictionary.nspecial, dtype=torch.long)
        if self.in_training:
            folders, split = utils.split_paths(self.cfg.data), run_checks.train_subset(self.cfg)
            folders = folders if split.startswith("train") else folders[:1]
            counts = self.labels.counts(folders, split, self.cfg.dataset_impl)
        return Conditions(dictionary, counts, len(self.dictionary))

    def label(self, dataset: SequenceDataset, folder: str, split: str, combine: bool = False) -> None:
        """Give a split of the data its labels, where the model knows such.

        Generation can do without them where --condition says what is wanted.
        """
        if self.labels is None:
            return
        place = os.path.join(folder, self.labels.name, split)
        if self.condition is not None and not self.in_training and not os.path.exists(f"{place}.idx"):
            return
        self.labels.put_into(dataset, folder, split, self.cfg.dataset_impl, combine)

    def label_inputs(self, models: list[Any], ids: Tensor, given: Tensor | None, draws_them: bool) -> dict[str, Tensor]:
        """The inputs ``labels``, of sources, and ``condition``, of what is made of them, (B,) each; {} without labels.

        Args:
            models: that generate
            ids: (B,), numbers of the sentences
            given: (B,), labels of the sentences in the data, where they are of the data
            draws_them: draw labels as frequent as in the training data, where none is given

        Raises:
            ValueError: neither the data nor --condition gives a label
        """
        if self.labels is None:
            return {}
        wanted = given
        if self.condition is not None:
            wanted = torch.full_like(ids, self.labels.number(self.condition))
        elif given is None and draws_them:
            wanted = models[0].conditions.draw(Draws(self.cfg.seed), ids, Stream.GENERATION_CONDITION)
        if wanted is None:
            raise ValueError(
                f"the model knows labels, and the lines have none: give --condition with one of "
                f"{', '.join(self.labels.names[:20])}."
            )
        return {"labels": wanted if given is None else given, "condition": wanted}
