"""The task: whose turn it is and what moves in it, and that no sentence is lost on the way to the model."""

import copy
import math
from types import SimpleNamespace

import commands
import numpy as np
import pytest
import torch
from commands import ELBO, make_training
from fairseq import checkpoint_utils
from fairseq.criterions import build_criterion
from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from fairseq_seqvae.tasks.datasets import LatentDataset, SequenceDataset

# The turns of commands.ADVERSARIAL, written down.
TURNS = ["G pre", "G pre", "G pre", "D pre", "D pre", "G", "G", "D", "G", "G", "D"]
ADAM = "--optimizer adam --lr 0.01 --weight-decay 0.1"
OPTIMIZERS = {
    "adam": ADAM,
    "sgd": "--optimizer sgd --lr 0.05 --momentum 0.9 --weight-decay 0.1",
    "adagrad": "--optimizer adagrad --lr 0.05 --weight-decay 0.1",
    "nag": "--optimizer nag --lr 0.05 --momentum 0.9 --weight-decay 0.1",
    "adafactor": "--optimizer adafactor --lr 0.05 --beta1 0.9 --weight-decay 0.1",
}
PRECISIONS = {
    "fp32": "",
    # A small first scale: a first overflow would need a GPU (`.cuda()` in the trainer), see test_overflow.
    "fp16": "--fp16 --fp16-init-scale 4",
    "bf16": "--bf16",
    "memory-efficient-fp16": "--memory-efficient-fp16 --fp16-init-scale 4",
}
# What fairseq itself refuses with `Unsupported optimizer`: these cannot work on half-precision parameters directly.
NOT_MEMORY_EFFICIENT = {"sgd", "adagrad"}


def snapshot(training):
    """Parameters of the model and of the optimizer, and its state, by player and name."""
    found = {"generator": {}, "discriminator": {}}
    for name, p in training.model.named_parameters():
        if not name.startswith("rollout_decoder."):
            found[p.param_group][name] = p.detach().clone()
    optimizer = training.trainer.optimizer.optimizer
    for group in optimizer.param_groups:
        for number, p in enumerate(group["params"]):
            found[p.param_group]["master", number] = p.detach().clone()
            for key, value in optimizer.state.get(p, {}).items():
                found[p.param_group]["state", number, key] = copy.deepcopy(value)
    return found


def rollout_weights(training):
    return {name: p.detach().clone() for name, p in training.model.rollout_decoder.named_parameters()}


def same(a, b):
    return torch.equal(a, b) if torch.is_tensor(a) else a == b


def equal(a, b):
    return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())


def moved(before, after):
    """Names of a player's parameters (not optimizer state) that differ."""
    return {k for k, v in before.items() if not (isinstance(k, tuple) and k[0] == "state") and not same(v, after[k])}


def batches_for(training, count):
    """Batches for *count* updates, all of them of the full size."""
    full = [b for b in training.batches() if b["nsentences"] == training.cfg.dataset.batch_size]
    return [full[i % len(full)] for i in range(count)]


class TestTurns:
    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_the_resting_player_does_not_move_nor_its_optimizer_state(self, toy, optimizer, precision):
        flags = (OPTIMIZERS[optimizer], PRECISIONS[precision])
        if precision.startswith("memory-efficient") and optimizer in NOT_MEMORY_EFFICIENT:
            with pytest.raises(ValueError, match="Unsupported optimizer"):
                make_training(toy.folder, *flags).trainer.optimizer  # noqa: B018
            return
        training = make_training(toy.folder, *flags)
        training.model.discriminator.dropout.p = 0.0
        for number, (turn, batch) in enumerate(zip(TURNS, batches_for(training, len(TURNS)), strict=True)):
            active, idle = ("generator", "discriminator") if turn[0] == "G" else ("discriminator", "generator")
            before, lagging = snapshot(training), rollout_weights(training)
            training.update(batch)
            assert training.trainer.get_num_updates() == number + 1
            after = snapshot(training)
            assert equal(before[idle], after[idle]), f"update {number}: the {idle} moved in the turn {turn}"
            masters = {k for k in before[active] if isinstance(k, tuple) and k[0] == "master"}
            assert moved(before[active], after[active]) >= masters, f"update {number}: parts of the {active} rest"
            for p in training.trainer.optimizer.params:
                assert (p.grad is None) == (p.param_group == idle)
            if turn[0] == "D":
                assert equal(lagging, rollout_weights(training))

    def test_momentum_would_move_it_if_its_gradient_were_zero_instead(self, toy):
        # The test above can fail: with zeros as gradients, Adam moves on.
        training = make_training(toy.folder, ADAM)
        batches = batches_for(training, 4)
        for batch in batches[:3]:
            training.update(batch)
        before = snapshot(training)["generator"]
        for p in training.trainer.optimizer.params:
            p.grad = torch.zeros_like(p)
        training.trainer.optimizer.step()
        assert moved(before, snapshot(training)["generator"])

    def test_criterion_without_adversary_moves_all_in_every_update(self, toy):
        training = make_training(toy.folder, criterion=ELBO)
        assert training.model.discriminator is None and training.model.rollout_decoder is None
        for batch in batches_for(training, 5):
            before = snapshot(training)["generator"]
            training.update(batch)
            assert moved(before, snapshot(training)["generator"]) == before.keys() - {
                k for k in before if isinstance(k, tuple) and k[0] == "state"
            }

    def test_turns_are_a_function_of_the_number_of_the_update(self, toy):
        training = make_training(toy.folder)
        turns = [training.task.turn(n).name for n in range(len(TURNS))]
        names = {
            "G pre": "generator-pretrain",
            "D pre": "discriminator-pretrain",
            "G": "generator",
            "D": "discriminator",
        }
        assert turns == [names[turn] for turn in TURNS]

    def test_update_freq_makes_one_turn_of_several_batches(self, toy):
        training = make_training(toy.folder, "--gen-pretrain-updates 1 --disc-pretrain-updates 0 --adv-d-steps 1")
        batches = batches_for(training, 3)
        for _ in range(5):
            before = snapshot(training)
            number = training.trainer.get_num_updates()
            training.trainer.train_step(batches)
            after = snapshot(training)
            idle = "discriminator" if training.task.turn(number).name.startswith("generator") else "generator"
            assert equal(before[idle], after[idle]) and training.trainer.get_num_updates() == number + 1

    def test_merged_parameters_are_noticed(self, toy):
        training = make_training(toy.folder)
        merged = torch.nn.Parameter(torch.zeros(3))
        optimizer = torch.optim.SGD([merged], lr=0.1)
        with pytest.raises(RuntimeError, match="merged the parameters .* use --fp16-no-flatten-grads"):
            training.task.optimizer_step(optimizer, training.model, 0)

    def test_overflow_repeats_the_turn(self, toy, monkeypatch):
        # fairseq moves a zero to the GPU after an overflow, even with --cpu.
        monkeypatch.setattr(torch.Tensor, "cuda", lambda self, *args, **kwargs: self)
        training = make_training(toy.folder, "--fp16 --fp16-init-scale", 2**24)
        skipped, number = 0, 0
        for batch in batches_for(training, 40):
            idle = "generator" if TURNS[number][0] == "D" else "discriminator"
            before = snapshot(training)
            training.update(batch)
            after = snapshot(training)
            assert equal(before[idle], after[idle])
            if training.trainer.get_num_updates() == number:
                skipped += 1
                assert equal(before["generator"], after["generator"])
                assert equal(before["discriminator"], after["discriminator"])
            else:
                number += 1
                if number == len(TURNS):
                    break
        assert skipped > 3 and number == len(TURNS)


class TestRolloutPolicy:
    @pytest.mark.parametrize("lag", [0.8, 0.5, 0.0])
    def test_it_follows_the_decoder_after_each_adversarial_update_of_the_generator(self, toy, lag):
        training = make_training(toy.folder, f"--rollout-lag {lag}")
        decoder = dict(training.model.decoder.named_parameters())
        for number, (turn, batch) in enumerate(zip(TURNS, batches_for(training, len(TURNS)), strict=True)):
            before = rollout_weights(training)
            training.update(batch)
            after = rollout_weights(training)
            if turn == "G":
                for name, p in decoder.items():
                    expected = lag * before[name].double() + (1 - lag) * p.detach().double()
                    torch.testing.assert_close(after[name].double(), expected, rtol=1e-6, atol=1e-8)
                    assert lag == 0 or not torch.equal(after[name], p)
            elif number == 2:  # the adversarial part begins with the decoder as it is after pre-training
                assert all(torch.equal(after[name], p) for name, p in decoder.items())
            else:
                assert equal(before, after), f"update {number}, turn {turn}"

    def test_it_is_the_decoder_where_there_is_no_pretraining(self, toy):
        training = make_training(toy.folder, "--gen-pretrain-updates 0 --disc-pretrain-updates 1")
        training.update(batches_for(training, 1)[0])
        for name, p in training.model.decoder.named_parameters():
            assert torch.equal(rollout_weights(training)[name], p)


class TestLearningRates:
    def test_disc_lr_is_that_of_the_discriminators_turns_alone(self, toy):
        training = make_training(toy.folder, "--optimizer sgd --lr 0.5 --disc-lr 0.003 --clip-norm 0")
        for turn, batch in zip(TURNS, batches_for(training, len(TURNS)), strict=True):
            before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
            training.update(batch)
            rate = 0.5 if turn[0] == "G" else 0.003
            for name, p in training.model.named_parameters():
                if p.grad is not None:
                    torch.testing.assert_close(p.detach(), before[name] - rate * p.grad, rtol=1e-5, atol=1e-7)
            assert training.trainer.get_lr() == 0.5

    def test_without_disc_lr_both_have_the_same(self, toy):
        training = make_training(toy.folder, "--optimizer sgd --lr 0.5 --clip-norm 0 --gen-pretrain-updates 0")
        p = training.model.discriminator.output.weight
        before = p.detach().clone()
        training.update(batches_for(training, 1)[0])
        torch.testing.assert_close(p.detach(), before - 0.5 * p.grad, rtol=1e-5, atol=1e-7)

    def test_disc_lr_of_zero_stops_the_discriminator(self, toy):
        training = make_training(toy.folder, "--gen-pretrain-updates 0 --disc-lr 0 --optimizer sgd")
        before = snapshot(training)["discriminator"]
        training.update(batches_for(training, 1)[0])
        assert not moved(before, snapshot(training)["discriminator"])

    def test_rate_is_restored_when_the_step_fails(self, toy):
        training = make_training(toy.folder, "--gen-pretrain-updates 0 --disc-lr 0.003 --lr 0.5")

        class Failing:
            param_groups = [{"params": list(training.model.discriminator.parameters()), "lr": 0.5}]

            def step(self):
                assert self.param_groups[0]["lr"] == 0.003
                raise RuntimeError("no step")

        with pytest.raises(RuntimeError, match="no step"):
            training.task.optimizer_step(Failing(), training.model, 0)
        assert Failing.param_groups[0]["lr"] == 0.5

    def test_schedulers_still_rule_the_generator(self, toy):
        flags = "--lr-scheduler inverse_sqrt --warmup-updates 4 --warmup-init-lr 0 --lr 0.4 --disc-lr 0.003"
        training = make_training(toy.folder, "--optimizer sgd --clip-norm 0", flags)
        p = training.model.decoder.output.bias
        for number, batch in enumerate(batches_for(training, 3)):
            before = p.detach().clone()
            training.update(batch)
            torch.testing.assert_close(p.detach(), before - 0.1 * number * p.grad, rtol=1e-5, atol=1e-7)


def test_a_fairseq_that_knows_no_criteria_of_checkpoints(toy, monkeypatch):
    training = make_training(toy.folder)
    monkeypatch.setattr(FairseqTask, "build_criterion", lambda self, cfg: build_criterion(cfg, self))
    assert training.task.build_criterion(training.cfg.criterion).is_adversarial


class TestAlarms:
    @pytest.mark.parametrize("turn, player", [(0, "generator"), (3, "discriminator")])
    def test_a_gradient_that_is_not_finite_is_laid_to_its_turn(self, toy, tmp_path, turn, player):
        training = make_training(toy.folder, "--save-dir", tmp_path)
        batches = batches_for(training, turn + 1)
        for batch in batches[:-1]:
            training.update(batch)
        model = training.model
        output = model.decoder.output.bias if player == "generator" else model.discriminator.output.bias
        output.data.fill_(math.nan)
        message = f"in update {turn + 1}, a turn of the {player} .*: gradients are Nan/Inf. .* lower --"
        with pytest.raises(FloatingPointError, match=message):
            training.update(batches[-1])

    def test_a_loss_that_is_not_finite_is_laid_to_its_turn(self, toy, tmp_path, monkeypatch):
        training = make_training(toy.folder, "--save-dir", tmp_path)
        batches = batches_for(training, 3)
        for batch in batches[:-1]:
            training.update(batch)
        original = training.criterion.forward

        def broken(*args, **kwargs):
            loss, sample_size, log = original(*args, **kwargs)
            return loss, sample_size, log | {"loss": math.nan}

        monkeypatch.setattr(training.criterion, "forward", broken)
        # The next turn would be the discriminator's.
        with pytest.raises(FloatingPointError, match="^in update 3, a turn of the generator .*infinite: loss") as found:
            training.update(batches[-1])
        assert str(found.value).count("in update") == 1

    def logged(self, training, **numbers):
        """What a process has logged of 4 sentences in all."""
        log = {"weight": 4, "nsentences": 4, "ntokens": 8, "sample_size": 4, "rec": 4.0, "kl": 4.0, "loss": 8.0}
        with metrics.aggregate():
            training.task.reduce_metrics([log | numbers], training.criterion)

    def test_a_loss_that_is_not_finite_ends_training_and_is_told_of_in_validation(self, toy, caplog):
        training = make_training(toy.folder)
        self.logged(training)
        with pytest.raises(FloatingPointError, match="in update 1, a turn of the generator .*NaN or infinite: loss"):
            self.logged(training, loss=math.nan)
        training.criterion.eval()
        for _ in range(3):
            self.logged(training, loss=math.inf)
        assert [record.message for record in caplog.records] == ["after update 1: NaN or infinite: loss"]

    @pytest.mark.parametrize("latent_dim, expected", [(4, 1), (0, 0)])
    def test_a_model_without_latent_vector_has_none_to_collapse(self, toy, caplog, latent_dim, expected):
        training = make_training(toy.folder, f"--alarm-window 1 --latent-dim {latent_dim}")
        training.task._update_num = 1
        self.logged(training, kl_weight=4, kl=0.0)
        assert caplog.text.count("the latent has collapsed") == expected

    def test_only_the_first_process_warns(self, toy, caplog, monkeypatch):
        training = make_training(toy.folder, "--alarm-window 1 --alarm-kl 2")
        training.task._update_num = 1
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        for rank, expected in ((1, 0), (0, 1)):
            monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            training.task.build_criterion(training.cfg.criterion)  # alarms start again
            self.logged(training, kl_weight=4)
            assert caplog.text.count("the latent has collapsed") == expected

    def test_validations_count_in_the_adversarial_part(self, toy, caplog):
        training = make_training(toy.folder)
        at_chance = {key: SimpleNamespace(avg=0.5) for key in ("d_acc_real", "d_acc_fake")}
        for update, expected in ((4, 0), (5, 1)):
            training.task._update_num = update
            for _ in range(4):
                training.task.post_validate(training.model, {"loss": 1.0}, at_chance)
            assert caplog.text.count("at chance on held-out sentences") == expected

    @pytest.mark.slow
    @pytest.mark.parametrize("kl_weight, expected", [(5, 1), (0.01, 0)])
    def test_a_latent_is_judged_by_what_comes_back_of_held_out_sentences(self, toy, tmp_path, kl_weight, expected):
        # With --alarm-kl 0 the divergence may be as small as it likes.
        flags = (
            "--max-update 90 --alarm-window 20 --alarm-kl 0 --validate-interval-updates 30 --validate-interval 1000 "
            "--no-save --no-valid-samples --dropout 0 --lr 2e-2 --latent-input --decoder-hidden-dim 24 --kl-weight"
        )
        log = commands.train(toy.folder, tmp_path, flags, kl_weight, criterion=commands.ELBO)
        found = [line for line in log.splitlines() if line.startswith("WARNING | fairseq_seqvae.tasks.watch")]
        assert len(found) == expected
        assert all("after update 90: the latent is hardly used: greedy" in line for line in found)

    @pytest.mark.parametrize("flags, expected", [("", 1), ("--latent-dim 0", 0), ("--alarm-window 0", 0)])
    def test_validations_judge_a_latent_where_there_is_one(self, toy, caplog, flags, expected):
        training = make_training(toy.folder, "--alarm-window 3", flags, criterion=commands.ELBO)
        unused = {key: SimpleNamespace(avg=0.5) for key in ("rec_acc", "rec_acc_other")}

        def validations(update):
            training.task._update_num = update
            for _ in range(3):
                training.task.post_validate(training.model, {"loss": 1.0}, unused)
            return caplog.text.count("the latent is hardly used")

        assert validations(9) == 0  # no update has been seen, and so no weight of the divergence
        training.task._update_num = 1
        self.logged(training, kl_weight=4)
        assert validations(2) == 0  # too early
        assert validations(3) == expected

    def test_fairseqs_metrics_hold_no_more_after_more_updates(self, toy, tmp_path):
        held = []
        for updates in (8, 12):
            commands.train(toy.folder, tmp_path / str(updates), "--max-update", updates)
            held.append(len(metrics._active_aggregators_cnt))
        assert held[0] == held[1]

    def test_an_ill_of_a_training_is_told_once(self, toy, tmp_path):
        flags = "--alarm-window 2 --alarm-kl 1000 --adv-g-steps 1 --max-update 17 --lr 0 --disable-validation"
        log = commands.train(toy.folder, tmp_path, flags)
        # Of the turns of the generator, 3 and 6 are the first two that count.
        assert log.count("WARNING | fairseq_seqvae.tasks.watch | after update 6: the latent has collapsed") == 1
        assert log.count("the latent has collapsed") == 1


def make_dictionary():
    dictionary = Dictionary()
    for letter in commands.SYMBOLS:
        dictionary.add_symbol(letter)
    return dictionary


def make_dataset(lengths, **options):
    """Sentences of these numbers of letters, and EOS."""
    dictionary = make_dictionary()
    tokens = [torch.tensor([4] * length + [dictionary.eos()]) for length in lengths]
    return SequenceDataset(tokens, [len(t) for t in tokens], dictionary, "train", **options)


class TestData:
    @pytest.mark.parametrize("count", [1, 3, 7, 8, 9, 17, 31])
    @pytest.mark.parametrize(
        "limits", [{"max_sentences": 8}, {"max_tokens": 40}, {"max_tokens": 30, "max_sentences": 4}]
    )
    def test_batches_hold_every_sentence_once(self, count, limits):
        lengths = [2 + n % 7 for n in range(count)]
        for dataset in (make_dataset(lengths), LatentDataset(count, make_dictionary(), 6)):
            indices = dataset.ordered_indices()
            batches = dataset.batch_by_size(indices, required_batch_size_multiple=8, **limits)
            assert np.concatenate(batches).tolist() == list(indices)
            for batch in batches:
                assert len(batch) <= limits.get("max_sentences", 99)
                longest = max(dataset.num_tokens(i) for i in batch)
                assert len(batch) * longest <= limits.get("max_tokens", math.inf)

    def test_no_sentence_no_batch(self):
        dataset = make_dataset([3, 4])
        assert dataset.batch_by_size(np.array([], dtype=int), max_sentences=8, required_batch_size_multiple=8) == []

    @pytest.mark.parametrize("limit", ["--batch-size 32", "--batch-size 7", "--max-tokens 60 --batch-size 1000"])
    def test_an_epoch_of_training_visits_every_sentence_once(self, toy, limit):
        training = make_training(toy.folder, limit)
        for epoch in (1, 2):
            iterator = training.trainer.get_train_iterator(epoch, load_dataset=False)
            ids = [batch["id"] for batch in iterator.next_epoch_itr(shuffle=True)]
            assert sorted(torch.cat(ids).tolist()) == list(range(len(toy.train)))

    def test_batches_and_workers_are_kept_from_epoch_to_epoch(self, toy):
        # fairseq would wait seconds for the old workers to end, in every epoch.
        trainer = make_training(toy.folder).trainer
        first = trainer.get_train_iterator(1, load_dataset=False)
        assert trainer.get_train_iterator(2, load_dataset=False) is first

    def test_batches_hold_the_sentences_as_fairseq_wants_them(self, toy):
        training = make_training(toy.folder)
        dictionary = training.task.source_dictionary
        assert training.task.target_dictionary is dictionary
        for batch in training.batches("valid"):
            net_input = batch["net_input"]
            for row, number in enumerate(batch["id"].tolist()):
                letters = [dictionary.index(letter) for letter in toy.valid[number].split()]
                padding = [dictionary.pad()] * (batch["target"].size(1) - len(letters) - 1)
                eos = [dictionary.eos()]
                assert batch["target"][row].tolist() == letters + eos + padding
                assert net_input["src_tokens"][row].tolist() == letters + eos + padding
                assert net_input["prev_output_tokens"][row].tolist() == eos + letters + padding
                assert net_input["src_lengths"][row] == len(letters) + 1

    def test_batches_of_fixed_length_hold_no_eos(self, toy_fixed):
        training = make_training(toy_fixed.folder, "--fixed-length 6")
        dictionary = training.task.source_dictionary
        for batch in training.batches("valid"):
            net_input = batch["net_input"]
            for row, number in enumerate(batch["id"].tolist()):
                letters = [dictionary.index(letter) for letter in toy_fixed.valid[number].split()]
                assert batch["target"][row].tolist() == net_input["src_tokens"][row].tolist() == letters
                assert net_input["prev_output_tokens"][row].tolist() == [dictionary.eos(), *letters[:-1]]

    def test_training_samples_are_as_long_as_the_longest_sentence(self, toy, toy_fixed):
        longest = max(len(line.split()) for line in toy.train) + 1
        training = make_training(toy.folder)
        assert training.task.max_sample_length(torch.zeros(2, 3)) == longest
        assert make_training(toy.folder, "--max-positions 7").task.max_sample_length(torch.zeros(2, 3)) == 7
        assert make_training(toy_fixed.folder, "--fixed-length 6").task.max_sample_length(torch.zeros(2, 3)) == 6

    def test_samples_are_as_long_as_the_longest_sentence_of_any_shard(self, tmp_path):
        first = commands.preprocess(tmp_path / "1", train=["a b c"] * 9, valid=["a b"] * 9)
        second = commands.preprocess(tmp_path / "2", dictionary=first / "dict.txt", train=["a b c a b", "a"] * 5)
        training = make_training(f"{first}:{second}")
        for epoch in (1, 2, 3):
            training.task.load_dataset("train", epoch=epoch)
            assert training.task.max_sample_length(torch.zeros(2, 3)) == 6

    def test_epochs_go_through_the_shards(self, tmp_path):
        shards = [commands.toy_sentences(20, seed) for seed in (1, 2)]
        first = commands.preprocess(tmp_path / "1", train=shards[0], valid=commands.toy_sentences(9, 3))
        second = commands.preprocess(tmp_path / "2", dictionary=first / "dict.txt", train=shards[1])
        training = make_training(f"{first}:{second}")
        dictionary = training.task.source_dictionary
        assert training.task.has_sharded_data("train")
        for epoch, shard in ((1, 0), (2, 1), (3, 0), (4, 1)):
            training.task.load_dataset("train", epoch=epoch)
            dataset = training.task.dataset("train")
            assert [dictionary.string(dataset[i]["source"]) for i in range(20)] == shards[shard]
            training.task.load_dataset("valid", epoch=epoch)
            assert len(training.task.dataset("valid")) == 9


class TestWholeTrainings:
    def test_moving_average_of_the_parameters(self, toy, tmp_path):
        flags = "--store-ema --ema-decay 0.5 --lr 0.05 --save-interval-updates 1"
        commands.train(toy.folder, tmp_path, flags, "--max-update 4")
        name = "decoder.output.bias"
        states = [commands.load_checkpoint(tmp_path / f"checkpoint_1_{n}.pt") for n in (1, 2, 3, 4)]
        for before, after in zip(states, states[1:], strict=False):
            expected = 0.5 * before["extra_state"]["ema"][name] + 0.5 * after["model"][name]
            torch.testing.assert_close(after["extra_state"]["ema"][name], expected)
        version = states[-1]["model"]["dictionary_version"]
        assert torch.equal(states[-1]["extra_state"]["ema"]["dictionary_version"], version)
        # and it goes on
        commands.train(toy.folder, tmp_path, flags, "--max-update 9")
        state = commands.load_checkpoint(tmp_path / "checkpoint_last.pt")
        assert state["optimizer_history"][-1]["num_updates"] == 9

    def test_plain_and_adversarial_checkpoints_load_for_either_criterion(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path / "elbo", "--max-update 2", criterion=ELBO)
        commands.train(toy.folder, tmp_path / "pg", "--max-update 7")
        assert not any(
            "discriminator" in k for k in commands.load_checkpoint(tmp_path / "elbo/checkpoint_last.pt")["model"]
        )
        trained = {
            name: commands.load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in ("elbo", "pg")
        }
        for source, criterion in (("elbo", None), ("pg", ELBO)):
            target = tmp_path / f"from-{source}"
            flags = ("--finetune-from-model", tmp_path / source / "checkpoint_last.pt", "--lr 0 --max-update 1")
            commands.train(toy.folder, target, *flags, **({"criterion": criterion} if criterion else {}))
            state = commands.load_checkpoint(target / "checkpoint_last.pt")["model"]
            for key in trained["elbo"]:
                assert torch.equal(state[key], trained[source][key]), key
            assert any(key.startswith("discriminator.") for key in state) == (criterion is None)
        for path in ("elbo", "pg"):
            models, _ = checkpoint_utils.load_model_ensemble([str(tmp_path / path / "checkpoint_last.pt")])
            assert models[0].discriminator is None and models[0].rollout_decoder is None

    def test_early_stopping_and_best_checkpoint_use_the_validation_loss(self, toy, tmp_path):
        flags = "--patience 2 --lr 0 --validate-interval-updates 1 --save-interval-updates 1 --keep-interval-updates 1"
        output = commands.train(toy.folder, tmp_path, flags, "--max-update 9")
        assert "early stop since valid performance hasn't improved for last 2 runs" in output
        assert len(commands.json_lines(output, "valid")) == 3

    def test_best_checkpoint_by_the_divergence_of_samples(self, toy, tmp_path):
        flags = "--best-checkpoint-metric bigram_jsd --save-interval-updates 2 --max-update 8 --no-last-checkpoints"
        output = commands.train(toy.folder, tmp_path, flags)
        found = [float(line["valid_bigram_jsd"]) for line in commands.json_lines(output, "valid")]
        assert len(found) == 4 and len(set(found)) > 1
        best = commands.load_checkpoint(tmp_path / "checkpoint_best.pt")["extra_state"]
        assert best["val_loss"] == best["best"] == min(found)

    def test_checkpoints_hold_nothing_but_tensors_and_plain_values(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path, "--max-update 7")
        torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)

    def test_discriminator_of_ones_own(self, toy, tmp_path):
        (tmp_path / "mine.py").write_text(
            "import torch\n"
            "from fairseq_seqvae.discriminators import register_discriminator\n"
            "@register_discriminator('bag')\n"
            "class Bag(torch.nn.Module):\n"
            "    def __init__(self, vocab_size):\n"
            "        super().__init__()\n"
            "        self.weights = torch.nn.Embedding(vocab_size, 1)\n"
            "    @classmethod\n"
            "    def from_config(cls, cfg, vocab_size, padding_idx):\n"
            "        return cls(vocab_size)\n"
            "    def forward(self, tokens, padding_mask):\n"
            "        return self.weights(tokens).squeeze(2).masked_fill(padding_mask, 0).sum(1)\n"
        )
        flags = ("--discriminator bag --disc-module", tmp_path / "mine.py")
        commands.train(toy.folder, tmp_path / "ck", *flags, "--max-update 7")
        checkpoint = tmp_path / "ck" / "checkpoint_last.pt"
        assert "discriminator.weights.weight" in commands.load_checkpoint(checkpoint)["model"]
        # Generation needs neither the class nor the file.
        (tmp_path / "mine.py").unlink()
        output = commands.generate(toy.folder, checkpoint, "--gen-subset prior --num-draws 3 --sampling --beam 1")
        assert len(commands.texts(output)) == 3

    @pytest.mark.parametrize("precision", ["--fp16 --fp16-init-scale 4", "--bf16", "--memory-efficient-fp16", "--amp"])
    def test_precisions_train_and_validate(self, toy, tmp_path, precision):
        output = commands.train(toy.folder, tmp_path, precision, "--max-update 8 --fp16-init-scale 4")
        losses = [float(line["loss"]) for line in commands.json_lines(output, "train_inner") if "loss" in line]
        assert len(losses) == 5 and all(map(math.isfinite, losses))
        assert math.isfinite(float(commands.json_lines(output, "valid")[-1]["valid_loss"]))
        text = commands.generate(toy.folder, tmp_path / "checkpoint_last.pt", "--gen-subset test --beam 2 --fp16")
        assert len(commands.texts(text)) == len(toy.test)


def test_text_that_fairseq_preprocess_did_not_binarise(tmp_path):
    """`--dataset-impl raw` copies the text under a name of its own."""
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text("a b c\nb c\n\n" * 8)
    text = f"--trainpref {tmp_path}/train.txt --validpref {tmp_path}/valid.txt"
    commands.call("preprocess", f"--only-source --dataset-impl raw {text} --destdir {tmp_path}/raw")
    commands.call("preprocess", f"--only-source {text} --workers 1 --destdir {tmp_path}/bin")
    losses = []
    for folder, flags in (("raw", "--dataset-impl raw"), ("raw", ""), ("bin", "")):
        output = commands.train(
            tmp_path / folder, tmp_path / "ck", flags, "--max-update 2 --no-save", criterion=commands.ELBO
        )
        losses.append([line["loss"] for line in commands.json_lines(output, "train_inner")])
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 2
