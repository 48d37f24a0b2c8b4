from __future__ import annotations

import torch

from baselines.parts.projection import principal


def vectors(groups=2, rows=200, size=12):
    generator = torch.Generator().manual_seed(0)
    scales = 0.5 ** torch.arange(size)
    mixing = torch.randn(groups, size, size, generator=generator).double()
    numbers = torch.randn(groups, rows, size, generator=generator).double() * scales
    return 3.0 + numbers @ torch.linalg.qr(mixing)[0]


def test_the_space_is_that_of_the_largest_eigenvectors():
    x = vectors()
    counted = torch.arange(200).expand(2, -1) < 150
    start = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(1)).double()
    projection = principal(x, counted, start, 40)
    for group in range(2):
        part = x[group, :150]
        _, eigenvectors = torch.linalg.eigh(part.T.cov(correction=0))
        top, basis = eigenvectors[:, -3:], projection.basis[group]
        torch.testing.assert_close(basis @ basis.T, top @ top.T, rtol=0, atol=1e-8)
        torch.testing.assert_close(projection.mean[group], part.mean(0))


def test_coordinates_are_centred_and_keep_the_variance_of_the_space():
    x = vectors()
    everything = torch.ones(2, 200, dtype=torch.bool)
    start = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(1)).double()
    projection = principal(x, everything, start, 40)
    y = projection(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3).double(), rtol=0, atol=1e-12)
    largest = torch.linalg.eigvalsh(x[0].T.cov(correction=0))[-3:].sum()
    torch.testing.assert_close(y[0].square().sum(-1).mean(), largest)


def test_all_directions_are_left_as_they_are():
    x = vectors()
    everything = torch.ones(2, 200, dtype=torch.bool)
    projection = principal(x, everything, torch.eye(12).double().repeat(2, 1, 1), 2)
    torch.testing.assert_close(projection(x), x - x.mean(1, keepdim=True))
