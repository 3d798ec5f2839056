"""What fairseq-generate and fairseq-interactive print: lengths, symbols, scores, seeds, batches, each way to a z."""

import functools
import math
import re

import commands
import numpy as np
import oracles
import pytest
import torch
from commands import hypotheses, json_lines, lines_of_kind, split_flags, texts
from fairseq import checkpoint_utils

from fairseq_seqvae.support import generate_output

PRIOR = "--gen-subset prior --sampling --beam 1 --num-draws"
GREEDY = "--beam 1"


def generate(trained, *flags):
    return commands.generate(trained.folder, trained.checkpoint, *flags)


@functools.cache
def _drawn(folder, checkpoint):
    return texts(commands.generate(folder, checkpoint, PRIOR, 40))


def drawn(trained, count):
    """The first texts from the prior, made once for all tests that compare with them."""
    return {number: _drawn(trained.folder, trained.checkpoint)[number] for number in range(count)}


def interactive(trained, lines, tmp_path, *flags):
    return commands.interactive(trained.folder, trained.checkpoint, lines, tmp_path, *flags)


def validate(trained, *flags):
    """What fairseq-validate logs at its end."""
    options = "--task seqvae --cpu --log-format json --num-workers 0 --path"
    return json_lines(commands.call("validate", trained.folder, options, trained.checkpoint, *flags), "valid")[-1]


def load_model(trained):
    """The model and its task, read from the checkpoint."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(trained.checkpoint)])
    return models[0].eval(), task


def tokens_of(task, text, eos=True):
    numbers = [task.source_dictionary.index(symbol) for symbol in text.split()]
    return numbers + [task.source_dictionary.eos()] * eos


def slow_bits(model, tokens, z, temperature=1.0):
    """log2 p of each token of a sentence given z (Z,), one step after the other."""
    state, previous, result = model.decoder.start(z.unsqueeze(0)), model.decoder.eos, []
    for token in tokens:
        features, state = model.decoder.advance(torch.tensor([previous]), state)
        logits = (model.decoder.logits(features)[0] / temperature).tolist()
        result.append(oracles.log_softmax(logits)[token] / math.log(2))
        previous = token
    return result


def posterior_mean(model, tokens):
    with torch.no_grad():
        return model.encoder.posterior(torch.tensor([tokens]), torch.tensor([len(tokens)])).mean[0]


class TestSeeds:
    def test_samples_do_not_depend_on_batches(self, trained):
        expected = drawn(trained, 20)
        assert expected.keys() == set(range(20)) and len({t for group in expected.values() for t in group}) > 15
        for limit in ("--batch-size 1", "--batch-size 7", "--max-tokens 300"):
            assert texts(generate(trained, PRIOR, 20, limit)) == expected, limit
        # nor on how many there are
        assert texts(generate(trained, PRIOR, 5)) == {n: expected[n] for n in range(5)}

    def test_samples_from_sentences_do_not_depend_on_batches(self, trained):
        flags = "--gen-subset test --latent sample --sampling --beam 2 --nbest 2"
        expected = texts(generate(trained, flags))
        for limit in ("--batch-size 4", "--max-tokens 25"):
            assert texts(generate(trained, flags, limit)) == expected, limit
        assert texts(generate(trained, flags, "--seed 6")) != expected

    def test_another_seed_gives_other_samples(self, trained):
        first, second = drawn(trained, 20), texts(generate(trained, PRIOR, 20, "--seed 6"))
        same = sum(first[n] == second[n] for n in range(20))
        assert same <= 2

    def test_without_seed_it_is_1(self, trained):
        flags = (trained.folder, "--task seqvae --cpu --num-workers 0 --path", trained.checkpoint, PRIOR, 10)
        assert texts(commands.call("generate", *flags)) == texts(commands.call("generate", *flags, "--seed 1"))

    def test_draws_of_a_sentence_do_not_depend_on_their_number(self, trained):
        flags = "--gen-subset prior --num-draws 6 --sampling"
        two = texts(generate(trained, flags, "--beam 2 --nbest 2"))
        four = texts(generate(trained, flags, "--beam 4 --nbest 4"))
        for number in range(6):
            assert len(two[number]) == 2 and len(four[number]) == 4
            assert set(two[number]) <= set(four[number])

    def test_a_line_typed_twice_gets_two_draws(self, trained, tmp_path):
        flags = "--latent sample --sampling --beam 1 --temperature 2"
        output = texts(interactive(trained, ["a b c d e", "d e f", "a b c d e"], tmp_path, flags))
        assert output[0] != output[2]
        # and the same ones whatever stands around it
        flags += " --buffer-size 4 --batch-size 4"
        again = texts(interactive(trained, ["f g", "a b c d e", "a b c d e"], tmp_path, flags))
        assert (again[1], again[2]) == (output[0], output[2])


class TestSampling:
    def test_symbols_that_are_no_outputs_never_come(self, trained):
        letters = set(commands.SYMBOLS) | {"<unk>"}
        output = texts(generate(trained, PRIOR, 150, "--temperature 5 --max-len-b 30"))
        symbols = [symbol for group in output.values() for text in group for symbol in text.split()]
        assert len(symbols) > 500 and set(symbols) == letters

    @pytest.mark.parametrize("flags", ["--temperature 0.001", "--sampling-topk 1", "--sampling-topp 1e-6"])
    def test_limits_are_the_greedy_sentence(self, trained, flags):
        subset = "--gen-subset test --latent sample"
        greedy = texts(generate(trained, subset, GREEDY))
        assert len({t for group in greedy.values() for t in group}) > 15
        assert texts(generate(trained, subset, "--sampling --beam 1", flags)) == greedy

    def test_greedy_from_the_prior_uses_the_same_draws(self, trained):
        greedy = texts(generate(trained, "--gen-subset prior --num-draws 15", GREEDY))
        assert texts(generate(trained, PRIOR, 15, "--sampling-topk 1")) == greedy
        assert len({t for group in greedy.values() for t in group}) > 7

    def test_truncation_stays_within_the_likeliest(self, trained):
        model, task = load_model(trained)
        output = hypotheses(generate(trained, "--gen-subset test --sampling --sampling-topk 2 --beam 1"))
        originals = trained.data.test
        for number, (hypothesis,) in output.items():
            z = posterior_mean(model, tokens_of(task, originals[number]))
            state, previous = model.decoder.start(z.unsqueeze(0)), model.decoder.eos
            for step, token in enumerate(tokens_of(task, hypothesis.text)):
                features, state = model.decoder.advance(torch.tensor([previous]), state)
                logits = model.decoder.logits(features)[0].detach().clone()
                if step < 1:  # fairseq's --min-len is 1: no EOS at first
                    logits[2] = -math.inf
                assert token in logits.topk(2).indices
                previous = token

    def test_lengths_can_be_limited(self, trained):
        output = texts(generate(trained, PRIOR, 40, "--min-len 4 --max-len-b 6"))
        lengths = [len(text.split()) for (text,) in output.values()]
        assert min(lengths) == 4 and max(lengths) == 6
        assert min(len(text.split()) for (text,) in drawn(trained, 40).values()) < 4

    def test_a_longest_length_that_grows_with_the_source_does_not_look_at_the_batch(self, trained):
        flags = "--gen-subset test --sampling --beam 1 --temperature 3 --max-len-a 1 --max-len-b 0"
        assert texts(generate(trained, flags, "--batch-size 30")) == texts(generate(trained, flags, "--batch-size 1"))

    def test_unknown_symbol_can_be_made_unlikely(self, trained):
        hot = "--temperature 8 --max-len-b 30"
        assert "<unk>" in str(texts(generate(trained, PRIOR, 40, hot)))
        assert "<unk>" not in str(texts(generate(trained, PRIOR, 40, hot, "--unkpen 1000")))

    def test_options_of_beam_search_fall_back_on_fairseq(self, trained):
        output = generate(trained, PRIOR, 9, "--no-repeat-ngram-size 2")
        assert "sampling by fairseq's generator" in output
        assert sorted(texts(output)) == list(range(9))
        assert "sampling by fairseq's generator" not in generate(trained, PRIOR, 9)

    def test_other_searches_of_fairseq(self, trained):
        for flags in ("--diverse-beam-groups 2", "--diversity-rate 0.5"):
            output = texts(generate(trained, "--gen-subset test --beam 4 --nbest 4 --batch-size 9", flags))
            assert sorted(output) == list(range(30))
            assert all(len(group) == 4 for group in output.values())

    def test_two_checkpoints_are_an_ensemble(self, trained):
        one = texts(generate(trained, "--gen-subset test --beam 2"))
        path = f"{trained.checkpoint}:{trained.checkpoint}"
        assert texts(commands.generate(trained.folder, path, "--gen-subset test --beam 2")) == one
        draws = commands.generate(trained.folder, path, PRIOR, 5)
        assert len(texts(draws)) == 5

    def test_half_precision(self, trained):
        assert len(texts(generate(trained, PRIOR, 10, "--fp16"))) == 10
        assert len(texts(generate(trained, "--gen-subset test --beam 2 --fp16"))) == 30


class TestScores:
    @pytest.mark.parametrize(
        "flags, power",
        [
            ("--gen-subset prior --num-draws 8 --sampling --beam 3 --nbest 3", 1.0),
            ("--gen-subset prior --num-draws 8 --sampling --beam 3 --nbest 3 --lenpen 0.5", 0.5),
            ("--gen-subset prior --num-draws 8 --sampling --beam 3 --nbest 3 --unnormalized", 0.0),
            ("--gen-subset test --beam 4 --nbest 2", 1.0),
            ("--gen-subset prior --num-draws 8 --beam 4 --nbest 4 --lenpen 2", 2.0),
        ],
    )
    def test_score_is_the_normalised_sum_of_those_of_the_tokens(self, trained, flags, power):
        for group in hypotheses(generate(trained, flags)).values():
            for hypothesis in group:
                length = len(hypothesis.token_scores)
                assert length == len(hypothesis.text.split()) + 1
                expected = sum(hypothesis.token_scores) / length**power
                assert hypothesis.score == pytest.approx(expected, abs=2e-4 * length ** (1 - power))
            scores = [hypothesis.score for hypothesis in group]
            assert scores == sorted(scores, reverse=True)

    @pytest.mark.parametrize("flags, temperature", [("", 1.0), ("--temperature 1.7", 1.7)])
    def test_token_scores_are_log_probabilities_in_bits(self, trained, flags, temperature):
        model, task = load_model(trained)
        for options in ("--sampling --beam 2 --nbest 2 --min-len 0", "--beam 2 --min-len 0"):
            output = hypotheses(generate(trained, "--gen-subset test", options, flags))
            for number, group in output.items():
                z = posterior_mean(model, tokens_of(task, trained.data.test[number]))
                for hypothesis in group:
                    bits = slow_bits(model, tokens_of(task, hypothesis.text), z, temperature)
                    assert hypothesis.token_scores == pytest.approx(bits, abs=2e-3)

    def test_scores_of_sentences_of_greatest_length(self, trained):
        # fairseq's output ends with EOS all the same, which counts as 0.
        output = hypotheses(generate(trained, PRIOR, 20, "--max-len-b 3"))
        cut = [h for (h,) in output.values() if len(h.text.split()) == 3 and h.token_scores[-1] == 0]
        assert cut and all(len(h.token_scores) == 4 for h in cut)

    def test_reference_can_be_scored(self, trained):
        model, task = load_model(trained)
        output = hypotheses(generate(trained, "--gen-subset test --score-reference"))
        for number, (hypothesis, *_) in output.items():
            tokens = tokens_of(task, trained.data.test[number])
            assert hypothesis.text == trained.data.test[number]
            assert hypothesis.token_scores == pytest.approx(
                slow_bits(model, tokens, posterior_mean(model, tokens)), abs=2e-3
            )


class TestWays:
    def test_reconstruction_knows_the_sentence(self, trained):
        output = texts(generate(trained, "--gen-subset test --beam 3"))
        right = sum(output[number] == [text] for number, text in enumerate(trained.data.test))
        first = sum(output[number][0][:1] == text[:1] for number, text in enumerate(trained.data.test))
        assert right >= 4 and first >= 20

    def test_latent_vectors_of_sentences(self, trained):
        mean, draw, prior = (
            texts(generate(trained, "--gen-subset test --beam 2 --latent", kind))
            for kind in ("mean", "sample", "prior")
        )
        kept = [sum(mean[n] == other[n] for n in mean) for other in (draw, prior)]
        assert 30 > kept[0] > kept[1]

    def test_walk_between_two_sentences(self, trained, tmp_path):
        ends = ["a b c d", "f g h i j"]
        flags = f"--interpolate-from '{ends[0]}' --interpolate-to '{ends[1]}' --num-draws 6"
        walk = texts(generate(trained, "--gen-subset interpolate --beam 3", flags))
        expected = texts(interactive(trained, ends, tmp_path, "--beam 3"))
        assert list(sorted(walk)) == list(range(6))
        assert (walk[0], walk[5]) == (expected[0], expected[1])
        back = f"--interpolate-from '{ends[1]}' --interpolate-to '{ends[0]}' --num-draws 6"
        backwards = texts(generate(trained, "--gen-subset interpolate --beam 3 --batch-size 4", back))
        assert [walk[n] for n in range(6)] == [backwards[5 - n] for n in range(6)]

    def test_walk_between_two_draws(self, trained):
        walk = texts(generate(trained, "--gen-subset interpolate --num-draws 4 --beam 2"))
        draws = texts(generate(trained, "--gen-subset prior --num-draws 2 --beam 2"))
        assert (walk[0], walk[3]) == (draws[0], draws[1])

    def test_walk_between_equal_ends_stands_still(self, trained):
        # Neither z nor the random numbers change, if points share them.
        ends = "--interpolate-from 'a b c' --interpolate-to 'a b c' --num-draws 4"
        walk = texts(generate(trained, "--gen-subset interpolate --beam 2", ends))
        assert walk[0] == walk[1] == walk[2] == walk[3]

    @pytest.mark.parametrize("options", ["--sampling --beam 3 --nbest 3", "--beam 3"])
    def test_continuations_begin_with_the_prefix(self, trained, options):
        output = texts(generate(trained, "--gen-subset test --prefix-size 3", options))
        assert output.keys() == set(range(30))
        for number, group in output.items():
            for text in group:
                assert text.split()[:3] == trained.data.test[number].split()[:3]

    @pytest.mark.parametrize("options", ["--sampling --beam 2 --nbest 2", "--beam 2"])
    def test_what_follows_a_prefix_stays_unknown(self, toy, trained, tmp_path, options):
        data = commands.preprocess(
            tmp_path / "bin", toy.folder / "dict.txt", train=["a b"], valid=["a b"], test=["a b c d e", "a b j h i j f"]
        )
        for latent in ("mean", "sample"):
            flags = f"--gen-subset test --prefix-size 2 --latent {latent}"
            short = commands.preprocess(
                tmp_path / latent, toy.folder / "dict.txt", train=["a b"], valid=["a b"], test=["a b", "a b"]
            )
            output = texts(commands.generate(data, trained.checkpoint, flags, options))
            assert texts(commands.generate(short, trained.checkpoint, flags, options)) == output
            if latent == "mean" and "sampling" not in options:
                assert output[0] == output[1]

    def test_typed_prefixes_are_continued_as_those_of_data(self, toy, trained, tmp_path):
        prefixes = ["a b c", "f", "h i"]
        typed = texts(interactive(trained, prefixes, tmp_path, "--prompt continue --beam 3"))
        for number, prefix in enumerate(prefixes):
            assert typed[number][0].split()[: len(prefix.split())] == prefix.split()
        together = "--prompt continue --beam 3 --buffer-size 3 --batch-size 3"
        assert texts(interactive(trained, prefixes, tmp_path, together)) == typed
        data = commands.preprocess(
            tmp_path / "bin", toy.folder / "dict.txt", train=["a"], valid=["a"], test=["a b c d", "a b c i j"]
        )
        output = texts(commands.generate(data, trained.checkpoint, "--gen-subset test --prefix-size 3 --beam 3"))
        assert output[0] == output[1] == typed[0]

    @pytest.mark.parametrize("latent", ["sample", "prior"])
    def test_typed_prefixes_are_continued_from_any_z(self, trained, tmp_path, latent):
        flags = f"--prompt continue --beam 2 --latent {latent}"
        output = texts(interactive(trained, ["a b c", "f"], tmp_path, flags))
        assert output[0][0].startswith("a b c") and output[1][0].startswith("f")

    def test_typed_words_can_be_asked_for(self, trained, tmp_path):
        # fairseq's lexically constrained search: a sentence, then the words that its output must contain.
        lines = ["a b c d\tj h", "d e f\tc"]
        plain = texts(interactive(trained, [line.split("\t")[0] for line in lines], tmp_path, "--beam 5"))
        asked = texts(interactive(trained, lines, tmp_path, "--beam 5 --constraints"))
        assert "j h" not in plain[0][0] and "c" not in plain[1][0].split()
        assert "j h" in asked[0][0] and "c" in asked[1][0].split()

    @pytest.mark.parametrize("prompt", ["reconstruct", "continue"])
    @pytest.mark.parametrize("options", ["--beam 2", "--sampling --beam 2 --nbest 2 --latent sample"])
    def test_empty_lines_are_lines_too(self, trained, tmp_path, prompt, options):
        lines = ["", "a b c", ""]
        for limit in ("", "--buffer-size 3 --batch-size 3"):
            output = interactive(trained, lines, tmp_path, f"--prompt {prompt}", options, limit)
            assert texts(output).keys() == {0, 1, 2}

    def test_longest_length_of_the_model_bounds_a_prefix(self, trained, tmp_path):
        prompt = " ".join("abcdefghij" * 3)
        output = texts(interactive(trained, [prompt], tmp_path, "--prompt continue --sampling --beam 1 --max-len-b 5"))
        assert output[0][0].split()[:30] == prompt.split()


class TestBatches:
    @pytest.mark.parametrize("draws", [1, 3, 9])
    def test_every_draw_comes_out(self, trained, draws):
        for subset in ("prior", "interpolate") if draws > 1 else ("prior",):
            output = generate(trained, f"--gen-subset {subset} --num-draws {draws} --sampling --beam 1")
            assert sorted(texts(output)) == list(range(draws))
            assert f"Translated {draws} sentences" in output

    @pytest.mark.parametrize("limit", ["--batch-size 8", "--max-tokens 30", "--required-batch-size-multiple 1"])
    def test_every_sentence_comes_out(self, toy, trained, tmp_path, limit):
        data = commands.preprocess(
            tmp_path / "bin", toy.folder / "dict.txt", train=["a b"], valid=["a b"], test=trained.data.test[:9]
        )
        output = commands.generate(data, trained.checkpoint, "--gen-subset test --beam 2", limit)
        assert lines_of_kind(output, "S") == dict(enumerate(trained.data.test[:9]))
        assert sorted(texts(output)) == list(range(9))

    def test_few_tokens_a_batch_do_for_draws_too(self, trained):
        assert texts(generate(trained, PRIOR, 5, "--max-tokens 50")) == drawn(trained, 5)

    def test_validation_covers_every_sentence(self, trained):
        found = [validate(trained, "--batch-size", size) for size in (64, 16, 7)]
        for key in ("valid_loss", "valid_rec", "valid_kl", "valid_nats_per_token", "valid_bigram_jsd", "valid_rec_acc"):
            values = [float(line[key]) for line in found]
            assert values == pytest.approx(values[:1] * 3, rel=1e-3), key
        total = float(found[0]["valid_loss"]) * len(trained.data.valid)
        tokens = sum(len(text.split()) + 1 for text in trained.data.valid)
        assert float(found[0]["valid_nats_per_token"]) == pytest.approx(total / tokens, rel=1e-3)

    def test_results_can_be_read_from_their_file(self, trained, tmp_path):
        generate(trained, PRIOR, 9, "--results-path", tmp_path)
        lines = generate_output.read_generate_output(tmp_path / "generate-prior.txt")
        assert [line.text for line in lines] == [t for _, (t,) in drawn(trained, 9).items()]


class TestFixedLength:
    @pytest.mark.parametrize(
        "flags",
        [
            "--gen-subset prior --num-draws 9 --sampling --beam 1",
            "--gen-subset prior --num-draws 9 --sampling --beam 3 --nbest 3 --temperature 4",
            "--gen-subset prior --num-draws 9 --beam 4 --nbest 4",
            "--gen-subset prior --num-draws 9 --sampling --beam 2 --nbest 2 --max-len-b 3 --min-len 9",
            "--gen-subset prior --num-draws 9 --sampling --beam 2 --nbest 2 --no-repeat-ngram-size 4",
            "--gen-subset test --beam 3",
            "--gen-subset test --prefix-size 2 --beam 3",
            "--gen-subset test --prefix-size 6 --beam 3",
            "--gen-subset test --prefix-size 2 --sampling --beam 2 --nbest 2",
            "--gen-subset interpolate --num-draws 5 --beam 2",
        ],
    )
    def test_every_sentence_has_it(self, trained_fixed, flags):
        output = hypotheses(generate(trained_fixed, flags))
        size = 20 if "test" in flags else int(re.search(r"--num-draws (\d+)", flags)[1])
        assert sorted(output) == list(range(size))
        for number, group in output.items():
            for hypothesis in group:
                assert len(hypothesis.text.split()) == 6
                assert len(hypothesis.token_scores) == 7 and hypothesis.token_scores[-1] == 0
                if "--prefix-size 2" in flags:
                    assert hypothesis.text.split()[:2] == trained_fixed.data.test[number].split()[:2]
        assert "</s>" not in str(output)

    def test_scores_are_log_probabilities(self, trained_fixed):
        model, task = load_model(trained_fixed)
        for options in ("--sampling --beam 1", "--beam 3"):
            output = hypotheses(generate(trained_fixed, "--gen-subset test", options))
            for number, (hypothesis,) in output.items():
                z = posterior_mean(model, tokens_of(task, trained_fixed.data.test[number], eos=False))
                bits = slow_bits(model, tokens_of(task, hypothesis.text, eos=False), z)
                assert hypothesis.token_scores == pytest.approx([*bits, 0.0], abs=2e-3)

    def test_typed_sentences_are_reconstructed_as_those_of_data(self, trained_fixed, tmp_path):
        expected = texts(generate(trained_fixed, "--gen-subset test --beam 3"))
        typed = texts(interactive(trained_fixed, trained_fixed.data.test[:4], tmp_path, "--beam 3"))
        assert typed == {n: expected[n] for n in range(4)}

    def test_walk_ends_at_the_reconstructions(self, trained_fixed, tmp_path):
        ends = trained_fixed.data.test[:2]
        flags = f"--interpolate-from '{ends[0]}' --interpolate-to '{ends[1]}' --num-draws 4"
        walk = hypotheses(generate(trained_fixed, "--gen-subset interpolate --beam 3", flags))
        expected = hypotheses(interactive(trained_fixed, ends, tmp_path, "--beam 3"))
        assert (walk[0][0].text, walk[3][0].text) == (expected[0][0].text, expected[1][0].text)
        assert walk[0][0].token_scores == pytest.approx(expected[0][0].token_scores, abs=1e-3)

    def test_typed_prefixes_are_continued_to_the_length(self, trained_fixed, tmp_path):
        output = texts(interactive(trained_fixed, ["a b", "c d e f", ""], tmp_path, "--prompt continue --beam 2"))
        assert [len(group[0].split()) for _, group in sorted(output.items())] == [6, 6, 6]
        assert output[0][0].startswith("a b ") and output[1][0].startswith("c d e f ")

    def test_validation_has_no_eos_either(self, trained_fixed):
        line = validate(trained_fixed, "--batch-size 16")
        assert float(line["valid_nats_per_token"]) == pytest.approx(float(line["valid_loss"]) / 6, rel=1e-3)


def test_flags_are_split_as_a_shell_does_it():
    assert split_flags("--a 'b c' d", 3, np.int64(4)) == ["--a", "b c", "d", "3", "4"]
