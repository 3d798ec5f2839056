"""The bidirectional LSTM over rows of different lengths."""

import numpy as np
import oracles
import pytest
import torch

from fairseq_seqvae.core.networks.lstm import BidirectionalLSTM

LENGTHS = [3, 7, 1, 5]


def make_lstm(layers=2, dropout=0.0, residual=False, input_dim=3, hidden_dim=4):
    torch.manual_seed(0)
    return BidirectionalLSTM(input_dim, hidden_dim, layers, dropout, residual).double().eval()


def make_inputs(lengths=LENGTHS, width=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), width or max(lengths), 3, generator=generator, dtype=torch.float64)
    return x, torch.tensor(lengths)


def weights(layer):
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [getattr(layer, name).detach().numpy() for name in names]


def slow_forward(lstm, x, residual):
    """One row without padding, (length, D) -> outputs (length, 2H)."""
    for number, (ahead, back) in enumerate(zip(lstm.forward_layers, lstm.backward_layers, strict=True)):
        forwards = oracles.lstm(x, *weights(ahead))
        backwards = oracles.lstm(x[::-1], *weights(back))[::-1]
        outputs = np.concatenate([forwards, backwards], axis=1)
        x = outputs + x if residual and number > 0 else outputs
    return x


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("lengths", [[1], [6], [1, 1], LENGTHS])
def test_equals_the_loop_over_rows_and_steps(layers, residual, lengths):
    lstm = make_lstm(layers, residual=residual)
    x, tensor_lengths = make_inputs(lengths)
    outputs, final = lstm(x, tensor_lengths)
    assert outputs.shape == (len(lengths), max(lengths), 8) and final.shape == (len(lengths), 8)
    for row, length in enumerate(lengths):
        expected = slow_forward(lstm, x[row, :length].numpy(), residual)
        np.testing.assert_allclose(outputs[row, :length].detach().numpy(), expected, atol=1e-12)
        # Last forward state, and backward state at the first position.
        np.testing.assert_allclose(final[row, :4].detach().numpy(), expected[-1, :4], atol=1e-12)
        np.testing.assert_allclose(final[row, 4:].detach().numpy(), expected[0, 4:], atol=1e-12)


@pytest.mark.parametrize("residual", [False, True])
def test_outputs_are_zero_at_padding(residual):
    x, lengths = make_inputs()
    outputs, _ = make_lstm(residual=residual)(x, lengths)
    for row, length in enumerate(LENGTHS):
        assert outputs[row, length:].abs().sum() == 0
        assert (outputs[row, :length] != 0).all()


@pytest.mark.parametrize("residual", [False, True])
def test_what_lies_under_the_padding_does_not_matter(residual):
    lstm = make_lstm(residual=residual)
    x, lengths = make_inputs()
    garbage = x.clone()
    for row, length in enumerate(LENGTHS):
        garbage[row, length:] = 1e3
    for clean, dirty in zip(lstm(x, lengths), lstm(garbage, lengths), strict=True):
        torch.testing.assert_close(dirty, clean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("residual", [False, True])
def test_more_padding_changes_nothing(residual):
    lstm = make_lstm(residual=residual)
    x, lengths = make_inputs()
    wide = torch.cat([x, torch.full((4, 5, 3), 9.0, dtype=torch.float64)], dim=1)
    outputs, final = lstm(x, lengths)
    wide_outputs, wide_final = lstm(wide, lengths)
    torch.testing.assert_close(wide_final, final, rtol=0, atol=1e-12)
    torch.testing.assert_close(wide_outputs[:, :7], outputs, rtol=0, atol=1e-12)
    assert wide_outputs[:, 7:].abs().sum() == 0


def test_rows_do_not_depend_on_each_other():
    lstm = make_lstm()
    x, lengths = make_inputs()
    outputs, final = lstm(x, lengths)
    for row, length in enumerate(LENGTHS):
        alone_outputs, alone_final = lstm(x[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(alone_final[0], final[row], rtol=0, atol=1e-12)
        torch.testing.assert_close(alone_outputs[0], outputs[row, :length], rtol=0, atol=1e-12)


@pytest.mark.parametrize("residual", [False, True])
def test_final_state_sees_both_ends(residual):
    lstm = make_lstm(residual=residual)
    x, lengths = make_inputs()
    for row, length in enumerate(LENGTHS):
        for place in (0, length - 1):
            moved = x.clone()
            moved[row, place] += 1.0
            change = (lstm(moved, lengths)[1] - lstm(x, lengths)[1]).abs().sum(dim=1)
            assert change[row] > 1e-6 and change.sum() == change[row]


def test_dropout_is_off_in_evaluation_and_on_in_training():
    lstm = make_lstm(dropout=0.5)
    x, lengths = make_inputs()
    torch.testing.assert_close(lstm(x, lengths)[1], lstm(x, lengths)[1], rtol=0, atol=0)
    torch.testing.assert_close(lstm(x, lengths)[1], make_lstm(dropout=0.0)(x, lengths)[1])
    lstm.train()
    torch.manual_seed(1)
    assert not torch.equal(lstm(x, lengths)[1], lstm(x, lengths)[1])


@pytest.mark.parametrize("residual", [False, True])
def test_gradient_reaches_every_parameter_and_no_padding(residual):
    lstm = make_lstm(layers=3, residual=residual)
    x, lengths = make_inputs()
    x.requires_grad_()
    outputs, final = lstm(x, lengths)
    (outputs.square().sum() + final.sum()).backward()
    for name, parameter in lstm.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    for row, length in enumerate(LENGTHS):
        assert x.grad[row, length:].abs().sum() == 0
        assert (x.grad[row, :length].abs().sum(dim=1) > 0).all()


def test_inputs_are_not_modified():
    x, lengths = make_inputs()
    before = x.clone(), lengths.clone()
    make_lstm(residual=True)(x, lengths)
    assert torch.equal(x, before[0]) and torch.equal(lengths, before[1])


def test_without_a_word_about_dropout_there_is_none():
    torch.manual_seed(0)
    network = BidirectionalLSTM(3, 4, layers=2)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 3])
    for trained, evaluated in zip(network.train()(x, lengths), network.eval()(x, lengths), strict=True):
        torch.testing.assert_close(trained, evaluated)
