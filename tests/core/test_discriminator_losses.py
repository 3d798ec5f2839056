"""Losses of the discriminator and rewards from its logits."""

import math

import oracles
import pytest
import torch

from fairseq_seqvae.core.discriminators.losses import LOSSES, correct_judgements, discriminator_loss
from fairseq_seqvae.core.rewards.discriminator import reward_from_logits


def random_logits(size, seed=0):
    return 3 * torch.randn(size, generator=torch.Generator().manual_seed(seed))


class TestDiscriminatorLoss:
    def test_by_hand(self):
        # sigmoid(ln 3) = 3/4: the real one costs -ln 3/4, the fake one -ln 1/4.
        real, fake = discriminator_loss(torch.tensor([math.log(3)]), torch.tensor([math.log(3)]))
        assert real.item() == pytest.approx(-math.log(0.75))
        assert fake.item() == pytest.approx(-math.log(0.25))

    @pytest.mark.parametrize("sizes", [(1, 1), (4, 4), (3, 7), (32, 1)])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
    def test_equals_the_loop(self, sizes, smoothing):
        logits_real, logits_fake = random_logits(sizes[0], 1), random_logits(sizes[1], 2)
        real, fake = discriminator_loss(logits_real, logits_fake, label_smoothing=smoothing)
        assert real.shape == (sizes[0],) and fake.shape == (sizes[1],)
        expected_real = [oracles.binary_cross_entropy(x, 1 - smoothing) for x in logits_real.tolist()]
        expected_fake = [oracles.binary_cross_entropy(x, 0) for x in logits_fake.tolist()]
        torch.testing.assert_close(real, torch.tensor(expected_real))
        torch.testing.assert_close(fake, torch.tensor(expected_fake))

    def test_a_high_logit_for_real_is_right(self):
        real, fake = discriminator_loss(torch.tensor([5.0, -5.0]), torch.tensor([5.0, -5.0]))
        assert real[0] < real[1] and fake[0] > fake[1]

    def test_smoothing_is_one_sided(self):
        logits = random_logits(6)
        _, plain = discriminator_loss(logits, logits)
        real, fake = discriminator_loss(logits, logits, label_smoothing=0.1)
        assert torch.equal(plain, fake)
        # The smoothed loss is smallest where the probability of "real" is 0.9.
        best = torch.tensor([math.log(9.0)])
        for other in (best - 0.5, best + 0.5):
            at_best, _ = discriminator_loss(best, logits, label_smoothing=0.1)
            beside, _ = discriminator_loss(other, logits, label_smoothing=0.1)
            assert at_best < beside
        assert real.shape == plain.shape

    def test_sure_logits_stay_finite(self):
        real, fake = discriminator_loss(torch.tensor([-1e4, 1e4]), torch.tensor([-1e4, 1e4]))
        torch.testing.assert_close(real, torch.tensor([1e4, 0.0]))
        torch.testing.assert_close(fake, torch.tensor([0.0, 1e4]))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_gives_float32(self, dtype):
        logits = random_logits(5).to(dtype)
        for loss, target in zip(discriminator_loss(logits, logits), (1, 0), strict=True):
            assert loss.dtype == torch.float32
            expected = [oracles.binary_cross_entropy(x, target) for x in logits.tolist()]
            torch.testing.assert_close(loss, torch.tensor(expected), rtol=1e-5, atol=1e-6)

    def test_gradient_is_probability_minus_target(self):
        logits_real, logits_fake = random_logits(4, 3).requires_grad_(), random_logits(5, 4).requires_grad_()
        real, fake = discriminator_loss(logits_real, logits_fake, label_smoothing=0.2)
        (real.sum() + fake.sum()).backward()
        expected_real = torch.tensor([oracles.sigmoid(x) - 0.8 for x in logits_real.tolist()])
        expected_fake = torch.tensor([oracles.sigmoid(x) for x in logits_fake.tolist()])
        torch.testing.assert_close(logits_real.grad, expected_real)
        torch.testing.assert_close(logits_fake.grad, expected_fake)

    @pytest.mark.parametrize("smoothing", [-0.1, 1.5])
    def test_smoothing_out_of_range_is_named(self, smoothing):
        with pytest.raises(ValueError, match=f"label_smoothing.*{smoothing}"):
            discriminator_loss(torch.zeros(1), torch.zeros(1), label_smoothing=smoothing)


class TestOtherLosses:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.25])

    def test_the_hinge_asks_for_a_margin_of_one(self):
        real, fake = discriminator_loss(self.real, self.fake, kind="hinge")
        assert real.tolist() == [0.0, 0.5, 2.0] and fake.tolist() == [0.0, 1.25]

    def test_the_critic_is_paid_by_the_difference_of_its_scores(self):
        real, fake = discriminator_loss(self.real, self.fake, kind="wasserstein")
        assert real.tolist() == [-2.0, -0.5, 1.0] and fake.tolist() == [-3.0, 0.25]

    @pytest.mark.parametrize("kind", ["hinge", "wasserstein"])
    def test_know_no_labels_to_be_smoothed(self, kind):
        with pytest.raises(ValueError, match=f"`label_smoothing` must be 0 with the loss {kind}.*0.1"):
            discriminator_loss(self.real, self.fake, 0.1, kind)

    @pytest.mark.parametrize("kind", ["cross-entropy", "hinge", "wasserstein"])
    def test_all_are_in_float32_and_push_real_up_and_fake_down(self, kind):
        real, fake = self.real.half().requires_grad_(), self.fake.half().requires_grad_()
        losses = discriminator_loss(real, fake, kind=kind)
        assert {loss.dtype for loss in losses} == {torch.float32}
        sum(loss.sum() for loss in losses).backward()
        assert (real.grad <= 0).all() and real.grad[2] < 0 and (fake.grad >= 0).all() and fake.grad[1] > 0

    def test_an_unknown_one_lists_the_known(self):
        with pytest.raises(ValueError, match="unknown loss.*'least'.*cross-entropy, hinge, wasserstein"):
            discriminator_loss(self.real, self.fake, kind="least")
        assert {"cross-entropy", "hinge", "wasserstein"} <= set(LOSSES)


class TestJudgements:
    def test_are_right_on_the_right_side_of_zero(self):
        logits = torch.tensor([3.0, 0.0, -1.0]), torch.tensor([-2.0, 4.0, 0.0, 0.0])
        for kind in ("cross-entropy", "hinge"):
            assert [float(count) for count in correct_judgements(*logits, kind)] == [1.5, 2.0]

    def test_of_a_critic_are_right_on_the_right_side_of_the_middle(self):
        # Means 11 and 9: the middle is 10.
        real, fake = torch.tensor([14.0, 10.0, 9.0]), torch.tensor([8.0, 9.0, 10.0, 9.0])
        assert [float(count) for count in correct_judgements(real, fake, "wasserstein")] == [1.5, 3.5]


class TestReward:
    def test_by_hand(self):
        logits = torch.tensor([0.0, math.log(3)])
        torch.testing.assert_close(reward_from_logits(logits), torch.tensor([0.5, 0.75]))
        torch.testing.assert_close(
            reward_from_logits(logits, kind="log-prob"), torch.tensor([math.log(0.5), math.log(0.75)])
        )
        assert torch.equal(reward_from_logits(logits, kind="logit"), logits)

    @pytest.mark.parametrize("size", [1, 17])
    def test_equals_the_scalar_functions(self, size):
        logits = random_logits(size, 5)
        for kind, function in (("prob", oracles.sigmoid), ("log-prob", oracles.log_sigmoid), ("logit", float)):
            expected = torch.tensor([function(x) for x in logits.tolist()])
            torch.testing.assert_close(reward_from_logits(logits, kind=kind), expected)

    @pytest.mark.parametrize("kind", ["prob", "log-prob", "logit"])
    def test_a_more_real_sequence_earns_more(self, kind):
        rewards = reward_from_logits(torch.linspace(-8, 8, 50), kind=kind)
        assert (rewards.diff() > 0).all()

    def test_sure_logits_stay_finite(self):
        logits = torch.tensor([-1e4, 1e4])
        assert reward_from_logits(logits, kind="prob").tolist() == [0.0, 1.0]
        assert reward_from_logits(logits, kind="log-prob").tolist() == [-1e4, 0.0]

    @pytest.mark.parametrize("kind", ["prob", "log-prob", "logit"])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_gives_float32(self, kind, dtype):
        logits = random_logits(9, 6).to(dtype)
        rewards = reward_from_logits(logits, kind=kind)
        assert rewards.dtype == torch.float32
        # Rounded once, on the way in.
        torch.testing.assert_close(rewards, reward_from_logits(logits.float(), kind=kind), rtol=0, atol=0)

    def test_unknown_kind_is_named(self):
        with pytest.raises(ValueError, match="kind.*odds|odds.*kind"):
            reward_from_logits(torch.zeros(1), kind="odds")
