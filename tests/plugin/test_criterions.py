"""The two criteria: their losses against loops over tokens, who gets a gradient, and what is logged."""

import functools
import math
from collections import Counter

import commands
import oracles
import pytest
import torch
from commands import ELBO, make_training
from fairseq.logging import metrics

from fairseq_seqvae.core import noise
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.schedules.turns import (
    DISCRIMINATOR_PRETRAIN,
    DISCRIMINATOR_TURN,
    GENERATOR_PRETRAIN,
    GENERATOR_TURN,
)

CALM = "--dropout 0 --disc-dropout 0"
UPDATE = 7  # number of the update in all tests that do not say another


# A training costs more than what is done with it here; those that change more than weights have flags of their own.
make_once = functools.cache(make_training)


def prepare(toy, *flags, batch_size=5, criterion=commands.ADVERSARIAL, seed=0):
    """A training with random weights that are large enough for sentences to differ, and one of its batches."""
    training = make_once(toy.folder, CALM, f"--batch-size {batch_size}", *flags, criterion=criterion)
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in (training.model.decoder, training.model.rollout_decoder, training.model.encoder):
            for p in module.parameters() if module is not None else ():
                p.copy_(torch.randn(p.shape) * 0.6)
    if training.model.discriminator is not None:
        with torch.no_grad():
            for p in training.model.discriminator.parameters():
                p.copy_(torch.randn(p.shape) * 0.4)
    training.model.train()
    batches = training.batches()
    return training, batches[len(batches) // 2]


def draws_of(training, update=UPDATE):
    return Draws(training.cfg.common.seed, update)


def act(training, batch, update=UPDATE):
    draws, ids = draws_of(training, update), batch["id"]
    noise, keys = draws.normal(Stream.TRAJECTORY_LATENT, ids, 6), draws.keys(Stream.TRAJECTORY, ids)
    return training.criterion.act(training.model, batch, noise, keys, training.task.max_sample_length(batch["target"]))


def rewards_of(training, batch, trajectory, draws):
    longest = training.task.max_sample_length(batch["target"])
    return training.criterion.rewards(training.model, trajectory, draws, longest)


def evaluate(training, batch, turn, update=UPDATE):
    """Loss and log of one turn."""
    loss, sample_size, log = training.criterion(training.model, batch, turn=turn, update_num=update)
    assert sample_size == len(batch["id"])
    return loss, log


def slow_log_probs(decoder, tokens, z):
    """log p of each token of one sentence given z, one step after the other: a list."""
    state, previous, result = decoder.start(z.unsqueeze(0)), decoder.eos, []
    for token in tokens:
        features, state = decoder.advance(torch.tensor([previous]), state)
        result.append(oracles.log_softmax(decoder.logits(features)[0].tolist()))
        previous = token
    return result


def greedy_by_steps(decoder, z, max_len):
    """The likeliest token at each step, up to the EOS: a list."""
    state, tokens = decoder.start(z.unsqueeze(0)), []
    while len(tokens) < max_len and tokens[-1:] != [decoder.eos]:
        features, state = decoder.advance(torch.tensor([tokens[-1] if tokens else decoder.eos]), state)
        tokens.append(int(decoder.logits(features)[0].argmax()))
    return tokens


def unpadded(tokens, pad=1):
    return [[token for token in row if token != pad] for row in tokens.tolist()]


def posterior_draws(training, batch, stream, update=UPDATE):
    """q(z|x) and the z that is drawn from it, as lists of rows."""
    seed = training.cfg.common.seed
    draws = noise.normal(noise.row_keys(seed, update, stream, batch["id"]), 6)
    training.model.eval()
    posterior = training.model.encoder.posterior(batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"])
    training.model.train()
    mean, std = posterior.mean.detach(), posterior.std.detach()
    return (
        mean,
        std,
        torch.tensor(
            [[m + s * e for m, s, e in zip(*rows, strict=True)] for rows in zip(mean, std, draws, strict=True)]
        ),
    )


def go_on_earning(earned, lengths, stride):
    """A sequence that has ended earns its last reward for every further prefix that a longer one has, too.

    `earned`: for each sequence {index of the last token of a prefix: reward}.
    """
    width = max(lengths)
    for row, length in zip(earned, lengths, strict=True):
        ends = [n for n in range(1, width + 1) if n % stride == 0 or n == width]
        # The prefix in which it ends has its reward already.
        later = [n for n in ends if n >= length][1:]
        row.update({n - 1: row[length - 1] for n in later})


def credit(earned, t, kind):
    """What token t is credited with."""
    rewards = [earned[i] for i in sorted(earned) if i >= t]
    if kind == "to-go":
        return sum(rewards)
    return rewards[0] if rewards else 0.0


def slow_rec(training, batch, z):
    """Reconstruction loss of each sentence, nats."""
    total = []
    for row, tokens in enumerate(unpadded(batch["target"])):
        log_probs = slow_log_probs(training.model.decoder, tokens, z[row])
        total.append(-sum(log_probs[t][token] for t, token in enumerate(tokens)))
    return total


def slow_kl(mean, std):
    """KL of each sentence and dimension, nats."""
    return [
        [0.5 * (m * m + s * s - 1) - math.log(s) for m, s in zip(*rows, strict=True)]
        for rows in zip(mean.tolist(), std.tolist(), strict=True)
    ]


class TestElbo:
    @pytest.mark.parametrize("criterion", [ELBO, commands.ADVERSARIAL], ids=["elbo", "pg"])
    @pytest.mark.parametrize(
        "flags, weight, free",
        [
            ("", 1.0, None),
            ("--kl-weight 0.3", 0.3, None),
            ("--kl-weight 0.8 --kl-anneal linear --kl-anneal-updates 20", 0.8 * 7 / 20, None),
            # Cycles of 10 updates: update 7 is past the ramp of 5.
            ("--kl-weight 0.8 --kl-anneal cyclical --kl-anneal-updates 20 --kl-cycles 2", 0.8, None),
            ("--free-bits 1.5", 1.0, (1.5, "total")),
            ("--free-bits 0.2 --free-bits-mode per-dim --kl-weight 0.5", 0.5, (0.2, "per-dim")),
        ],
    )
    def test_loss_equals_the_loop_over_tokens(self, toy, criterion, flags, weight, free):
        training, batch = prepare(toy, flags, criterion=criterion)
        loss, log = evaluate(training, batch, GENERATOR_PRETRAIN)
        mean, std, z = posterior_draws(training, batch, Stream.POSTERIOR)
        rec, kl = sum(slow_rec(training, batch, z)), slow_kl(mean, std)
        penalised = sum(oracles.free_bits(kl, *free)) if free else sum(map(sum, kl))
        assert loss.item() == pytest.approx(rec + weight * penalised, rel=1e-5)
        assert log["loss"].item() == pytest.approx(rec + weight * penalised, rel=1e-5)
        assert log["rec"].item() == pytest.approx(rec, rel=1e-5)
        assert log["kl"].item() == pytest.approx(sum(map(sum, kl)), rel=1e-5)
        assert log["kl_weight"] == pytest.approx(5 * weight)
        assert log["sample_size"] == log["nsentences"] == log["weight"] == 5
        assert log["ntokens"] == sum(map(len, unpadded(batch["target"])))

    def test_noise_changes_with_the_update_and_not_with_the_batch(self, toy):
        training, batch = prepare(toy, criterion=ELBO)
        first, again = (evaluate(training, batch, GENERATOR_PRETRAIN)[0].item() for _ in range(2))
        other = evaluate(training, batch, GENERATOR_PRETRAIN, update=8)[0].item()
        assert first == again != other
        dataset = training.task.dataset("train")
        alone = [
            evaluate(training, dataset.collater([dataset[i]]), GENERATOR_PRETRAIN)[0].item()
            for i in batch["id"].tolist()
        ]
        assert sum(alone) == pytest.approx(first, rel=1e-5)

    def test_fixed_length_has_no_eos_to_predict(self, toy_fixed):
        training, batch = prepare(toy_fixed, "--fixed-length 6", criterion=ELBO)
        loss, log = evaluate(training, batch, GENERATOR_PRETRAIN)
        assert log["ntokens"] == 30
        mean, std, z = posterior_draws(training, batch, Stream.POSTERIOR)
        expected = sum(slow_rec(training, batch, z)) + sum(map(sum, slow_kl(mean, std)))
        assert loss.item() == pytest.approx(expected, rel=1e-5)


class TestValidation:
    @pytest.mark.parametrize("criterion", [ELBO, commands.ADVERSARIAL], ids=["elbo", "pg"])
    def test_it_is_the_plain_elbo_whatever_is_trained(self, toy, criterion):
        flags = "--kl-weight 0.1 --free-bits 3 --kl-anneal linear --kl-anneal-updates 100"
        training, batch = prepare(toy, flags, criterion=criterion)
        training.model.eval()
        mean, std, z = posterior_draws(training, batch, Stream.VALIDATION_POSTERIOR, update=0)
        expected = sum(slow_rec(training, batch, z)) + sum(map(sum, slow_kl(mean, std)))
        training.model.eval()
        for turn, update in ((GENERATOR_PRETRAIN, 0), (GENERATOR_TURN, 9), (DISCRIMINATOR_TURN, 10)):
            torch.manual_seed(update)
            loss, log = evaluate(training, batch, turn, update)
            assert loss.item() == log["loss"].item() == pytest.approx(expected, rel=1e-5)
        # As the trainer calls it.
        assert training.criterion(training.model, batch)[0].item() == loss.item()

    def test_it_changes_nothing(self, toy):
        training, batch = prepare(toy)
        training.model.eval()
        before = {k: v.clone() for k, v in training.model.state_dict().items()}
        random_state = torch.get_rng_state()
        with torch.no_grad():
            training.criterion(training.model, batch)
        assert all(torch.equal(v, before[k]) for k, v in training.model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random_state)

    def test_bigram_divergence_is_that_of_all_batches_together(self, toy):
        training, _ = prepare(toy)
        training.model.eval()
        logs, data, samples = [], Counter(), Counter()
        for batch in training.batches("valid"):
            logs.append(training.criterion(training.model, batch)[2])
            made = training.criterion.prior_samples(
                training.model,
                batch["id"],
                draws_of(training, 0),
                Stream.VALIDATION_LATENT,
                Stream.VALIDATION_SAMPLE,
                training.task.max_sample_length(batch["target"]),
            )
            for counter, tokens in ((data, batch["target"]), (samples, made.tokens)):
                for row in unpadded(tokens):
                    counter.update(zip([-1, *row], row))  # noqa: B905
        expected = 0.0
        for pair in data | samples:
            p, q = data[pair] / data.total(), samples[pair] / samples.total()
            expected += sum(0.5 * x * math.log(2 * x / (p + q)) for x in (p, q) if x > 0)
        metrics.reset()
        with metrics.aggregate() as all_at_once:
            training.criterion.reduce_metrics(logs)
        with metrics.aggregate() as one_by_one:
            for log in logs:
                training.criterion.reduce_metrics([log])
        for found in (all_at_once, one_by_one):
            assert found.get_smoothed_values()["bigram_jsd"] == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize("is_melody", [False, True])
    def test_reconstruction_is_that_of_loops(self, toy, tmp_path, is_melody):
        data = toy.folder
        if is_melody:
            lines = [f"6{i % 5} _ . _ 7{i % 7} _" for i in range(12)] + ["_ _ 60 _"]
            data = commands.preprocess(tmp_path / "bin", train=lines, valid=lines)
        training = make_training(data, CALM, "--batch-size 5", criterion=ELBO)
        torch.manual_seed(1)
        with torch.no_grad():
            for p in [*training.model.decoder.parameters(), *training.model.encoder.parameters()]:
                p.copy_(torch.randn(p.shape))
        training.model.eval()
        logs, right = [], Counter()
        for batch in training.batches("valid"):
            logs.append(evaluate(training, batch, GENERATOR_PRETRAIN)[1])
            targets = unpadded(batch["target"])
            means = training.model.encoder.posterior(*list(batch["net_input"].values())[:2]).mean
            decoded = [greedy_by_steps(training.model.decoder, z, batch["target"].size(1)) for z in means]
            for i, target in enumerate(targets):
                own = [decoded[i][t : t + 1] == [token] for t, token in enumerate(target)]
                right.update(own=sum(own), tokens=len(target))
                if len(targets) > 1:
                    other = decoded[i - 1]
                    right.update(other=sum(other[t : t + 1] == [x] for t, x in enumerate(target)), others=len(target))
                symbols = [training.task.dictionary[token] for token in target]
                right.update(notes_right=sum(hit for hit, s in zip(own, symbols, strict=True) if s.isdigit()))
                right.update(notes=sum(s.isdigit() for s in symbols))
        expected = {"rec_acc": right["own"] / right["tokens"], "rec_acc_other": right["other"] / right["others"]}
        if is_melody:
            expected["rec_acc_notes"] = right["notes_right"] / right["notes"]
        for logs_of_call in ([logs], [[log] for log in logs]):  # all at once, and one after the other
            metrics.reset()
            with metrics.aggregate() as found:
                for some in logs_of_call:
                    training.criterion.reduce_metrics(some)
            values = found.get_smoothed_values()
            assert {key: values[key] for key in values if key.startswith("rec_")} == pytest.approx(expected, abs=1e-3)
        assert 0 < right["own"] < right["tokens"] and len(logs) > 1

    def test_a_batch_of_one_sentence_has_no_other_but_the_same_keys(self, toy):
        training, batch = prepare(toy, criterion=ELBO)
        alone, one = prepare(toy, criterion=ELBO, batch_size=1)
        for model in (training.model, alone.model):
            model.eval()
        log, log_of_one = (evaluate(t, b, GENERATOR_PRETRAIN)[1] for t, b in ((training, batch), (alone, one)))
        assert log.keys() == log_of_one.keys()
        assert log_of_one["rec_acc_other_places"] == log_of_one["rec_acc_other_hits"] == 0
        assert log_of_one["rec_acc_places"] == log_of_one["ntokens"]

    @pytest.mark.parametrize("flags", ["--no-valid-reconstruction", "--latent-dim 0"])
    def test_reconstruction_can_be_omitted(self, toy, flags):
        training = make_training(toy.folder, flags, criterion=ELBO)
        training.model.eval()
        log = evaluate(training, training.batches("valid")[0], GENERATOR_PRETRAIN)[1]
        assert not any(key.startswith("rec_") for key in log) and "bigrams_data" in log

    def test_samples_can_be_left_out(self, toy):
        training, batch = prepare(toy, "--no-valid-samples")
        training.model.eval()
        log = training.criterion(training.model, batch)[2]
        assert not any(key.startswith(("bigrams", "distinct", "d_")) for key in log)


class TestPolicyGradient:
    @pytest.mark.parametrize(
        "flags",
        [
            "",
            "--pg-credit step --reward-stride 1",
            "--pg-credit step --reward-stride 3 --pg-baseline mean",
            "--reward-stride 100 --pg-baseline none --pg-weight 0.5",
            "--reward log-prob --pg-normalize",
            "--reward logit --pg-baseline none --elbo-weight 0.25",
            "--pg-latent prior --entropy-weight 0.3",
            "--pg-latent prior --pg-region 0.5 --entropy-weight -0.3",
            "--entropy-weight -0.3 --entropy-floor 1.5",
            "--entropy-weight -0.3 --entropy-floor 9",
            "--pg-trajectories data --pg-baseline none --rollout-chunk 3",
            # what is re-scored has no dropout, as what was sampled has none
            "--dropout 0.5 --word-dropout 0.5 --elbo-weight 0",
        ],
    )
    def test_loss_equals_the_loops(self, toy, flags):
        training, batch = prepare(toy, flags)
        cfg = training.cfg.criterion
        loss, log = evaluate(training, batch, GENERATOR_TURN)
        trajectory = act(training, batch)
        values = rewards_of(training, batch, trajectory, draws_of(training))
        rewards = values.rewards

        rows, lengths = unpadded(trajectory.tokens), trajectory.lengths.tolist()
        assert [len(row) for row in rows] == lengths
        rewarded = [oracles.rewarded_positions(length, cfg.reward_stride) for length in lengths]
        earned = [
            dict(zip(places, row[places].tolist(), strict=True)) for places, row in zip(rewarded, rewards, strict=True)
        ]
        if cfg.pg_credit == "to-go":
            go_on_earning(earned, lengths, cfg.reward_stride)
        returns = [[credit(row, t, cfg.pg_credit) for t in range(max(lengths))] for row in earned]
        advantage = oracles.advantages(returns, lengths, str(cfg.pg_baseline), cfg.pg_normalize)
        pg_loss, entropies = 0.0, [0.0] * len(rows)
        for b, row in enumerate(rows):
            for t, log_probs in enumerate(slow_log_probs(training.model.decoder, row, trajectory.z[b])):
                pg_loss -= advantage[b][t] * log_probs[row[t]]
                entropies[b] += oracles.entropy([math.exp(p) for p in log_probs])
        assert log["pg_loss"].item() == pytest.approx(pg_loss, rel=1e-4, abs=1e-5)
        assert log["entropy"].item() == pytest.approx(sum(entropies), rel=1e-4)
        values = [rewards[b, i].item() for b, places in enumerate(rewarded) for i in places]
        assert log["rewards"] == len(values)
        assert log["reward"].item() == pytest.approx(sum(values), rel=1e-5)
        assert log["reward_squares"].item() == pytest.approx(sum(v * v for v in values), rel=1e-5)
        assert log["policy_tokens"].item() == sum(lengths)

        elbo = log["loss"].item()
        if "--dropout" not in flags:
            mean, std, z = posterior_draws(training, batch, Stream.POSTERIOR)
            assert elbo == pytest.approx(
                sum(slow_rec(training, batch, z)) + sum(map(sum, slow_kl(mean, std))), rel=1e-5
            )
        if cfg.entropy_weight < 0:
            entropies = [max(h - cfg.entropy_floor * n, 0.0) for h, n in zip(entropies, lengths, strict=True)]
        expected = cfg.elbo_weight * elbo + cfg.pg_weight * pg_loss - cfg.entropy_weight * sum(entropies)
        assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)

    def test_a_region_of_the_prior_has_the_same_draws_moved_to_its_upper_end(self, toy):
        training, batch = prepare(toy, "--pg-latent prior --pg-region 0.1")
        whole, _ = prepare(toy, "--pg-latent prior")
        z = act(training, batch).z
        anywhere = act(whole, batch).z
        assert (z[:, 0] > 1.2815).all() and (z[:, 0].argsort() == anywhere[:, 0].argsort()).all()
        assert torch.equal(z[:, 1:], anywhere[:, 1:])

    def test_trajectories_are_samples_of_the_decoder_from_their_z(self, toy):
        # With weights this large each token is all but certain: every draw is the greedy sentence.
        training, batch = prepare(toy)
        with torch.no_grad():
            training.model.decoder.output.weight.mul_(1e4)
        trajectory = act(training, batch)
        _, _, z = posterior_draws(training, batch, Stream.TRAJECTORY_LATENT)
        torch.testing.assert_close(trajectory.z, z)
        longest = max(len(line.split()) for line in toy.train) + 1
        for b, row in enumerate(unpadded(trajectory.tokens)):
            likeliest = [p.index(max(p)) for p in slow_log_probs(training.model.decoder, row, z[b])]
            assert row == likeliest
            assert 2 not in row[:-1] and (row[-1] == 2 or len(row) == longest)
        assert len({tuple(row) for row in unpadded(trajectory.tokens)}) > 1

    def test_trajectories_of_the_prior_and_of_the_data(self, toy):
        training, batch = prepare(toy, "--pg-latent prior")
        seed, ids = training.cfg.common.seed, batch["id"]
        draws = noise.normal(noise.row_keys(seed, UPDATE, Stream.TRAJECTORY_LATENT, ids), 6)
        assert torch.equal(act(training, batch).z, draws)
        training, batch = prepare(toy, "--pg-trajectories data")
        trajectory = act(training, batch)
        assert torch.equal(trajectory.tokens, batch["target"])
        assert trajectory.lengths.tolist() == [len(row) for row in unpadded(batch["target"])]
        torch.testing.assert_close(trajectory.z, posterior_draws(training, batch, Stream.TRAJECTORY_LATENT)[2])

    @pytest.mark.parametrize("kind", ["prob", "log-prob", "logit"])
    def test_rewards_judge_completions_by_the_rollout_policy(self, toy, kind):
        # A rollout policy that is all but certain completes each prefix in one way.
        training, batch = prepare(toy, f"--reward {kind} --reward-stride 2 --num-rollouts 3", "--disc-dropout 0.5")
        with torch.no_grad():
            training.model.rollout_decoder.output.weight.mul_(1e4)
        trajectory = act(training, batch)
        found = rewards_of(training, batch, trajectory, draws_of(training)).rewards
        assert training.model.discriminator.training  # as before
        policy, judge = training.model.rollout_decoder, training.model.discriminator.eval()
        longest = max(len(line.split()) for line in toy.train) + 1
        transform = {"prob": oracles.sigmoid, "log-prob": oracles.log_sigmoid, "logit": float}[kind]
        for b, row in enumerate(unpadded(trajectory.tokens)):
            rewarded = oracles.rewarded_positions(len(row), 2)
            for i in range(trajectory.tokens.size(1)):
                if i not in rewarded:
                    assert found[b, i] == 0
                    continue
                completed = row[: i + 1]
                if i + 1 < len(row):
                    while completed[-1] != 2 and len(completed) < longest:
                        log_probs = slow_log_probs(policy, [*completed, 4], trajectory.z[b])[-1]
                        completed = [*completed, log_probs.index(max(log_probs))]
                tokens = torch.tensor([completed])
                logit = judge(tokens, torch.zeros_like(tokens, dtype=torch.bool)).item()
                assert found[b, i].item() == pytest.approx(transform(logit), rel=1e-4)

    def test_noise_changes_with_the_update(self, toy):
        training, batch = prepare(toy)
        acts = [act(training, batch, update) for update in (7, 7, 8)]
        assert torch.equal(acts[0].z, acts[1].z) and torch.equal(acts[0].tokens, acts[1].tokens)
        assert not torch.equal(acts[0].z, acts[2].z)
        rewards = [rewards_of(training, batch, acts[0], draws_of(training, update)).rewards for update in (7, 7, 8)]
        assert torch.equal(rewards[0], rewards[1]) and not torch.equal(rewards[0], rewards[2])


class TestDiscriminator:
    @pytest.mark.parametrize("flags", ["", "--disc-label-smoothing 0.2", "--disc-l2 0.3", "--discriminator rnn"])
    def test_loss_equals_the_equations(self, toy, flags):
        training, batch = prepare(toy, flags)
        cfg, model = training.cfg.criterion, training.model
        loss, log = evaluate(training, batch, DISCRIMINATOR_TURN)
        fakes = training.criterion.prior_samples(
            model,
            batch["id"],
            draws_of(training),
            Stream.FAKE_LATENT,
            Stream.FAKE,
            training.task.max_sample_length(batch["target"]),
        )
        assert len(fakes.tokens) == 5

        def logits(rows):
            for row in rows:
                tokens = torch.tensor([row])
                yield model.discriminator(tokens, torch.zeros_like(tokens, dtype=torch.bool)).item()

        real, fake = list(logits(unpadded(batch["target"]))), list(logits(unpadded(fakes.tokens)))
        smooth = cfg.disc_label_smoothing
        expected = sum(oracles.binary_cross_entropy(x, 1 - smooth) for x in real)
        expected = (expected + sum(oracles.binary_cross_entropy(x, 0) for x in fake)) / 2
        assert log["d_loss"].item() == pytest.approx(expected, rel=1e-5)
        penalty = sum((p**2).sum().item() / 2 for p in model.discriminator.output.parameters())
        assert loss.item() == pytest.approx(expected + cfg.disc_l2 * 5 * penalty, rel=1e-5)
        assert log["d_correct_real"].item() == sum(x > 0 for x in real)
        assert log["d_correct_fake"].item() == sum(x < 0 for x in fake)
        assert log["d_num_real"] == log["d_num_fake"] == 5

    def test_fakes_are_samples_of_the_decoder_with_z_of_the_prior(self, toy):
        training, batch = prepare(toy)
        with torch.no_grad():
            training.model.decoder.output.weight.mul_(1e4)
        ids = batch["id"]
        fakes = training.criterion.prior_samples(
            training.model, ids, draws_of(training), Stream.FAKE_LATENT, Stream.FAKE, 9
        )
        z = noise.normal(noise.row_keys(training.cfg.common.seed, UPDATE, Stream.FAKE_LATENT, ids), 6)
        for b, row in enumerate(unpadded(fakes.tokens)):
            assert row == [p.index(max(p)) for p in slow_log_probs(training.model.decoder, row, z[b])]

    @pytest.mark.parametrize("turn", [GENERATOR_TURN, DISCRIMINATOR_TURN])
    def test_it_sees_letters_and_one_eos_alone(self, toy, turn, monkeypatch):
        training, batch = prepare(toy, batch_size=20)
        seen = []
        judge = training.model.discriminator.forward

        def spy(tokens, padding_mask):
            seen.append((tokens, padding_mask))
            return judge(tokens, padding_mask)

        monkeypatch.setattr(training.model.discriminator, "forward", spy)
        evaluate(training, batch, turn)
        dictionary = training.task.source_dictionary
        letters = {dictionary.index(letter) for letter in commands.SYMBOLS} | {dictionary.unk()}
        assert seen
        for tokens, mask in seen:
            for row, hidden in zip(tokens.tolist(), mask.tolist(), strict=True):
                length = hidden.count(False)
                assert hidden == [False] * length + [True] * (len(row) - length)
                evidence = row[:length]
                if evidence[-1] == dictionary.eos():
                    evidence = evidence[:-1]
                assert set(evidence) <= letters


class TestGradients:
    def gradients(self, training, batch, turn, flags_change=None):
        """Norm of the gradient of each parameter, or None."""
        training.model.zero_grad(set_to_none=True)
        evaluate(training, batch, turn)[0].backward()
        return {name: p.grad.clone() if p.grad is not None else None for name, p in training.model.named_parameters()}

    def test_turns_of_the_generator_leave_the_adversary_without(self, toy):
        training, batch = prepare(toy, "--entropy-weight 0.1")
        for turn in (GENERATOR_PRETRAIN, GENERATOR_TURN):
            for name, grad in self.gradients(training, batch, turn).items():
                if name.startswith(("discriminator.", "rollout_decoder.")):
                    assert grad is None, name
                else:
                    assert grad.abs().sum() > 0, name

    def test_turns_of_the_discriminator_leave_the_generator_without(self, toy):
        training, batch = prepare(toy)
        for turn in (DISCRIMINATOR_PRETRAIN, DISCRIMINATOR_TURN):
            for name, grad in self.gradients(training, batch, turn).items():
                assert (grad is not None) == name.startswith("discriminator."), name
                assert grad is None or grad.abs().sum() > 0

    @pytest.mark.parametrize("flags", ["", "--pg-latent prior", "--pg-trajectories data"])
    def test_policy_gradient_does_not_reach_the_encoder(self, toy, flags):
        training, batch = prepare(toy, "--no-share-embeddings --entropy-weight 0.1 --elbo-weight 0", flags)
        for name, grad in self.gradients(training, batch, GENERATOR_TURN).items():
            if name.startswith("encoder."):
                assert grad is None or not grad.any(), name
            elif name.startswith("decoder."):
                assert grad.abs().sum() > 0, name

    def test_it_is_the_slope_of_the_loss_with_rewards_and_samples_held(self, toy):
        """A step along one weight of the decoder, measured on the loops instead of by backward."""
        training, batch = prepare(toy, "--elbo-weight 0 --pg-baseline none --reward-stride 1 --pg-credit step")
        grad = self.gradients(training, batch, GENERATOR_TURN)["decoder.output.bias"]
        trajectory = act(training, batch)
        values = rewards_of(training, batch, trajectory, draws_of(training))
        rewards = values.rewards.tolist()
        bias = training.model.decoder.output.bias

        def loss():
            total = 0.0
            for b, row in enumerate(unpadded(trajectory.tokens)):
                log_probs = slow_log_probs(training.model.decoder, row, trajectory.z[b])
                total -= sum(rewards[b][t] * log_probs[t][token] for t, token in enumerate(row))
            return total

        for place in (2, 5, 9):
            values = []
            for step in (0.02, -0.04):
                with torch.no_grad():
                    bias[place] += step
                values.append(loss())
            with torch.no_grad():
                bias[place] += 0.02
            assert grad[place].item() == pytest.approx((values[0] - values[1]) / 0.04, rel=2e-2, abs=2e-3)

    def test_generator_learns_what_the_discriminator_rewards(self, toy):
        """Behaviour: against a judge that likes the letter c, updates of the policy gradient alone write c."""
        training, batch = prepare(toy, "--elbo-weight 0 --optimizer sgd --lr 0.3 --clip-norm 1", batch_size=32)
        letter = training.task.source_dictionary.index("c")

        class LikesOneLetter(torch.nn.Module):
            def forward(self, tokens, padding_mask):
                return 4.0 * (tokens == letter).masked_fill(padding_mask, False).float().sum(1)

        training.model.discriminator.forward = LikesOneLetter().forward

        def share(update):
            tokens = act(training, batch, update).tokens
            return ((tokens == letter).sum() / (tokens != 1).sum()).item()

        before = share(1000)
        for update in range(12):
            training.model.zero_grad(set_to_none=True)
            (evaluate(training, batch, GENERATOR_TURN, update)[0] / 32).backward()
            with torch.no_grad():
                for p in training.model.decoder.parameters():
                    p -= 0.3 * p.grad
            training.model.lagging.follow(training.model.decoder, 0.8)
        assert share(1000) > before + 0.2

    def test_discriminator_learns_to_tell_data_from_samples(self, toy):
        training, batch = prepare(toy, "--gen-pretrain-updates 0 --disc-pretrain-updates 100 --lr 0.02", batch_size=32)
        losses = [training.update(batch)["d_loss"] for _ in range(30)]
        assert sum(losses[-5:]) / 5 < 0.4 < math.log(2) * 0.8


class TestLogging:
    ELBO_KEYS = {"loss", "rec", "kl", "nats_per_token", "ppl", "kl_weight"}
    PG_KEYS = {"pg_loss", "reward", "reward_std", "entropy", "distinct", "frac_reward_zero_std"}
    DISC_KEYS = {"d_loss", "d_acc_real", "d_acc_fake"}

    def reduced(self, training, logs):
        metrics.reset()
        with metrics.aggregate() as found:
            training.criterion.reduce_metrics(logs)
        return {k: v for k, v in found.get_smoothed_values().items() if v is not None}

    @pytest.mark.parametrize(
        "turn, keys",
        [
            (GENERATOR_PRETRAIN, ELBO_KEYS),
            (GENERATOR_TURN, ELBO_KEYS | PG_KEYS),
            (DISCRIMINATOR_PRETRAIN, DISC_KEYS),
            (DISCRIMINATOR_TURN, DISC_KEYS),
        ],
    )
    def test_each_turn_logs_its_own(self, toy, turn, keys):
        training, batch = prepare(toy)
        assert self.reduced(training, [evaluate(training, batch, turn)[1]]).keys() == keys

    def test_validation_logs_the_elbo_the_samples_and_the_discriminator(self, toy):
        training, batch = prepare(toy)
        training.model.eval()
        sampled = self.ELBO_KEYS - {"kl_weight"} | {"bigram_jsd", "distinct", "rec_acc", "rec_acc_other"}
        # Turns are G G G D ...: a discriminator that has never moved is not judged.
        for last_update, judged in ((2, set()), (3, {"d_acc_real", "d_acc_fake"})):
            training.task._update_num = last_update
            found = self.reduced(training, [training.criterion(training.model, batch)[2]])
            assert found.keys() == sampled | judged
        training, batch = prepare(toy, criterion=ELBO)
        training.model.eval()
        found = self.reduced(training, [training.criterion(training.model, batch)[2]])
        assert found.keys() == sampled

    def test_batches_are_averaged_by_their_size(self, toy):
        training, _ = prepare(toy, batch_size=32)
        batches = [training.batches()[3], training.batches()[-1]]
        sizes = [len(b["id"]) for b in batches]
        assert sizes[0] != sizes[1]
        logs = [evaluate(training, b, GENERATOR_TURN)[1] for b in batches]
        found = self.reduced(training, logs)
        for key in ("loss", "rec", "kl", "pg_loss"):
            expected = sum(log[key].item() for log in logs) / sum(sizes)
            assert found[key] == pytest.approx(expected, abs=1e-3)
        tokens = sum(len(row) for b in batches for row in unpadded(b["target"]))
        nats = sum(log["rec"].item() + log["kl"].item() for log in logs) / tokens
        assert found["nats_per_token"] == pytest.approx(nats, abs=1e-4)
        assert found["ppl"] == pytest.approx(math.exp(nats), rel=1e-3)
        count = sum(log["rewards"] for log in logs)
        mean = sum(log["reward"].item() for log in logs) / count
        spread = math.sqrt(sum(log["reward_squares"].item() for log in logs) / count - mean**2)
        assert found["reward"] == pytest.approx(mean, abs=1e-4)
        assert found["reward_std"] == pytest.approx(spread, abs=1e-4)
        entropy = sum(log["entropy"].item() for log in logs) / sum(log["policy_tokens"].item() for log in logs)
        assert found["entropy"] == pytest.approx(entropy, abs=1e-3)
        assert found["kl_weight"] == 1

    def test_logs_can_be_summed_before_they_are_averaged(self, toy):
        training, _ = prepare(toy)
        assert training.criterion.logging_outputs_can_be_summed()
        for turn in (GENERATOR_TURN, DISCRIMINATOR_TURN):
            logs = [evaluate(training, b, turn)[1] for b in training.batches()[3:6]]
            assert logs[0].keys() == logs[1].keys() == logs[2].keys()
            added = {key: sum(log[key] for log in logs) for key in logs[0]}
            assert self.reduced(training, [added]) == pytest.approx(self.reduced(training, logs), rel=1e-3)

    def test_an_epoch_of_the_discriminator_alone_has_no_loss_and_does_not_mind(self, toy, tmp_path):
        flags = "--gen-pretrain-updates 0 --disc-pretrain-updates 100 --max-epoch 1 --tensorboard-logdir"
        output = commands.train(toy.folder, tmp_path / "ck", flags, tmp_path / "tb")
        (epoch,) = commands.json_lines(output, "train")
        assert "train_loss" not in epoch and float(epoch["train_d_loss"]) > 0
        assert float(commands.json_lines(output, "valid")[0]["valid_loss"]) > 0

    @pytest.mark.parametrize("log_format", ["simple", "none", "tqdm"])
    def test_other_formats_of_the_log_work_too(self, toy, tmp_path, log_format):
        output = commands.train(toy.folder, tmp_path, f"--max-update 6 --log-format {log_format}")
        assert "done training" in output
