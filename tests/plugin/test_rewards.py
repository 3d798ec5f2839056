"""Rewards of users and built-in ones in training: what they are given, what becomes of them, and what is refused."""

import functools
import gc
import inspect
import json
import math
import os
from unittest import mock

import commands
import pytest
import torch
from commands import assert_same_training, json_lines, load_checkpoint, make_training, train
from fairseq.logging import metrics

from fairseq_seqvae import options
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.schedules.turns import GENERATOR_PRETRAIN, GENERATOR_TURN
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.rewards import REWARDS, sources
from fairseq_seqvae.rewards.rule import RewardError, RuleReward
from fairseq_seqvae.rewards.texts import Texts

CALM = "--dropout 0 --disc-dropout 0"


@pytest.fixture
def rule_file(tmp_path):
    """Writes a function, or code, into a file; the source that names *name* in it."""

    def write(code, name="rule"):
        file = tmp_path / "rules.py"
        number = len(list(tmp_path.glob("rules*.py")))
        if file.exists():
            file = tmp_path / f"rules{number}.py"
        file.write_text(code if isinstance(code, str) else inspect.cleandoc(inspect.getsource(code)))
        return f"{file}:{name}"

    return write


COUNTS_C = """
def rule(samples, **kwargs):
    return [sample.split().count("c") for sample in samples]
"""


class TestSources:
    def test_commas_separate_and_a_backslash_keeps_one(self):
        assert sources.split_sources(r"discriminator, a.py:f,regex:^x\,y") == ["discriminator", "a.py:f", "regex:^x,y"]
        assert sources.join_sources(["discriminator", "a.py:f", "regex:^x,y"]) == r"discriminator,a.py:f,regex:^x\,y"

    def test_weights_are_one_each_unless_given(self):
        assert sources.split_weights(None, 2) == [1, 1]
        assert sources.split_weights("1,-0.5", 2) == [1, -0.5]
        assert sources.weights_fit("a,b", "1,2") and not sources.weights_fit("a,b", "1")
        assert (
            not sources.weights_fit("a", "x") and not sources.weights_fit("a", "nan") and sources.weights_fit("a", "0")
        )

    def test_logs_call_a_function_by_its_name(self):
        assert sources.names_of(["/a/b.py:f", "contains:x", "regex:a/b"]) == ["f", "contains:x", "regex:a_b"]

    def test_the_help_text_lists_the_built_in_ones(self):
        known = {current.name: option.text for current, option in options.options_of(SeqVAEPolicyGradientConfig)}
        text = known["reward_sources"]
        listed = text[text.index("NAME:ARGUMENT (") + 15 : text.index(");")].split(", ")
        assert listed == sorted(REWARDS)

    def test_a_file_may_move(self):
        assert sources.label("/a/b.py:f,length:7") == sources.label("b.py:f,length:7") == "b.py:f,length:7"

    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--reward-sources nothing", "--reward-sources 'nothing': unknown reward 'nothing': give FILE.py:function"),
            ("--reward-sources none.py:f", "--reward-sources 'none.py': there is no such file"),
            ("--reward-sources length:many", "--reward-sources 'length:many': give a number of words"),
            ("--reward-sources contains:a,contains:a", "has 'contains:a' twice"),
            ("--reward-sources novelty,", "--reward-sources 'novelty,' has an empty entry"),
            ("--reward-sources novelty --reward-weights 1,2", "--reward-weights 1,2 must be numbers"),
            ("--reward-sources novelty --reward-weights one", "--reward-weights one must be numbers"),
        ],
    )
    def test_mistakes_are_found_at_the_start(self, toy, flags, message):
        with pytest.raises(ValueError, match=message):
            make_training(toy.folder, flags)

    def test_functions_are_checked_at_the_start(self, toy, rule_file):
        source = rule_file("x = 3\ndef f(samples): ...\ndef g(): ...\n", "f")
        file = source.rsplit(":", 1)[0]
        for name, message in {
            "f": "cannot be called with samples and keywords .* write it as def f\\(samples, \\*\\*kwargs\\)",
            "x": "the file has no function 'x': it has f, g",
            "h": "the file has no function 'h'",
        }.items():
            with pytest.raises(ValueError, match=f"--reward-sources '{file}:{name}'.*{message}"):
                make_training(toy.folder, "--reward-sources", f"{file}:{name}")
        with pytest.raises(ValueError, match=r"--reward-sources '.*' cannot be imported \(ZeroDivisionError"):
            make_training(toy.folder, "--reward-sources", rule_file("1 / 0"))


# --- one turn -------------------------------------------------------------------------------------------------------


make_once = functools.cache(make_training)


def prepare(toy, *flags, batch_size=5):
    """A training with random weights that are large enough for sentences to differ, and one of its batches."""
    training = make_once(toy.folder, CALM, f"--batch-size {batch_size}", *flags)
    torch.manual_seed(0)
    with torch.no_grad():
        for module in (training.model.decoder, training.model.rollout_decoder, training.model.encoder):
            for p in module.parameters() if module is not None else ():
                p.copy_(torch.randn(p.shape) * 0.6)
    training.model.train()
    batches = training.batches()
    return training, batches[len(batches) // 2]


def one_turn(training, batch, turn=GENERATOR_TURN, update=7):
    return training.criterion(training.model, batch, turn=turn, update_num=update)


def trajectory_of(training, batch, update=7):
    draws, ids = Draws(training.cfg.common.seed, update), batch["id"]
    noise, keys = draws.normal(Stream.TRAJECTORY_LATENT, ids, 6), draws.keys(Stream.TRAJECTORY, ids)
    return training.criterion.act(training.model, batch, noise, keys, training.task.max_sample_length(batch["target"]))


def written(training, tokens):
    """Lines of rows of tokens, as a user wrote them, letter by letter."""
    symbols = training.task.source_dictionary.symbols
    return [" ".join(symbols[token] for token in row.tolist() if token not in (1, 2)) for row in tokens]


def logged(training, log):
    metrics.reset()
    with metrics.aggregate() as found:
        training.criterion.reduce_metrics([log])
    return {k: v for k, v in found.get_smoothed_values().items() if v is not None}


class TestWhatARuleIsGiven:
    def test_samples_tokens_lengths_ends_and_references(self, toy, rule_file, tmp_path):
        seen = tmp_path / "seen.json"
        source = rule_file(
            "import json\n"
            "def rule(samples, **given):\n"
            f"    json.dump([samples, given], open({str(seen)!r}, 'w'))\n"
            "    return [0.0] * len(samples)\n"
        )
        training, batch = prepare(toy, "--value final --reward-sources", source)
        one_turn(training, batch)
        samples, given = json.loads(seen.read_text())
        trajectory = trajectory_of(training, batch)
        assert samples == written(training, trajectory.tokens) and len(set(samples)) > 1
        assert given.keys() == {"tokens", "lengths", "ended", "references", "labels"} and given["labels"] is None
        assert given["references"] == written(training, batch["target"])
        assert all(reference in toy.train for reference in given["references"])
        for sample, tokens, length, ended, row in zip(
            samples, given["tokens"], given["lengths"], given["ended"], trajectory.tokens.tolist(), strict=True
        ):
            assert [training.task.source_dictionary.symbols[token] for token in tokens] == sample.split()
            assert length == len(tokens) == len(sample.split())
            assert ended == (2 in row)

    def test_of_fixed_length_all_symbols(self, toy_fixed, rule_file):
        source = rule_file("def rule(samples, lengths, **kwargs):\n    return lengths")
        training, batch = prepare(toy_fixed, "--fixed-length 6 --value final --reward-sources", source)
        assert logged(training, one_turn(training, batch)[2])["rewards/rule/mean"] == 6

    def test_subwords_are_joined(self, tmp_path, rule_file):
        spm = pytest.importorskip("sentencepiece")
        text = tmp_path / "raw.txt"
        lines = [
            line.replace(" ", "") + " " + line.replace(" ", "")[::-1] for line in commands.toy_sentences(200, seed=5)
        ]
        text.write_text("\n".join(lines))
        spm.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(tmp_path / "spm"), vocab_size=40, minloglevel=2, character_coverage=1.0
        )
        processor = spm.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
        pieces = [" ".join(processor.encode(line, out_type=str)) for line in lines]
        data = commands.preprocess(tmp_path / "bin", train=pieces, valid=pieces[:20])
        source = rule_file(
            f"LINES = set({lines!r})\n"
            "def rule(samples, references, **kwargs):\n"
            "    assert set(references) <= LINES, references\n"
            "    return [float('\\u2581' not in sample) for sample in samples]\n"
        )
        flags = "--bpe sentencepiece --sentencepiece-model", tmp_path / "spm.model", "--reward-sources", source
        log = train(data, tmp_path / "ck", *flags, "--value final --gen-pretrain-updates 0 --max-update 1")
        assert json_lines(log, "train_inner")[0]["rewards/rule/mean"] == "1"


class TestWhatBecomesOfRewards:
    def test_final_rewards_stand_at_the_ends(self, toy, rule_file):
        training, batch = prepare(toy, "--value final --reward-sources", rule_file(COUNTS_C))
        trajectory = trajectory_of(training, batch)
        values = training.criterion.rewards(training.model, trajectory, Draws(3, 7), 10)
        for b, line in enumerate(written(training, trajectory.tokens)):
            end = int(trajectory.lengths[b]) - 1
            expected = [0.0] * trajectory.tokens.size(1)
            expected[end] = float(line.split().count("c"))
            assert values.rewards[b].tolist() == expected
            assert values.positions[b].nonzero().flatten().tolist() == [end]

    @pytest.mark.parametrize("credit", ["step", "to-go"])
    def test_final_rewards_are_the_return_of_every_token(self, toy, rule_file, credit):
        """The loss against a loop: - (reward - mean of those of the others that are as long) * log p, over tokens."""
        flags = f"--value final --elbo-weight 0 --reward-stride 2 --pg-credit {credit} --reward-sources"
        training, batch = prepare(toy, flags, rule_file(COUNTS_C))
        loss = one_turn(training, batch)[0].item()
        trajectory = trajectory_of(training, batch)
        rewards = [line.split().count("c") for line in written(training, trajectory.tokens)]
        assert len(set(rewards)) > 1
        expected, decoder = 0.0, training.model.decoder
        for b, row in enumerate(trajectory.tokens.tolist()):
            state, previous = decoder.start(trajectory.z[b : b + 1]), decoder.eos
            for t, token in enumerate(row[: int(trajectory.lengths[b])]):
                features, state = decoder.advance(torch.tensor([previous]), state)
                log_prob = torch.log_softmax(decoder.logits(features)[0], dim=0)[token].item()
                others = [r for i, r in enumerate(rewards) if i != b and trajectory.lengths[i] > t]
                advantage = rewards[b] - sum(others) / len(others) if others else 0.0
                expected -= advantage * log_prob
                previous = token
        assert loss == pytest.approx(expected, rel=1e-4)

    def test_completions_are_judged_one_by_one(self, toy, rule_file):
        """The value of a prefix is the mean over its completions; what is counted in the prefix is in all of them."""
        training, batch = prepare(toy, "--reward-stride 2 --num-rollouts 3 --reward-sources", rule_file(COUNTS_C))
        with torch.no_grad():  # every completion is the likeliest one
            training.model.rollout_decoder.output.weight.mul_(1e4)
        trajectory = trajectory_of(training, batch)
        longest = training.task.max_sample_length(batch["target"])
        values = training.criterion.rewards(training.model, trajectory, Draws(3, 7), longest)
        letter, policy = training.task.source_dictionary.index("c"), training.model.rollout_decoder
        for b, row in enumerate(trajectory.tokens.tolist()):
            length = int(trajectory.lengths[b])
            for i in range(2, length, 2):
                state, previous, whole = policy.start(trajectory.z[b : b + 1]), policy.eos, row[:i]
                for t in range(longest):
                    features, state = policy.advance(torch.tensor([previous]), state)
                    if t >= len(whole):
                        whole.append(int(policy.logits(features).argmax()))
                    previous = whole[t]
                    if previous == policy.eos:
                        break
                assert values.rewards[b, i - 1].item() == pytest.approx(whole.count(letter), abs=1e-5)
            assert values.rewards[b, length - 1] == row.count(letter)

    def test_weighted_sum_with_the_discriminator(self, toy, rule_file):
        source = rule_file(COUNTS_C)
        flags = f"--value final --reward logit --reward-weights 2,-0.5 --reward-sources discriminator,{source}"
        training, batch = prepare(toy, flags)
        trajectory = trajectory_of(training, batch)
        values = training.criterion.rewards(training.model, trajectory, Draws(3, 7), 10)
        for b, row in enumerate(trajectory.tokens.tolist()):
            tokens = torch.tensor([row[: int(trajectory.lengths[b])]])
            logit = training.model.discriminator.eval()(tokens, torch.zeros_like(tokens, dtype=torch.bool)).item()
            count = row.count(training.task.source_dictionary.index("c"))
            assert values.rewards[b].sum().item() == pytest.approx(2 * logit - 0.5 * count, rel=1e-4)

    def test_none_is_left_out(self, toy, rule_file):
        code = COUNTS_C + (
            "\ndef picky(samples, **kwargs):\n    return [None if 'a' in sample else 10.0 for sample in samples]\n"
        )
        source = rule_file(code)
        both = f"{source},{source.replace(':rule', ':picky')}"
        training, batch = prepare(toy, f"--value final --reward-sources {both}", batch_size=20)
        log = one_turn(training, batch)[2]
        lines = written(training, trajectory_of(training, batch).tokens)
        counts, without = [line.split().count("c") for line in lines], ["a" not in line for line in lines]
        assert 0 < sum(without) < len(lines)
        found = logged(training, log)
        assert found["rewards/picky/mean"] == 10 and found["rewards/picky/std"] == 0
        mean = sum(counts) / len(counts)
        spread = math.sqrt(sum((count - mean) ** 2 for count in counts) / len(counts))
        assert found["rewards/rule/mean"] == pytest.approx(mean, abs=1e-4)
        assert found["rewards/rule/std"] == pytest.approx(spread, abs=1e-4)
        totals = [count + 10 * alone for count, alone in zip(counts, without, strict=True)]
        assert found["reward"] == pytest.approx(sum(totals) / len(totals), abs=1e-4)
        assert found["frac_reward_zero_std"] == 0

    def test_a_reward_without_any_opinion_is_not_logged(self, toy, rule_file):
        source = rule_file("def rule(samples, **kwargs):\n    return [None] * len(samples)")
        training, batch = prepare(toy, "--value final --reward-sources", source)
        loss, _, log = one_turn(training, batch)
        found = logged(training, log)
        assert "rewards/rule/mean" not in found and found["reward"] == 0 and found["frac_reward_zero_std"] == 1
        assert torch.isfinite(loss)

    def test_novelty_is_against_the_training_data(self, toy):
        training, batch = prepare(toy, "--value final --pg-trajectories data --reward-sources novelty")
        assert logged(training, one_turn(training, batch)[2])["rewards/novelty/mean"] == 0
        training, batch = prepare(toy, "--value final --reward-sources novelty", batch_size=20)
        lines = written(training, trajectory_of(training, batch).tokens)
        expected = sum(line not in toy.train for line in lines) / len(lines)
        assert logged(training, one_turn(training, batch)[2])["rewards/novelty/mean"] == pytest.approx(
            expected, abs=1e-4
        )

    def test_the_training_data_are_those_of_all_shards(self, toy, tmp_path):
        other = commands.toy_sentences(20, seed=8)
        shard = commands.preprocess(tmp_path / "shard", toy.folder / "dict.txt", train=other)
        training = make_training(f"{toy.folder}:{shard}", "--value final --reward-sources novelty")
        known = list(training.criterion._training_texts())
        assert known == toy.train + other

    def test_numbers_may_come_as_a_tensor_or_array_or_bools(self, toy, rule_file):
        for expression in ("torch.ones(len(samples))", "numpy.ones(len(samples))", "[True for _ in samples]"):
            source = rule_file(f"import torch, numpy\ndef rule(samples, **kwargs):\n    return {expression}\n")
            training, batch = prepare(toy, "--value final --reward-sources", source)
            assert logged(training, one_turn(training, batch)[2])["rewards/rule/mean"] == 1

    def test_the_policy_learns_what_a_rule_rewards(self, toy, rule_file):
        source = rule_file("def rule(samples, **kwargs):\n    return [float('c' in s) for s in samples]")
        flags = f"--value final --elbo-weight 0 --gen-pretrain-updates 0 --lr 0.02 --reward-sources {source}"
        training, batch = prepare(toy, flags, batch_size=32)
        log = [training.update(batch) for _ in range(40)]
        assert sum(line["reward"] for line in log[:3]) / 3 < 0.7 < 0.97 < sum(line["reward"] for line in log[-3:]) / 3

    def test_the_policy_learns_to_have_as_much_as_the_data(self, toy, rule_file):
        source = rule_file("def rule(samples, **kwargs):\n    return [float('a b' in s) for s in samples]")
        share = sum("a b" in line for line in toy.train) / len(toy.train)
        flags = "--value final --elbo-weight 0 --gen-pretrain-updates 0 --lr 0.02 --reward-weights 1,0 --reward-sources"
        training, batch = prepare(toy, flags, f"match:{source},{source}", batch_size=64)
        log = [training.update(batch) for _ in range(80)]
        first, last = (sum(line["rewards/rule/mean"] for line in part) / 10 for part in (log[:10], log[-10:]))
        assert abs(last - share) < 0.05 < 0.15 < share - first


class TestErrors:
    @pytest.mark.parametrize(
        "body, message",
        [
            (
                "[1 / 0 for s in samples]",
                r"raised ZeroDivisionError: division by zero \(rules.py, line 2: return \[1 / 0",
            ),
            ("[1.0]", "returned 1 numbers for 5 samples: return one per sample, or None"),
            ("None", "returned None: return a list of one number or None per sample"),
            ("'12345'", "returned '12345': return a list of one number"),
            ("[float('nan') for s in samples]", "returned nan for the sample '.*': return a finite number"),
            ("[float('inf') for s in samples]", "returned inf for the sample"),
            ("['1' for s in samples]", "returned '1' for the sample"),
            ("[[] for s in samples]", r"returned \[\] for the sample"),
        ],
    )
    def test_a_rule_that_fails_is_named(self, toy, rule_file, body, message):
        source = rule_file(f"def rule(samples, **kwargs):\n    return {body}\n")
        training, batch = prepare(toy, "--value final --reward-sources", source)
        with pytest.raises(ValueError, match=f"^the reward '{source}' of --reward-sources {message}"):
            one_turn(training, batch)

    def test_batches_of_one_sentence_have_nothing_to_compare(self, toy):
        for baseline in ("leave-one-out", "mean"):
            with pytest.raises(ValueError, match=f"--batch-size 1 leaves --pg-baseline {baseline} no other sentence"):
                make_training(toy.folder, f"--batch-size 1 --pg-baseline {baseline}")
        make_training(toy.folder, "--batch-size 1 --pg-baseline none")

    @pytest.mark.parametrize(
        "flags, idle",
        [
            ("--value final --num-rollouts 3 --reward-stride 2", "--num-rollouts 3 and --reward-stride 2"),
            ("--value final --num-rollouts 16 --reward-stride 2", "--reward-stride 2"),
            ("--value final --num-rollouts 16 --reward-stride 1", None),
            ("--value rollouts --num-rollouts 3", None),
        ],
    )
    def test_rollouts_that_nobody_asks_for_are_named(self, toy, caplog, flags, idle):
        make_training(toy.folder, "--reward-sources novelty", flags)
        said = [r.message for r in caplog.records if "--value final judges whole sequences" in r.message]
        assert [message.split(":")[0] for message in said] == ([idle] if idle else [])

    def test_a_batch_that_happens_to_have_one_says_so_once(self, toy, caplog):
        training = make_training(toy.folder, "--reward-sources novelty --value final --max-tokens 20")
        alone = next(batch for batch in training.batches() if len(batch["id"]) > 1)
        alone = training.task.dataset("train").collater([training.task.dataset("train")[0]])
        for _ in range(2):
            one_turn(training, alone)
        said = [r.message for r in caplog.records if "a batch has one sentence" in r.message]
        assert len(said) == 1 and "--pg-baseline leave-one-out has no other" in said[0]


class TestOtherModels:
    def test_likelihood_and_classifier_against_loops(self, toy, tmp_path):
        language_models = [tmp_path / name / "checkpoint_last.pt" for name in ("one", "two")]
        for path, flags in zip(language_models, ("--max-update 20 --lr 0.02", "--max-update 1 --seed 9"), strict=True):
            train(toy.folder, path.parent, "--latent-dim 0", flags, criterion=commands.ELBO)
        one, two = language_models
        flags = f"--value final --reward-sources likelihood:{one},classifier:{one}:{two}"
        training, batch = prepare(toy, flags)
        log = one_turn(training, batch)[2]
        trajectory = trajectory_of(training, batch)
        totals = []
        for path in language_models:
            state = {k[8:]: v for k, v in load_checkpoint(path)["model"].items() if k.startswith("decoder.")}
            decoder = make_once(toy.folder, CALM, "--latent-dim 0 --value final").model.decoder.eval()
            decoder.load_state_dict(state)
            totals.append([self.log_prob(decoder, row) for row in trajectory.tokens.tolist()])
        means = [t / int(n) for t, n in zip(totals[0], trajectory.lengths, strict=True)]
        odds = [1 / (1 + math.exp(b - a)) for a, b in zip(*totals, strict=True)]
        assert log[f"rewards/likelihood:{str(one).replace('/', '_')}/sum"].item() == pytest.approx(sum(means), rel=1e-5)
        (key,) = (key for key in log if key.startswith("rewards/classifier:") and key.endswith("/sum"))
        assert log[key].item() == pytest.approx(sum(odds), rel=1e-5)

    def log_prob(self, decoder, row):
        state, previous, total = decoder.start(torch.zeros(1, 0)), decoder.eos, 0.0
        for token in row:
            if token == decoder.pad:
                break
            features, state = decoder.advance(torch.tensor([previous]), state)
            total += torch.log_softmax(decoder.logits(features)[0], dim=0)[token].item()
            previous = token
        return total

    def test_mistakes(self, toy, trained, tmp_path):
        for source, message in {
            "likelihood:none.pt": "'likelihood:none.pt': there is no checkpoint none.pt",
            "likelihood": "give a checkpoint of a language model",
            f"classifier:{trained.checkpoint}": "give two checkpoints",
            f"likelihood:{trained.checkpoint}": "is no language model: its likelihood is exact with",
        }.items():
            with pytest.raises(ValueError, match=message):
                make_training(toy.folder, f"--reward-sources {source}")


# --- whole trainings ------------------------------------------------------------------------------------------------


def parts(checkpoint):
    return {name.split(".")[0] for name in load_checkpoint(checkpoint)["model"]}


class TestWithoutADiscriminator:
    def test_there_is_none_and_it_has_no_turn(self, toy, tmp_path, rule_file):
        flags = "--max-update 9 --validate-interval-updates 4 --reward-sources", rule_file(COUNTS_C)
        log = train(toy.folder, tmp_path, *flags)
        assert parts(tmp_path / "checkpoint_last.pt") == {
            *("encoder", "decoder", "rollout_decoder", "dictionary_version", "run_state")
        }
        lines = json_lines(log, "train_inner")
        assert ["pg_loss" in line for line in lines] == [False] * 3 + [True] * 6
        assert all("loss" in line for line in lines)
        everything = {key for tag in ("train_inner", "train", "valid") for line in json_lines(log, tag) for key in line}
        assert not {key for key in everything if key.endswith(("d_acc_real", "d_acc_fake"))}
        assert not {"d_loss", "train_d_loss"} & everything
        assert {"rewards/rule/mean", "rewards/rule/std", "reward", "reward_std", "frac_reward_zero_std"} <= everything
        assert "(discriminator): " not in log and "SeqVAEModel(" in log

    def test_final_rewards_need_no_rollout_policy(self, toy, tmp_path):
        train(toy.folder, tmp_path, "--max-update 4 --value final --reward-sources length:4")
        assert parts(tmp_path / "checkpoint_last.pt") == {"encoder", "decoder", "dictionary_version", "run_state"}
        training = make_training(toy.folder, "--value final")
        assert training.model.discriminator is not None and training.model.rollout_decoder is None

    def test_the_default_is_as_it_was(self, toy):
        training = make_training(toy.folder)
        assert training.model.discriminator is not None and training.model.rollout_decoder is not None
        assert training.task.plan.disc_pretrain_updates == 2

    def test_validations_know_no_accuracy_of_it(self, toy):
        with pytest.raises(ValueError, match="--best-checkpoint-metric d_acc_real is not among"):
            make_training(toy.folder, "--reward-sources length:4 --best-checkpoint-metric d_acc_real")

    @pytest.mark.parametrize("latent", ["", "--latent-dim 0"])
    def test_it_begins_from_a_checkpoint_of_the_elbo(self, toy, tmp_path, latent):
        train(toy.folder, tmp_path / "elbo", "--max-update 4", latent, criterion=commands.ELBO)
        elbo = tmp_path / "elbo" / "checkpoint_last.pt"
        flags = (
            "--finetune-from-model",
            elbo,
            "--gen-pretrain-updates 0 --max-update 3 --reward-sources length:4",
            latent,
        )
        log = train(toy.folder, tmp_path / "pg", *flags)
        assert all("pg_loss" in line for line in json_lines(log, "train_inner"))
        assert "the checkpoint holds no rollout_decoder: it starts as a copy of the decoder" in log


class TestInterruptions:
    FLAGS = "--reward-sources discriminator,{} --reward-weights 1,0.5 --max-update"

    def test_a_resumed_training_equals_an_uninterrupted_one(self, toy, tmp_path, rule_file):
        flags = self.FLAGS.format(rule_file(COUNTS_C))
        train(toy.folder, tmp_path / "whole", flags, 14)
        train(toy.folder, tmp_path / "again", flags, 14)
        assert_same_training(tmp_path / "whole" / "checkpoint_last.pt", tmp_path / "again" / "checkpoint_last.pt")
        for stop in (7, 14):
            train(toy.folder, tmp_path / "resumed", flags, stop)
        assert_same_training(tmp_path / "whole" / "checkpoint_last.pt", tmp_path / "resumed" / "checkpoint_last.pt")

    @pytest.mark.parametrize("value", ["rollouts", "final"])
    def test_without_a_discriminator_too(self, toy, tmp_path, value):
        flags = f"--reward-sources length:4,novelty,bleu,match:length:4 --value {value} --max-update"
        train(toy.folder, tmp_path / "whole", flags, 13)
        for stop in (6, 13):
            train(toy.folder, tmp_path / "resumed", flags, stop)
        first, second = (load_checkpoint(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "resumed"))
        for key in ("model", "last_optimizer_state"):
            assert first[key] and not commands.differences(first[key], second[key])

    def test_rewards_must_be_named_again(self, toy, tmp_path):
        train(toy.folder, tmp_path, "--reward-sources length:4 --max-update 4")
        message = (
            "checkpoint_last.pt was trained with --reward-sources length:4, and this command gives {}: give the same"
        )
        for flags, given in (("", "discriminator"), ("--reward-sources length:5", "length:5")):
            with pytest.raises(ValueError, match=message.format(given)):
                train(toy.folder, tmp_path, flags, "--max-update 6")
        train(toy.folder, tmp_path, "--reward-sources length:4 --reward-weights 2 --max-update 5")

    def test_a_moving_average_is_restored_too(self, toy, tmp_path):
        flags = "--reward-sources length:4 --value final --store-ema --ema-decay 0.9 --max-update"
        for stop in (4, 6):
            train(toy.folder, tmp_path, flags, stop)
        assert load_checkpoint(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 6

    def test_one_of_the_elbo_is_no_beginning_of_this_run(self, toy, tmp_path):
        train(toy.folder, tmp_path, "--max-update 2", criterion=commands.ELBO)
        with pytest.raises(ValueError, match="was trained by the ELBO or with --reward-sources discriminator, and"):
            train(toy.folder, tmp_path, "--reward-sources length:4 --max-update 4")

    def test_a_new_run_may_have_others(self, toy, tmp_path):
        train(toy.folder, tmp_path / "one", "--reward-sources length:4 --max-update 4")
        start = "--finetune-from-model", tmp_path / "one" / "checkpoint_last.pt"
        train(toy.folder, tmp_path / "two", "--max-update 6", *start)
        train(toy.folder, tmp_path / "two", "--max-update 7", *start)
        with pytest.raises(ValueError, match="trained with --reward-sources discriminator, and"):
            train(toy.folder, tmp_path / "two", "--reward-sources length:4 --max-update 8", *start)

    def test_a_checkpoint_runs_no_file(self, toy, tmp_path, rule_file):
        source = rule_file(COUNTS_C)
        train(toy.folder, tmp_path / "ck", "--max-update 4 --value final --reward-sources", source)
        proof = tmp_path / "ran"
        (tmp_path / "rules.py").write_text(f"open({str(proof)!r}, 'w')\n")
        path = tmp_path / "ck" / "checkpoint_last.pt"
        for command, flags in (("validate", ""), ("generate", "--gen-subset prior --num-draws 3 --sampling --beam 1")):
            commands.run(command, toy.folder, "--task seqvae --cpu --batch-size 20 --num-workers 0 --path", path, flags)
        assert not proof.exists()


@pytest.mark.slow
def test_two_processes_share_the_samples(toy, tmp_path, rule_file):
    flags = f"{CALM} --reward-sources {rule_file(COUNTS_C)},bleu --reward-weights 1,0.5 --max-update 14"
    alone = train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    command = commands.training_flags(toy.folder, tmp_path / "both", flags, commands.distributed(2))
    both = commands.run("train", command, processes=2).stdout
    name = "checkpoint_last.pt"
    first, second = (load_checkpoint(tmp_path / folder / name) for folder in ("alone", "both"))
    assert not commands.differences(first["model"], second["model"])
    keys = (
        "reward",
        "reward_std",
        "rewards/rule/mean",
        "rewards/bleu/mean",
        "rewards/bleu/std",
        "frac_reward_zero_std",
    )
    lines = [[{k: line.get(k) for k in keys} for line in json_lines(log, "train_inner")] for log in (alone, both)]
    assert lines[0] == lines[1] and lines[0][-1]["rewards/bleu/std"] is not None


def test_turns_before_the_policy_gradient_ask_no_reward(toy, rule_file):
    source = rule_file("def rule(samples, **kwargs):\n    raise RuntimeError('too early')")
    training, batch = prepare(toy, "--value final --reward-sources", source)
    one_turn(training, batch, GENERATOR_PRETRAIN)
    with pytest.raises(ValueError, match="raised RuntimeError: too early"):
        one_turn(training, batch)


class TestWorkers:
    SLOW = """
import os
CALLS = []
def rule(samples, tokens, lengths, references, **kwargs):
    print("something on standard output")
    CALLS.append(len(samples))
    assert len(tokens) == len(lengths) == len(samples)
    return [None if s == "skip" else n + len(references) for s, n in zip(samples, lengths)]
def who(samples, **kwargs):
    return [os.getpid()] * len(samples)
def fails(samples, **kwargs):
    if "bad" in samples:
        return 1 / 0
    return [1.0] * len(samples)
def short(samples, **kwargs):
    return [1.0] * (len(samples) - 1)
def dies(samples, **kwargs):
    os._exit(3)
"""

    @staticmethod
    def keywords(samples):
        tokens = [[5] * len(sample) for sample in samples]
        return {
            "tokens": tokens,
            "lengths": list(map(len, tokens)),
            "ended": [True] * len(samples),
            "references": ["a"],
        }

    @pytest.mark.parametrize("count", [1, 2, 3, 7])
    def test_numbers_are_those_of_one_call(self, rule_file, count):
        samples = ["a", "bb", "skip", "", "ccc"]
        rule = sources.load_rule(rule_file(self.SLOW), None, workers=count)
        for _ in range(2):
            assert rule(samples, **self.keywords(samples)) == [2, 3, None, 1, 4]
        assert rule([], **self.keywords([])) == []

    def test_shares_are_even_and_in_other_processes(self, rule_file):
        rule = sources.load_rule(rule_file(self.SLOW, "who"), None, workers=3)
        numbers = rule(list("abcdefgh"), **self.keywords("abcdefgh"))
        assert sorted(map(numbers.count, set(numbers))) == [2, 3, 3] and os.getpid() not in numbers
        assert numbers == sorted(numbers, key=numbers.index)

    def test_each_sample_goes_with_its_label(self, rule_file):
        same = "def rule(samples, labels, **given):\n    return [a == b for a, b in zip(samples, labels)]\n"
        source = rule_file(same)
        rule = sources.load_rule(source, None, workers=2)
        keywords = {**self.keywords("abc"), "labels": list("abx")}
        assert rule(list("abc"), **keywords) == [True, True, False]

    def test_processes_end_with_the_rule(self, rule_file):
        rule = sources.load_rule(rule_file(self.SLOW, "who"), None, workers=1)
        (number,) = rule(["a"], **self.keywords("a"))
        os.kill(number, 0)
        del rule
        gc.collect()
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)

    @pytest.mark.parametrize(
        "name, message",
        [
            ("fails", r"raised ZeroDivisionError: division by zero \(rules.py, line 13: return 1 / 0\)"),
            ("short", "returned 0 numbers for 2 samples"),
            ("dies", "raised RuntimeError: its process ended with exit status 3"),
        ],
    )
    def test_failures_are_named_as_without(self, toy, rule_file, name, message):
        source = rule_file(self.SLOW, name)
        reward = RuleReward(source, sources.load_rule(source, None, workers=2), self.reader(["bad", "good"]))
        with pytest.raises(RewardError, match=rf"the reward '.*:{name}' of --reward-sources {message}"):
            reward.score(torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1, dtype=torch.bool))

    @staticmethod
    def reader(texts):
        found = mock.Mock()
        found.read.return_value = Texts(texts, [[4], [4]], [True, True])
        found.references.return_value = []
        found.labels = None
        return found

    def test_a_training_is_the_same_with_and_without(self, toy, tmp_path, rule_file):
        flags = f"--gen-pretrain-updates 0 --reward-sources {rule_file(COUNTS_C)} --max-update 3"
        for workers in (0, 2):
            train(toy.folder, tmp_path / str(workers), flags, f"--reward-workers {workers}")
        first, second = (load_checkpoint(tmp_path / str(workers) / "checkpoint_last.pt") for workers in (0, 2))
        for key in ("model", "last_optimizer_state"):
            assert first[key] and not commands.differences(first[key], second[key])
