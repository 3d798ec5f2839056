"""Parameters at 8 bits per number."""

import pytest
import torch

from fairseq_seqvae.support import checkpoints, eight_bits


def test_a_row_of_numbers_worked_out_by_hand():
    row = torch.linspace(-1, 1, 255)  # 127 steps to each side: the numbers that 8 bits can say
    weight = torch.stack([row, 3 * row, *torch.zeros(3, 255)])
    packed = eight_bits.pack({"w": weight})
    assert packed["w"].dtype == torch.int8
    assert packed["w"][0].tolist() == packed["w"][1].tolist() == list(range(-127, 128))
    assert packed["w.row_scale"].tolist() == pytest.approx([1 / 127, 3 / 127, 0, 0, 0])
    assert torch.allclose(eight_bits.unpack(packed)["w"], weight, atol=1e-6)


def test_no_number_is_off_by_more_than_half_a_step():
    kernel = torch.randn(40, 30, 4, generator=torch.Generator().manual_seed(1))
    back = eight_bits.unpack(eight_bits.pack({"k": kernel}))["k"]
    assert back.shape == kernel.shape
    step = kernel.abs().amax((1, 2), keepdim=True) / 127
    assert ((back - kernel).abs() <= 0.5001 * step).all()


def test_small_tensors_vectors_and_whole_numbers_stay():
    kept = {"bias": torch.randn(5000), "small": torch.randn(10, 10), "count": torch.tensor([3])}
    packed = eight_bits.pack(kept)
    assert packed.keys() == kept.keys()
    assert [value.dtype for value in packed.values()] == [torch.float16, torch.float16, torch.int64]


def test_what_is_packed_twice_is_the_same():
    once = eight_bits.pack({"w": torch.randn(32, 64, generator=torch.Generator().manual_seed(2))})
    twice = eight_bits.pack(once)
    assert torch.equal(once["w"], twice["w"])
    assert torch.allclose(once["w.row_scale"], twice["w.row_scale"])


def test_a_checkpoint_is_unpacked_when_it_is_read(tmp_path):
    parameters = {"w": torch.randn(32, 64), "b": torch.zeros(3)}
    torch.save({"model": eight_bits.pack(parameters)}, tmp_path / "x.pt")
    found = checkpoints.load(tmp_path / "x.pt")["model"]
    assert found.keys() == parameters.keys()
    assert found["w"].dtype == torch.float32
