"""What the estimators are measured on: a model in training, built and trained as fairseq-train does it."""

import contextlib
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import fairseq_seqvae
from fairseq_seqvae.oracle import Oracle

# With rollouts, so that the model has the decoder that completes prefixes; each estimator says its own --value.
TRAINING = (
    "--task seqvae --arch seqvae_oracle --criterion seqvae_pg --optimizer seqvae_adam --lr 0.01 --clip-norm 5 --cpu "
    "--dropout 0 --pg-latent prior --pg-credit step --elbo-weight 0 --adv-d-steps 0 --disc-lr 0.0001 --value rollouts"
)

_UNCOUNTED = 1 << 30


class Shape(NamedTuple):
    """Sizes of what is measured.

    Attributes:
        length: T, tokens of each sequence
        vocab_size: V
        batch_size: sentences per update
        gen_updates: updates of the generator by the ELBO before
        disc_updates: updates of the discriminator after these
        critic_updates: updates of a critic, where an estimator has one
    """

    length: int
    vocab_size: int
    batch_size: int
    gen_updates: int
    disc_updates: int
    critic_updates: int = 50


class Setting:
    """A model whose pre-training is over, and one batch.

    Args:
        shape: sizes
        seed: of parameters and data
    """

    def __init__(self, shape: Shape, seed: int):
        from fairseq import tasks, utils
        from fairseq.trainer import Trainer

        fairseq_seqvae.register()
        self.shape, self.seed = shape, seed
        utils.set_torch_seed(seed)
        with tempfile.TemporaryDirectory() as name, _quiet():
            _write_data(Path(name), shape, seed)
            self._arguments = [name, *TRAINING.split(), "--seed", str(seed), "--fixed-length", str(shape.length)]
            self._arguments += ["--gen-pretrain-updates", str(shape.gen_updates)]
            self._arguments += ["--disc-pretrain-updates", str(shape.disc_updates)]
            config = self._config(())
            self.task: Any = tasks.setup_task(config.task)
            self.model: Any = self.task.build_model(config.model)
            criterion = self.task.build_criterion(config.criterion)
            self.task.load_dataset("train")
            batches = self._batches()
            trainer = Trainer(config, self.task, self.model, criterion)
            for update in range(shape.gen_updates + shape.disc_updates):
                trainer.train_step([batches[update % len(batches)]])
        self.batch = batches[0]
        self.model.lagging.follow(self.model.decoder, 0.0)  # completions by the policy itself have no bias

    def _config(self, flags: Sequence[str]) -> Any:
        from fairseq import options
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf

        namespace = options.parse_args_and_arch(options.get_training_parser(), [*self._arguments, *flags])
        return convert_namespace_to_omegaconf(namespace)

    def _batches(self) -> list[dict[str, Any]]:
        dataset, size = self.task.dataset("train"), self.shape.batch_size
        starts = range(0, len(dataset) - size + 1, size)
        return [dataset.collater([dataset[i] for i in range(start, start + size)]) for start in starts]

    def estimator(self, flags: Sequence[str]) -> "Estimator":
        """The policy gradient by the criterion with these further *flags*."""
        from fairseq.criterions import build_criterion

        with _quiet():
            criterion = build_criterion(self._config(flags).criterion, self.task)
        criterion.run_state = self.model.run_state
        self.model.critic = None
        if criterion.needs_critic:
            self.model.add_critic()
            self._train_critic(Estimator(self, criterion))
        return Estimator(self, criterion)

    def _train_critic(self, estimator: "Estimator") -> None:
        """In training it learns beside the policy; here the policy rests."""
        optimizer = torch.optim.Adam(self.model.critic.parameters(), lr=0.02)
        for number in range(self.shape.critic_updates):
            estimator.draw(-1 - number)
            optimizer.step()


class Estimator:
    """Draws estimates of the policy gradient."""

    def __init__(self, setting: Setting, criterion: Any):
        self.setting, self.criterion = setting, criterion

    def draw(self, number: int) -> tuple[Tensor, float]:
        """Estimate *number*: gradient of the decoder's parameters, (P,), per sequence; and its CPU seconds."""
        from fairseq_seqvae.core.schedules.turns import GENERATOR_TURN

        model, batch = self.setting.model, self.setting.batch
        model.train()
        model.zero_grad(set_to_none=True)
        start = time.process_time()
        # Numbers below 0 are of no estimate that counts.
        update = self.setting.task.plan.adversarial_from + (number if number >= 0 else _UNCOUNTED - number)
        loss, count, _ = self.criterion(model, batch, turn=GENERATOR_TURN, update_num=update)
        loss.backward()
        seconds = time.process_time() - start
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.decoder.parameters()]
        return torch.cat([gradient.flatten() for gradient in gradients]) / count, seconds


def _write_data(folder: Path, shape: Shape, seed: int) -> None:
    """Sequences of an oracle, as fairseq-preprocess writes them."""
    from fairseq.data import Dictionary, indexed_dataset

    dictionary = Dictionary()
    for number in range(shape.vocab_size):
        dictionary.add_symbol(str(number))
    dictionary.save(str(folder / "dict.txt"))
    tokens = Oracle.from_seed(88, shape.vocab_size).sample(16 * shape.batch_size, shape.length, seed)
    builder = indexed_dataset.make_builder(str(folder / "train.bin"), "mmap", vocab_size=len(dictionary))
    for row in tokens + dictionary.nspecial:
        builder.add_item(torch.cat([row, row.new_full((1,), dictionary.eos())]).int())
    builder.finalize(str(folder / "train.idx"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what fairseq says of a training."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hydra's
            yield
    finally:
        logging.disable(disabled)
