"""Half precision and mixed precision: what is computed in float32, what an overflow may change, how good it becomes.

The code paths of a GPU run here on the CPU: `--amp` scales losses and casts as on a GPU, to bfloat16. Tests marked
`gpu` do the same on a real one.
"""

import math

import commands
import pytest
import torch
from commands import ELBO, make_training
from test_task import TURNS, batches_for, equal, moved, rollout_weights, snapshot

from fairseq_seqvae import compat
from fairseq_seqvae.core import sequences
from fairseq_seqvae.core.latents import gaussian
from fairseq_seqvae.core.policy_gradient import reinforce
from fairseq_seqvae.core.rewards import discriminator as rewards
from fairseq_seqvae.tasks import run_checks

HALF = {"fp16": "--fp16 --fp16-init-scale 4", "bf16": "--bf16"}
ALL = {**HALF, "memory-efficient-fp16": "--memory-efficient-fp16 --fp16-init-scale 4", "amp": "--amp"}
ADVERSARIAL_FROM_THE_START = "--gen-pretrain-updates 0 --disc-pretrain-updates 0"
SGD = "--optimizer sgd --lr 0.1 --clip-norm 0"

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"),
]


@pytest.fixture
def amp_on_cpu(monkeypatch):
    """Let `--amp` do on the CPU what it does on a GPU."""
    autocast, scaler = torch.autocast, torch.amp.GradScaler
    monkeypatch.setattr(run_checks, "uses_gpu", lambda common: True)
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda **options: scaler("cpu", **options))
    monkeypatch.setattr(
        torch, "autocast", lambda device, enabled=True: autocast("cpu", dtype=torch.bfloat16, enabled=enabled)
    )
    # oneDNN has no LSTM for bfloat16.
    with torch.backends.mkldnn.flags(enabled=False):
        yield


def train_all_turns(training, check=lambda turn, before, after: None):
    for turn, batch in zip(TURNS, batches_for(training, len(TURNS)), strict=True):
        before = snapshot(training)
        training.update(batch)
        check(turn, before, snapshot(training))


def assert_overflow_is_skipped(training):
    """The second of two turns of the generator overflows: nobody moves; then the turn is made again."""
    first, second = batches_for(training, 2)
    training.update(first)
    policy = rollout_weights(training)
    assert not torch.equal(policy["output.bias"], training.model.decoder.output.bias)
    before = snapshot(training)
    hook = training.model.decoder.output.bias.register_hook(lambda gradient: gradient * math.inf)
    training.update(second)
    hook.remove()
    after = snapshot(training)
    assert equal(before["generator"], after["generator"]) and equal(before["discriminator"], after["discriminator"])
    assert equal(policy, rollout_weights(training)) and training.trainer.get_num_updates() == 1
    training.update(second)
    assert training.trainer.get_num_updates() == 2
    for name, p in training.model.decoder.named_parameters():
        expected = 0.8 * policy[name].double() + 0.2 * p.detach().double()
        torch.testing.assert_close(rollout_weights(training)[name].double(), expected, rtol=2e-3, atol=1e-6)


# -- what is computed in float32


@pytest.mark.parametrize("precision", ALL)
def test_what_the_losses_are_made_of_is_float32(toy, monkeypatch, amp_on_cpu, precision):
    computed = {}

    def record(owner, name):
        original = getattr(owner, name)

        def recording(*args, **kwargs):
            result = original(*args, **kwargs)
            computed.setdefault(name, set()).add(result.dtype)
            return result

        monkeypatch.setattr(owner, name, recording)

    record(gaussian.DiagonalGaussian, "kl")
    record(sequences, "token_log_probs")
    record(rewards, "reward_from_logits")
    for name in ("token_returns", "advantages", "policy_gradient_loss", "token_entropy"):
        record(reinforce, name)
    training = make_training(toy.folder, ALL[precision])
    train_all_turns(training)
    assert training.trainer.get_num_updates() == len(TURNS)
    assert len(computed) == 7 and all(dtypes == {torch.float32} for dtypes in computed.values()), computed
    low = next(training.model.decoder.parameters()).dtype
    assert low == {"bf16": torch.bfloat16, "amp": torch.float32}.get(precision, torch.float16)


# -- the rollout policy


@pytest.mark.parametrize("precision", HALF)
class TestRolloutPolicyInHalfPrecision:
    def test_it_follows_steps_that_are_smaller_than_its_rounding(self, toy, precision):
        model = make_training(toy.folder, HALF[precision]).model
        model.lagging.follow(model.decoder, 0.0)
        weight, lagging = model.decoder.output.weight, model.rollout_decoder.output.weight
        exact = lagging.detach().double()
        with torch.no_grad():
            # The next number of the format: a fifth of the way to it rounds to nothing.
            weight.copy_(weight * (1 + torch.finfo(weight.dtype).eps))
            assert torch.equal(torch.lerp(lagging, weight, 0.2), lagging)
        for _ in range(30):
            model.lagging.follow(model.decoder, 0.8)
            exact = 0.8 * exact + 0.2 * weight.detach().double()
            torch.testing.assert_close(lagging.double(), exact, rtol=torch.finfo(weight.dtype).eps, atol=1e-7)
        assert torch.equal(lagging, weight)

    def test_it_begins_again_from_the_weights_of_a_checkpoint(self, toy, precision):
        model = make_training(toy.folder, HALF[precision]).model
        model.lagging.follow(model.decoder, 0.8)
        state = {
            key: torch.full_like(value, 0.5) if "output" in key else value for key, value in model.state_dict().items()
        }
        model.load_state_dict(state)
        model.lagging.follow(model.decoder, 0.8)
        assert (model.rollout_decoder.output.weight == 0.5).all()


# -- --amp


class TestAmp:
    def test_the_resting_player_does_not_move(self, toy, amp_on_cpu):
        def check(turn, before, after):
            active, idle = ("generator", "discriminator") if turn[0] == "G" else ("discriminator", "generator")
            assert equal(before[idle], after[idle]) and moved(before[active], after[active])

        train_all_turns(make_training(toy.folder, "--amp"), check)

    def test_an_overflow_changes_nothing_but_the_scale(self, toy, amp_on_cpu):
        training = make_training(toy.folder, "--amp --amp-batch-retries 0", ADVERSARIAL_FROM_THE_START)
        assert_overflow_is_skipped(training)
        assert training.trainer.optimizer.scaler.get_scale() == training.cfg.common.fp16_init_scale / 2

    def test_a_step_is_as_long_as_in_float32(self, toy, amp_on_cpu):
        moves = []
        for precision in ("", "--amp"):
            training = make_training(toy.folder, SGD, precision)
            before = training.model.decoder.output.weight.detach().clone()
            training.update(batches_for(training, 1)[0])
            moves.append(training.model.decoder.output.weight.detach() - before)
        # fairseq's own optimizer divides by the scale, 128, twice.
        torch.testing.assert_close(moves[1], moves[0], rtol=0.05, atol=0.02 * float(moves[0].abs().max()))

    def test_its_repair_can_be_applied_again(self):
        from fairseq.optim.amp_optimizer import AMPOptimizer

        repaired = AMPOptimizer.step
        compat.apply_repairs()
        assert AMPOptimizer.step is repaired

    @pytest.mark.skipif(torch.cuda.is_available(), reason="says something only without a CUDA device")
    def test_without_a_gpu_it_is_said_that_it_does_nothing(self, toy, tmp_path, caplog):
        make_training(toy.folder, "--amp")
        assert [record.message for record in caplog.records].count(
            "--amp does nothing without a GPU: this run is in float32 (--bf16 works on a CPU)"
        ) == 1
        training = make_training(toy.folder, "--amp --save-dir", tmp_path)
        training.model.decoder.output.bias.data.fill_(math.nan)
        with pytest.raises(FloatingPointError, match="in update 1, a turn of the generator"):
            training.update(batches_for(training, 1)[0])
        caplog.clear()
        make_training(toy.folder, "--bf16")
        assert "--amp" not in caplog.text


# -- overflow with --fp16


@pytest.mark.parametrize("precision", ["fp16", "memory-efficient-fp16"])
def test_an_overflow_of_fp16_changes_nothing_but_the_scale(toy, precision):
    training = make_training(toy.folder, ALL[precision], "--fp16-scale-tolerance 0.25", ADVERSARIAL_FROM_THE_START)
    assert_overflow_is_skipped(training)
    assert training.trainer.optimizer.scaler.loss_scale == 2


# -- resume


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["--memory-efficient-bf16", "--memory-efficient-fp16 --fp16-init-scale 4"])
def test_where_parameters_are_half_precision_resuming_is_exact(toy, tmp_path, precision):
    commands.train(toy.folder, tmp_path / "whole", precision, "--max-update 14")
    for stop in (9, 14):
        commands.train(toy.folder, tmp_path / "resumed", precision, "--max-update", stop)
    whole, resumed = (tmp_path / name / "checkpoint_last.pt" for name in ("whole", "resumed"))
    commands.assert_same_training(whole, resumed)
    kept = commands.load_checkpoint(whole)["model"]
    names = [name for name in kept if name.startswith("exact_rollout.")]
    assert len(names) > 5 and all(kept[name].dtype == torch.float32 for name in names)
    commands.train(toy.folder, tmp_path / "float32", "--max-update 1 --finetune-from-model", whole)


# -- how good it becomes

LEARNING = (
    "--lr 1e-2 --decoder-hidden-dim 24 --encoder-hidden-dim 16 --latent-input --dropout 0 --kl-weight 0.3 "
    "--log-interval 1000 --max-update 300 --no-save --validate-interval 1000"
)
# Nats per sentence, of 8.7; measured on the CPU: fp16 0.00, bf16 0.03 above float32.
TOLERANCE = 0.1


def learn(toy, folder, *flags, gpu=False):
    """The negative ELBO of held-out sentences after training."""
    words = commands.training_flags(toy.folder, folder, LEARNING, *flags, criterion=ELBO)
    output = commands.call("train", [word for word in words if not (gpu and word == "--cpu")])
    return float(commands.json_lines(output, "valid")[-1]["valid_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", HALF)
def test_half_precision_reaches_the_elbo_of_float32(toy, tmp_path, precision):
    found, expected = learn(toy, tmp_path, HALF[precision]), learn(toy, tmp_path)
    assert found == pytest.approx(expected, abs=TOLERANCE)


# -- on a GPU


class TestGpu:
    pytestmark = needs_gpu

    @pytest.mark.parametrize("precision", ["", *ALL.values()], ids=["fp32", *ALL])
    def test_all_turns_train_and_validate(self, toy, tmp_path, precision):
        words = commands.training_flags(toy.folder, tmp_path, precision, "--max-update 14")
        output = commands.call("train", [word for word in words if word != "--cpu"])
        losses = [float(line["loss"]) for line in commands.json_lines(output, "train_inner") if "loss" in line]
        assert losses and all(map(math.isfinite, losses))
        assert math.isfinite(float(commands.json_lines(output, "valid")[-1]["valid_loss"]))

    @pytest.mark.parametrize("precision", ["", *ALL.values()], ids=["fp32", *ALL])
    def test_a_stopped_run_continues_exactly(self, toy, tmp_path, precision):
        for name, stops in (("whole", [14]), ("resumed", [9, 14])):
            for stop in stops:
                words = commands.training_flags(toy.folder, tmp_path / name, precision, "--max-update", stop)
                commands.call("train", [word for word in words if word != "--cpu"])
        commands.assert_same_training(*(tmp_path / name / "checkpoint_last.pt" for name in ("whole", "resumed")))

    @pytest.fixture(scope="class")
    def elbo_of_float32(self, toy, tmp_path_factory):
        return learn(toy, tmp_path_factory.mktemp("float32"), gpu=True)

    @pytest.mark.parametrize("precision", ALL)
    def test_the_elbo_is_that_of_float32(self, toy, tmp_path, precision, elbo_of_float32):
        assert learn(toy, tmp_path, ALL[precision], gpu=True) == pytest.approx(elbo_of_float32, abs=TOLERANCE)
