"""fairseq's commands as users run them, from text to samples: each once in a process of its own, then in this one."""

import re

import commands
import pytest
import torch
from commands import (
    assert_same_training,
    generation_flags,
    hypotheses,
    json_lines,
    load_checkpoint,
    run,
    texts,
    training_flags,
    write_lines,
)

from fairseq_seqvae.models import SeqVAEModel

pytestmark = pytest.mark.slow


class Pipeline:
    """Data and a training of 14 updates, through all turns and into the second epoch."""

    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "bin"
        self.lines = {
            "train": commands.toy_sentences(300, seed=1),
            "valid": commands.toy_sentences(40, seed=2),
            "test": commands.toy_sentences(30, seed=3),
        }
        prefs = []
        for split, lines in self.lines.items():
            prefs += [f"--{split}pref", write_lines(folder / f"{split}.txt", lines)]
        run("preprocess", "--only-source --destdir", self.data, "--workers 2", *prefs, as_user=True)
        whole = training_flags(self.data, folder / "whole", "--max-update 14")
        self.log = run("train", whole, as_user=True).stdout
        self.checkpoint = folder / "whole" / "checkpoint_last.pt"

    def generate(self, *flags) -> str:
        return commands.generate(self.data, self.checkpoint, *flags)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return Pipeline(tmp_path_factory.mktemp("pipeline"))


class TestTraining:
    def test_each_turn_logs_what_it_does(self, pipeline):
        logged = json_lines(pipeline.log, "train_inner")
        assert [int(line["num_updates"]) for line in logged] == list(range(1, 15))
        for number, line in enumerate(logged):
            turn = "GGGDDGGDGGDGGD"[number]
            assert ("loss" in line) == (turn == "G")
            assert (line.get("d_loss") is not None) == (turn == "D")
            assert (line.get("pg_loss") is not None) == (turn == "G" and number > 4)

    def test_resumed_training_equals_an_uninterrupted_one(self, pipeline):
        folder = pipeline.folder / "resumed"
        run("train", training_flags(pipeline.data, folder, "--max-update 7"))
        assert load_checkpoint(folder / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 7
        run("train", training_flags(pipeline.data, folder, "--max-update 14"), as_user=True)
        assert_same_training(folder / "checkpoint_last.pt", pipeline.checkpoint)

    # 300 sentences are 11 batches: 13 is within the second epoch.
    @pytest.mark.parametrize("stop", [2, 4, 11, 13], ids=["G-pretrains", "D-pretrains", "epoch-ends", "second-epoch"])
    def test_it_can_stop_anywhere(self, pipeline, tmp_path, stop):
        commands.train(pipeline.data, tmp_path, "--max-update", stop)
        commands.train(pipeline.data, tmp_path, "--max-update 14")
        assert_same_training(tmp_path / "checkpoint_last.pt", pipeline.checkpoint)

    def test_hydra_trains_the_same(self, pipeline):
        folder = pipeline.folder / "hydra"
        run("hydra-train", commands.hydra_flags(pipeline.data, folder), as_user=True)
        assert_same_training(folder / "checkpoint_last.pt", pipeline.checkpoint)

    def test_an_optimizer_for_each_player(self, pipeline, tmp_path):
        commands.train(pipeline.data, tmp_path / "one", "--max-update 14 --disc-lr 1e-3")
        flags = commands.hydra_flags(pipeline.data, tmp_path / "two")
        group = "{{lr_float: {}, optimizer: {{_name: adam}}, lr_scheduler: {{_name: fixed}}}}"
        groups = f"groups: {{generator: {group.format(5e-3)}, discriminator: {group.format(1e-3)}}}"
        config = tmp_path / "two" / "config" / "toy.yaml"
        text = config.read_text().replace("optimizer: {_name: adam}", f"optimizer: {{_name: composite, {groups}}}")
        config.write_text(text.replace("lr_scheduler: {_name: fixed}\n", "lr_scheduler: {_name: pass_through}\n"))
        for stop in (7, 14):
            run("hydra-train", flags, f"optimization.max_update={stop}")
        one, two = (load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in ("one", "two"))
        torch.testing.assert_close(two, one, rtol=0, atol=0)

    def test_shards_are_resumed_where_they_were(self, pipeline, tmp_path):
        shards = [pipeline.lines["train"][:100], pipeline.lines["train"][100:200]]
        for number, lines in enumerate(shards):
            other = {"valid": pipeline.lines["valid"]} if number == 0 else {}
            commands.preprocess(tmp_path / str(number), pipeline.data / "dict.txt", train=lines, **other)
        data = f"{tmp_path / '0'}:{tmp_path / '1'}"  # 5 batches each
        commands.train(data, tmp_path / "whole", "--max-update 12")
        for stop in (8, 12):
            commands.train(data, tmp_path / "resumed", "--max-update", stop)
        assert_same_training(tmp_path / "resumed" / "checkpoint_last.pt", tmp_path / "whole" / "checkpoint_last.pt")

    def test_warm_start_from_a_plain_vae(self, pipeline, tmp_path):
        commands.train(pipeline.data, tmp_path / "elbo", "--max-update 20", criterion=commands.ELBO)
        vae = tmp_path / "elbo" / "checkpoint_last.pt"
        flags = ("--finetune-from-model", vae, "--gen-pretrain-updates 0 --max-update 3")
        log = commands.train(pipeline.data, tmp_path / "pg", *flags)
        assert "the checkpoint holds no discriminator: it starts from scratch" in log
        before = load_checkpoint(vae)["model"]
        after = load_checkpoint(tmp_path / "pg" / "checkpoint_last.pt")["model"]
        # Two updates of the discriminator, one of the generator, whose rollout policy follows.
        for name in ("output.bias", "layers.0.weight_hh_l0"):
            old, new = before[f"decoder.{name}"], after[f"decoder.{name}"]
            assert 0 < (new - old).abs().max() < 0.01
            torch.testing.assert_close(after[f"rollout_decoder.{name}"], 0.8 * old + 0.2 * new)

    def test_validate_finds_the_loss_of_training(self, pipeline):
        output = run(
            "validate",
            pipeline.data,
            "--task seqvae --cpu --batch-size 32 --log-format json --path",
            pipeline.checkpoint,
            as_user=True,
        ).stdout
        (found,) = json_lines(output, "valid")
        expected = json_lines(pipeline.log, "valid")[-1]
        for key in ("loss", "rec", "kl", "nats_per_token", "ppl", "bigram_jsd"):
            name = key if key in found else f"valid_{key}"
            assert float(found[name]) == pytest.approx(float(expected[f"valid_{key}"]), rel=1e-4), key


class TestGeneration:
    def test_reconstruction(self, pipeline):
        output = pipeline.generate("--gen-subset test --beam 3 --batch-size 7")
        assert commands.lines_of_kind(output, "T") == dict(enumerate(pipeline.lines["test"]))
        assert commands.lines_of_kind(output, "S") == dict(enumerate(pipeline.lines["test"]))
        assert texts(output).keys() == set(range(30))
        assert "Translated 30 sentences" in output

    def test_draws_from_the_prior(self, pipeline):
        flags = "--gen-subset prior --num-draws 9 --sampling --beam 1"
        output = run("generate", generation_flags(pipeline.data, pipeline.checkpoint), flags, as_user=True).stdout
        assert texts(output).keys() == set(range(9))
        assert all(len(group) == 1 for group in texts(output).values())
        # Another process, the same seed.
        assert texts(pipeline.generate(flags)) == texts(output)

    def test_interpolation(self, pipeline):
        flags = "--gen-subset interpolate --num-draws 5 --beam 2 --interpolate-from 'a b c' --interpolate-to 'h i j a'"
        assert texts(pipeline.generate(flags)).keys() == set(range(5))

    def test_continuation(self, pipeline):
        output = pipeline.generate("--gen-subset test --prefix-size 2 --sampling --beam 2 --nbest 2")
        for number, group in texts(output).items():
            assert len(group) == 2
            for text in group:
                assert text.split()[:2] == pipeline.lines["test"][number].split()[:2]

    def test_interactive_reconstruction(self, pipeline, tmp_path):
        lines = pipeline.lines["test"][:4]
        flags = ("--beam 3 --buffer-size 4 --batch-size 4 --input", write_lines(tmp_path / "prompts", lines))
        output = run("interactive", generation_flags(pipeline.data, pipeline.checkpoint), *flags, as_user=True).stdout
        assert commands.lines_of_kind(output, "S") == dict(enumerate(lines))
        generated = texts(pipeline.generate("--gen-subset test --beam 3"))
        assert texts(output) == {n: generated[n] for n in range(4)}

    def test_interactive_continuation(self, pipeline, tmp_path):
        flags = "--prompt continue --sampling --beam 3 --nbest 3"
        output = commands.interactive(pipeline.data, pipeline.checkpoint, ["a b", "d e f"], tmp_path, flags)
        assert [len(group) for group in texts(output).values()] == [3, 3]
        assert all(text.startswith("a b") for text in texts(output)[0])
        assert all(text.startswith("d e f") for text in texts(output)[1])


def toy_words(lines):
    """Lines of letters as lines of words: a b c d e -> abc de."""
    return [" ".join(re.findall(".{1,3}", line.replace(" ", ""))) for line in lines]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("words")
    lines = {
        split: toy_words(commands.toy_sentences(count, seed))
        for split, count, seed in (("train", 300, 1), ("valid", 20, 2), ("test", 9, 3))
    }
    sentencepiece.SentencePieceTrainer.train(
        input=str(write_lines(folder / "text", lines["train"])),
        model_prefix=str(folder / "pieces"),
        vocab_size=60,
        model_type="bpe",
        minloglevel=2,
    )
    model = folder / "pieces.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    pieces = {split: [" ".join(processor.encode(t, out_type=str)) for t in ts] for split, ts in lines.items()}
    assert any("\u2581" in line for line in pieces["train"])
    data = commands.preprocess(folder / "bin", **pieces)
    commands.train(data, folder / "ck", "--max-update 8 --num-rollouts 1")
    flags = ("--bpe sentencepiece --sentencepiece-model", model)
    return lines, processor, data, folder / "ck" / "checkpoint_last.pt", flags


class TestSentencepiece:
    def assert_detokenised(self, output):
        found = hypotheses(output)
        assert found
        for group in found.values():
            for hypothesis in group:
                words = hypothesis.text.replace(" ", "").replace("\u2581", " ").strip()
                assert hypothesis.detokenised == words

    def test_generate_prints_words(self, words):
        lines, _, data, checkpoint, flags = words
        output = commands.generate(data, checkpoint, *flags, "--gen-subset test --beam 2")
        assert commands.lines_of_kind(output, "T") == dict(enumerate(lines["test"]))
        self.assert_detokenised(output)
        assert len(texts(output)) == 9
        draws = commands.generate(data, checkpoint, *flags, "--gen-subset prior --num-draws 5 --sampling --beam 1")
        self.assert_detokenised(draws)
        assert len(texts(draws)) == 5

    def test_interactive_takes_and_prints_words(self, words, tmp_path):
        lines, processor, data, checkpoint, flags = words
        typed = lines["test"][:3]
        output = commands.interactive(data, checkpoint, typed, tmp_path, *flags, "--beam 2")
        pieces = {n: " ".join(processor.encode(text, out_type=str)) for n, text in enumerate(typed)}
        assert commands.lines_of_kind(output, "S") == pieces
        self.assert_detokenised(output)
        generated = commands.generate(data, checkpoint, *flags, "--gen-subset test --beam 2")
        assert {n: texts(generated)[n] for n in range(3)} == texts(output)

    def test_sentences_to_walk_between_are_words(self, words, tmp_path):
        lines, _, data, checkpoint, flags = words
        ends = lines["test"][0], lines["test"][1]
        between = f"--interpolate-from '{ends[0]}' --interpolate-to '{ends[1]}'"
        walk = commands.generate(data, checkpoint, *flags, "--gen-subset interpolate --num-draws 4 --beam 2", between)
        walked = texts(walk)
        reconstructed = texts(commands.interactive(data, checkpoint, list(ends), tmp_path, *flags, "--beam 2"))
        assert (walked[0], walked[3]) == (reconstructed[0], reconstructed[1])

    def test_python_takes_and_gives_words(self, words):
        lines, _, data, checkpoint, flags = words
        with commands.captured():
            hub = SeqVAEModel.from_pretrained(
                checkpoint.parent, checkpoint.name, data, bpe="sentencepiece", sentencepiece_model=str(flags[1])
            )
        output = hypotheses(commands.generate(data, checkpoint, *flags, "--gen-subset test --beam 2"))
        expected = [output[n][0].detokenised for n in range(9)]
        assert hub.reconstruct(lines["test"], beam=2) == expected
        assert all(text.startswith("abc") for text in hub.continue_text(["abc", "abc d"]))


def test_without_latent_vector_it_is_a_language_model_that_plays_too(toy, tmp_path):
    """--latent-dim 0: no encoder, no divergence, and every turn, resume, generation and evaluation work."""
    flags = (
        "--latent-dim 0 --embed-dim 8 --decoder-hidden-dim 8 --disc-embed-dim 4 --disc-widths 1,2 --disc-features 4",
        "--gen-pretrain-updates 2 --disc-pretrain-updates 2 --num-rollouts 2 --batch-size 16 --pg-latent prior",
    )
    commands.train(toy.folder, tmp_path, *flags, "--max-update 4")
    log = commands.train(toy.folder, tmp_path, *flags, "--max-update 8")
    valid = commands.json_lines(log, "valid")[-1]
    assert float(valid["valid_kl"]) == 0 and float(valid["valid_loss"]) == float(valid["valid_rec"])
    checkpoint = tmp_path / "checkpoint_last.pt"
    assert not any(name.startswith("encoder.lstm") for name in commands.load_checkpoint(checkpoint)["model"])
    samples = commands.texts(
        commands.generate(toy.folder, checkpoint, "--gen-subset prior --num-draws 30 --sampling --beam 1")
    )
    assert len({tuple(found) for found in samples.values()}) > 1
    with pytest.raises(ValueError, match="nothing to walk through: .* with --latent-dim 0"):
        commands.generate(toy.folder, checkpoint, "--gen-subset interpolate --num-draws 3 --beam 1")
