"""Files of users: `--module` and its other name `--disc-module`."""

import sys

import commands
import pytest
import torch

from fairseq_seqvae.core.discriminators.registry import DISCRIMINATORS
from fairseq_seqvae.support.extensions import import_module_files

BAG = """
import torch
from fairseq_seqvae.discriminators import register_discriminator
@register_discriminator({name!r})
class Bag(torch.nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.weights = torch.nn.Embedding(vocab_size, 1)
    @classmethod
    def from_config(cls, cfg, vocab_size, padding_idx):
        return cls(vocab_size)
    def forward(self, tokens, padding_mask):
        return self.weights(tokens).squeeze(2).masked_fill(padding_mask, 0).sum(1)
"""


@pytest.fixture
def write(tmp_path, request):
    """Writes a file that registers a discriminator, named after the file and the test; returns both."""

    def make(stem, code=BAG):
        name = f"{stem}-{request.node.name}"
        file = tmp_path / f"{stem}.py"
        file.write_text(code.format(name=name))
        return file, name

    return make


@pytest.mark.parametrize("paths", [None, ""])
def test_none_is_no_file(paths):
    before = set(sys.modules)
    import_module_files(paths, "--module")
    assert set(sys.modules) == before


def test_several_files(write):
    (first, one), (second, two) = write("first"), write("second")
    import_module_files(f"{first},{second}", "--module")
    assert {one, two} <= set(DISCRIMINATORS)


def test_a_comma_in_the_name_of_a_file(write):
    file, name = write("first,second")
    import_module_files(str(file), "--disc-module")
    assert name in DISCRIMINATORS


def test_a_file_is_imported_once(tmp_path):
    (tmp_path / "counting.py").write_text(f"open({str(tmp_path / 'log')!r}, 'a').write('x')")
    for _ in range(3):
        import_module_files(f"{tmp_path / 'counting.py'},{tmp_path / 'counting.py'}", "--module")
    assert (tmp_path / "log").read_text() == "x"


@pytest.mark.parametrize("flag", ["--module", "--disc-module"])
def test_errors_begin_with_the_flag(tmp_path, flag):
    (tmp_path / "broken.py").write_text("1/0")
    (tmp_path / "text.txt").write_text("hello")
    messages = {
        "none.py": "none.py': there is no such file",
        "broken.py": r"broken.py' cannot be imported \(ZeroDivisionError",
        "text.txt": "text.txt' is not a Python file",
        "": "' is not a Python file|there is no such file",
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=f"^{flag} '.*{message}"):
            import_module_files(str(tmp_path / name), flag)


def test_both_flags_train(toy, tmp_path, write):
    (first, name), (second, _), (third, _) = write("first"), write("second"), write("third")
    flags = ("--discriminator", name, f"--module {second},{third} --disc-module", first, "--max-update 6")
    commands.train(toy.folder, tmp_path / "new", *flags)
    flags = ("--discriminator", name, f"--module {first},{second}", "--max-update 6")
    commands.train(toy.folder, tmp_path / "other", *flags)
    models = [commands.load_checkpoint(tmp_path / run / "checkpoint_last.pt")["model"] for run in ("new", "other")]
    assert "discriminator.weights.weight" in models[0] and models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_checkpoints_of_before_have_only_the_other_name(toy, tmp_path, write):
    file, name = write("first")
    commands.train(toy.folder, tmp_path, "--discriminator", name, "--disc-module", file, "--max-update 6")
    path = tmp_path / "checkpoint_last.pt"
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint["cfg"]["model"]["disc_module"] == str(file)
    del checkpoint["cfg"]["model"]["module"]
    torch.save(checkpoint, path)
    output = commands.generate(toy.folder, path, "--gen-subset prior --num-draws 3 --sampling --beam 1")
    assert len(commands.texts(output)) == 3
    commands.train(toy.folder, tmp_path, "--discriminator", name, "--disc-module", file, "--max-update 8")
    assert commands.load_checkpoint(path)["optimizer_history"][-1]["num_updates"] == 8
