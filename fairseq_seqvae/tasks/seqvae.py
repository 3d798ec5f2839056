"""Task ``seqvae``: what model and criterion are built, and whose turn it is."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks import register_task
from torch import Tensor, nn

from fairseq_seqvae import options
from fairseq_seqvae.core.noise import Draws
from fairseq_seqvae.core.schedules.lagging_inference import LaggingPlan, LaggingState
from fairseq_seqvae.core.schedules.run_state import RunState
from fairseq_seqvae.core.schedules.turns import (
    DISCRIMINATOR,
    ENCODER_TURN,
    GENERATOR_PRETRAIN,
    GENERATOR_TURN,
    Turn,
    TurnPlan,
)
from fairseq_seqvae.models import SeqVAEModel
from fairseq_seqvae.support.memory import keep_freed_memory
from fairseq_seqvae.support.processes import is_master
from fairseq_seqvae.tasks import alarms, gating, run_checks, transposing
from fairseq_seqvae.tasks.config import SeqVAETaskConfig
from fairseq_seqvae.tasks.data import DataTask
from fairseq_seqvae.tasks.watch import Watch

logger = logging.getLogger(__name__)


@register_task("seqvae", dataclass=SeqVAETaskConfig)
class SeqVAETask(DataTask):
    """Train sequence variational autoencoders, alone or against a discriminator, and generate from them."""

    # `build_model` refuses other models, whatever a checkpoint names: files of this task may be read without trust.
    builds_seqvae_only = True

    def __init__(self, cfg: SeqVAETaskConfig, dictionary: Dictionary):
        options.check(cfg, SeqVAETaskConfig)
        super().__init__(cfg, dictionary)
        self.plan: TurnPlan | None = TurnPlan(
            cfg.gen_pretrain_updates, cfg.disc_pretrain_updates, cfg.adv_g_steps, cfg.adv_d_steps
        )
        self._lagging: LaggingPlan | None = None
        if cfg.lagging_updates:
            self._lagging = LaggingPlan(cfg.lagging_updates, cfg.lagging_until)
        self.needs_discriminator = self.needs_rollout_policy = True  # parts of a model that is built
        self.restored_checkpoint: str | None = None  # that replaces the parameters of a model which is built
        self._watch = Watch()
        self._update_num = 0
        self._turn = (-1, GENERATOR_PRETRAIN)  # number and turn of the update that is being made

    @classmethod
    def setup_task(cls, cfg: SeqVAETaskConfig, **kwargs) -> "SeqVAETask":
        """Read the dictionary of the data folder."""
        dictionary = cls.read_dictionary(utils.split_paths(cfg.data))
        logger.info(f"dictionary: {len(dictionary)} symbols")
        task = cls(cfg, dictionary)
        run_checks.refuse_no_updates(cfg)
        run_checks.prepare_for_two_players(cfg)
        if not torch.cuda.is_available():
            keep_freed_memory()
        return task

    # -- model and criterion --

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build the model; one that is read from a checkpoint, to be used, has no discriminator.

        Raises:
            ValueError: if it is another model. Some models of fairseq evaluate strings of their options as Python
                code, which would be the code of whoever made a checkpoint.
        """
        name = getattr(cfg, "_name", None)
        unnamed = object if from_checkpoint else SeqVAEModel  # options that are made in Python need not have a name
        if not issubclass(ARCH_MODEL_REGISTRY.get(name, unnamed), SeqVAEModel):
            raise ValueError(f"--task seqvae needs a SeqVAE, but the model is {name!r}: give one of --arch seqvae.")
        self.in_training = not from_checkpoint
        self.needs_discriminator = self.in_training and run_checks.wants_discriminator(self.cfg)
        self.needs_rollout_policy = self.in_training and run_checks.wants_rollouts(self.cfg)
        self.find_labels_of(cfg)
        self.restored_checkpoint = None if from_checkpoint else run_checks.restored_checkpoint(self.cfg)
        model = super().build_model(cfg, from_checkpoint)
        # Generation knows the model's options only from its checkpoint.
        self.fixed_length = getattr(cfg, "fixed_length", self.fixed_length)
        self._model = model
        return model

    def build_criterion(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build the criterion; without an adversarial one, the model loses its discriminator and every turn is ELBO."""
        run_checks.refuse_lone_process(self.cfg)
        if self.needs_discriminator:  # in training; fairseq-validate only reads
            run_checks.claim_folder(self.cfg)
        self._learns = True
        self._transposition = transposing.transposition(self.cfg.transpose, self.dictionary, self.cfg.transpose_by)
        # fairseq 0.12.2 does not know the second argument, and does not give it.
        criterion = super().build_criterion(cfg, *([True] if from_checkpoint else []))
        if hasattr(cfg, "disc_scoring") and getattr(self._model, "discriminator", None) is not None:
            run_checks.check_discriminator(self._model.discriminator, cfg)
        is_adversarial = getattr(criterion, "is_adversarial", False)
        has_judge = getattr(criterion, "uses_discriminator", is_adversarial)
        run_checks.refuse_missing_groups(self.cfg, ("generator", "discriminator") if has_judge else ("generator",))
        if self.plan and is_adversarial and not has_judge:
            self.plan = self.plan.without_discriminator()
            if getattr(self._model, "discriminator", None) is not None:
                self._model.drop_discriminator()
        if not is_adversarial:
            self.plan = None
            if self._model is not None and hasattr(self._model, "drop_adversary"):
                self._model.drop_adversary()
        elif self.plan and 0 < self.cfg.max_update <= self.plan.adversarial_from and is_master():
            logger.warning(
                f"--max-update {self.cfg.max_update} ends before the adversarial part, which begins at update "
                f"{self.plan.adversarial_from} (--gen-pretrain-updates {self.plan.gen_pretrain_updates}"
                + (f" + --disc-pretrain-updates {self.plan.disc_pretrain_updates}" if has_judge else "")
                + "): the policy gradient is never used"
            )
        if self._model is not None:
            self._add_parts(criterion)
        has_latent = getattr(getattr(self._model, "encoder", None), "latent_dim", 0) > 0
        if known := vars(type(criterion)).get("VALIDATION_METRICS"):
            if hasattr(criterion, "validation_metrics"):
                known = criterion.validation_metrics(has_latent)
            run_checks.refuse_unknown_metric(self.cfg, known)
        if hasattr(criterion, "is_adversarial"):  # not one that logs other numbers
            run_checks.refuse_without_latent(
                has_latent, kl_target=criterion.cfg.kl_target, lagging_updates=self.cfg.lagging_updates
            )
            if self.in_training:
                run_checks.refuse_one_sentence(self.cfg, criterion.cfg)
            criterion.run_state = getattr(self._model, "run_state", criterion.run_state)
            if self.in_training and (rewards := getattr(criterion.cfg, "reward_sources", None)):
                self._note_rewards(str(rewards))
            self._watch = Watch.of_run(self.cfg, criterion.cfg, has_latent, len(self.dictionary))
        return criterion

    def _add_parts(self, criterion: Any) -> None:
        """Give the model what this criterion needs of it besides the usual parts."""
        if getattr(criterion, "needs_reference", False):
            self._model.add_reference()
        if getattr(criterion, "needs_critic", False):
            self._model.add_critic()
        if getattr(criterion, "keeps_best", False) and getattr(self._model, "discriminator", None) is not None:
            self._model.add_kept_discriminator()

    def _note_rewards(self, rewards: str) -> None:
        """Write the *rewards* into the run's state, and compare them with those of a checkpoint that is read later."""

        def compare(run_state: RunState) -> None:
            if run_state is self._model.run_state:  # not that of a copy, such as the moving average
                run_checks.refuse_other_rewards(self.cfg, rewards, self.restored_checkpoint, run_state)

        run_checks.refuse_other_rewards(self.cfg, rewards, None, self._model.run_state)
        self._model.after_restoring = compare

    def text_decoders(self) -> list[Callable[[str], str]]:
        """What makes texts of symbols, as `--bpe` and `--tokenizer` of a training say, in the order of its use."""
        bpe, tokenizer = run_checks.encoders(self.cfg)
        made: tuple[Any, Any] = self.build_bpe(bpe), self.build_tokenizer(tokenizer)
        return [part.decode for part in made if part is not None]

    # -- turns --

    def turn(self, update_num: int) -> Turn:
        """Whose turn update number *update_num* (from 0) is."""
        turn = GENERATOR_PRETRAIN if self.plan is None else self.plan.turn(update_num)
        return turn if self._lagging is None else self._lagging.turn(update_num, turn, self._lagging_state)

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Forward and backward of the turn that this update is."""
        model.train()
        model.set_num_updates(update_num)
        self._update_num = update_num
        self._turn = update_num, self.turn(update_num)
        if self._transposition is not None:
            sample = transposing.transposed(sample, self._transposition, Draws(self.cfg.seed, update_num))
        knows_turns = hasattr(criterion, "is_adversarial")
        if knows_turns and self.plan is not None and criterion.judgements.interval:
            accuracies = gating.judge_if_due(self, model, criterion, optimizer, update_num)
            if update_num >= self.plan.adversarial_from:
                self._watch.held_out(accuracies, update_num)
        turn = {"turn": self._turn[1], "update_num": update_num} if knows_turns else {}
        autocast = torch.autocast("cuda", enabled=isinstance(optimizer, AMPOptimizer))
        with torch.autograd.profiler.record_function("forward"), autocast:
            loss, sample_size, logging_output = criterion(model, sample, **turn)
        if ignore_grad:
            loss = loss * 0
            for moments in model.moments:
                moments.forget_batch()
            if hasattr(criterion, "forget_batch"):
                criterion.forget_batch()
        with torch.autograd.profiler.record_function("backward"):
            optimizer.backward(loss)
        if self._turn[1] is ENCODER_TURN:
            _forget_gradients(model, self._turn[1].moves)
        return loss, sample_size, logging_output

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """Step the parts whose turn it is; no momentum and no decay acts on the others."""
        for moments in model.moments:
            moments.end_update()
        if self.plan is None and self._lagging is None:
            optimizer.step()
            return
        known, turn = self._turn
        if known != update_num:
            turn = self.turn(update_num)
        rate = self.cfg.disc_lr if DISCRIMINATOR in turn.moves else None
        if not _step_parts(optimizer, turn.moves, rate) or self.plan is None:
            return
        if model.lagging is None:
            return
        if turn is GENERATOR_TURN:
            model.lagging.follow(model.decoder, self.cfg.rollout_lag)
        elif update_num + 1 == self.plan.gen_pretrain_updates:
            model.lagging.follow(model.decoder, 0.0)

    # -- lagging inference --

    @property
    def _lagging_state(self) -> LaggingState:
        known = self._model.run_state.get("lagging")
        return LaggingState(*known) if known else LaggingState()

    @property
    def measures_mutual_information(self) -> bool:
        """Whether a validation decides how long lagging inference lasts."""
        made = self._update_num + 1
        return (
            self._lagging is not None
            and self.cfg.validate_interval_updates > 0
            # Others, such as that at the end of a run, would not be made in a run that is not interrupted there.
            and made % self.cfg.validate_interval_updates == 0
            and self._lagging.goes_on(made, self._lagging_state)
        )

    def _judge_lagging(self, lagging: LaggingPlan, mutual_information: float) -> None:
        before, made = self._lagging_state, self._update_num + 1
        after = lagging.observe(made, mutual_information, before)
        self._model.run_state.set("lagging", after)
        if after.ended_at == made != before.ended_at and is_master():
            logger.info(
                f"lagging inference ends after update {made}: the mutual information on the validation data fell from "
                f"{before.mutual_information:.3f} to {mutual_information:.3f} nats"
            )

    @property
    def judges_discriminator(self) -> bool:
        """Whether a validation tells how good the discriminator is: an untrained one would only confuse."""
        wanted = str(getattr(self.cfg, "best_checkpoint_metric", "")).startswith("d_acc")
        return wanted or self.plan is None or self.plan.discriminator_has_moved(self._update_num + 1)

    # -- alarms --

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Log, and look at the numbers, which are those of all processes and wait for no further one of a GPU.

        Raises:
            FloatingPointError: a loss is not finite although its gradient was, which no loss scaling will repair.
        """
        with metrics.aggregate() as logged:
            super().reduce_metrics(logging_outputs, criterion)
        self._watch.update(logged, self.turn(self._update_num), self._update_num, criterion.training)
        if criterion.training and hasattr(criterion, "after_update"):
            criterion.after_update(logging_outputs)

    def post_validate(self, model: Any, stats: dict[str, Any], agg: Any) -> None:
        """Look at the numbers of a whole validation."""
        run_checks.refuse_unknown_metric(self.cfg, stats)
        if self._lagging is not None and self.measures_mutual_information and "_mutual_information" in agg:
            # Rounded: several processes add up in another order.
            self._judge_lagging(self._lagging, round(float(agg["_mutual_information"].avg), 6))
        is_adversarial = self.plan is not None and self._update_num >= self.plan.adversarial_from
        self._watch.validation(agg, self._update_num, is_adversarial)

    def explain_floating_point_error(self, error: FloatingPointError, update_num: int) -> str:
        """What to say of an update whose gradient is not finite, instead of fairseq's words; `compat` asks for it."""
        return alarms.breakdown(f"{error}", self.turn(update_num), update_num + 1)


def _forget_gradients(model: nn.Module, moves: frozenset[str]) -> None:
    """Set the gradients of the parts that rest to 0: `--clip-norm` must measure those that move."""
    for parameter in model.parameters():
        if parameter.grad is not None and getattr(parameter, "part", None) not in moves:
            parameter.grad.zero_()


def _step_parts(optimizer: Any, moves: frozenset[str], rate: float | None = None) -> bool:
    """Step the parts that move; the others have no gradient, so neither momentum nor decay acts on them.

    Args:
        optimizer: fairseq's
        moves: parts of the model, as its parameters are tagged
        rate: learning rate of this step, instead of the scheduler's

    Returns:
        False if the gradients overflowed and the step was skipped
    """
    _tag_copies(optimizer)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            part = getattr(parameter, "part", None)
            if part is None:
                raise RuntimeError(
                    "the optimizer has merged the parameters of generator and discriminator into one: use "
                    "--fp16-no-flatten-grads, and not --ddp-backend fully_sharded."
                )
            if part not in moves:
                parameter.grad = None
    with _rate(optimizer, rate):
        return _step_unless_overflow(optimizer)


def _step_unless_overflow(optimizer: Any) -> bool:
    """Step; False if the gradients overflowed and `--amp` therefore skipped the step.

    With `--fp16` an overflow does not come as far as this. The scale falls after an overflow and only then.
    """
    scaler = optimizer.scaler if isinstance(optimizer, AMPOptimizer) else None
    before = scaler.get_scale() if scaler else 0.0
    optimizer.step()
    return scaler is None or scaler.get_scale() >= before


def _tag_copies(optimizer: Any) -> None:
    """In half precision fairseq steps float32 copies of the parameters, which lack our tags."""
    copies = getattr(optimizer, "fp32_params", None)
    originals = getattr(optimizer, "fp16_params", None)
    if isinstance(copies, list) and originals is not None and len(copies) == len(originals):
        for copy, original in zip(copies, originals, strict=True):
            copy.part = original.part


@contextmanager
def _rate(optimizer: Any, rate: float | None) -> Iterator[None]:
    """The learning rate of all groups, for a while; None leaves it alone."""
    rates = [group["lr"] for group in optimizer.param_groups]
    if rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate
    try:
        yield
    finally:
        for group, former in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = former
