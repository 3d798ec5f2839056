"""Convolutions from sequences to a vector and back."""

import torch

from fairseq_seqvae.core.networks.convolutions import ConvolutionalSummary, Unrolling


def test_what_stands_behind_a_sequence_does_not_matter():
    torch.manual_seed(0)
    network = ConvolutionalSummary(3, [4, 5], 8).eval()
    x, lengths = torch.randn(3, 6, 3), torch.tensor([6, 4, 1])
    features = network(x, lengths)
    assert features.shape == (3, network.output_dim) == (3, 10)
    for row, length in enumerate(lengths.tolist()):
        alone = x[row : row + 1, :length]
        torch.testing.assert_close(network(alone, torch.tensor([length])), features[row : row + 1])
        zeros = torch.cat([alone, torch.zeros(1, 8 - length, 3)], dim=1)  # no sign of its length is added
        torch.testing.assert_close(network(zeros, torch.tensor([8])), features[row : row + 1])


def test_a_vector_becomes_features_of_all_positions():
    torch.manual_seed(0)
    network = Unrolling(2, [5, 4], 8).eval()
    z = torch.randn(3, 2)
    features = network(z)
    assert features.shape == (3, 8, 4)
    torch.testing.assert_close(network(z[1:2]), features[1:2])
    assert (features[0] != features[1]).any()
