from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.engine.random import MemberRandom
from baselines.parts.cross_covariance import cross_penalty, gradients, traces
from baselines.parts.mixture import maximisation
from baselines.parts.networks import MLP

EXACTLY = {"rtol": 0.0, "atol": 1e-12}


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pairs(rows=9, size=4, members=2, ensemble=2):
    """g' and g that depend on each other, as (E, P, B, m)."""
    following = normal(ensemble, members, rows, size) + 2.0
    return following, 0.5 * following + normal(ensemble, members, rows, size, seed=1)


def every(members=2, rows=9):
    return torch.ones(members, rows, dtype=torch.bool)


def expected_penalty(following, current, beta):
    """R of (B, m) rows in numpy."""
    centred = [each - each.mean(0) for each in (following.numpy(), current.numpy())]
    covariance = centred[0].T @ centred[1] / len(current)
    return (covariance**2).sum() + beta * np.trace(covariance) ** 2


def test_the_penalty_of_two_rows_by_hand():
    """g' = (1, 0), (-1, 0) and g = (3, 1), (1, 1): Ĉ = (1, 0; 0, 0)."""
    following = torch.tensor([[[[1.0, 0.0], [-1.0, 0.0]]]])
    current = torch.tensor([[[[3.0, 1.0], [1.0, 1.0]]]])
    penalty = cross_penalty(following, current, every(1, 2), torch.tensor([0.5]))
    assert penalty.tolist() == [[1.5]]


@pytest.mark.parametrize("size", [4, 40])
def test_the_penalty_is_that_of_the_covariance_matrix(size):
    """With 40 features of 9 rows it comes from Gram matrices."""
    following, current = pairs(size=size)
    beta = torch.tensor([0.0, 0.7]).double()
    found = cross_penalty(following, current, every(), beta)
    for e in range(2):
        for p in range(2):
            expected = expected_penalty(following[e, p], current[e, p], beta[p].item())
            assert found[e, p].item() == pytest.approx(expected, rel=1e-12)


def test_gram_identities():
    following, current = (each[0, 0] - each[0, 0].mean(0) for each in pairs(size=30))
    covariance = following.T @ current / 9
    gram = (following @ following.T) * (current @ current.T)
    torch.testing.assert_close(gram.sum() / 81, covariance.square().sum(), **EXACTLY)
    torch.testing.assert_close((following * current).sum(-1).mean(), covariance.trace(), **EXACTLY)


@pytest.mark.parametrize("size", [4, 40])
def test_rows_without_a_next_action_do_not_count(size):
    following, current = pairs(size=size)
    has_next = torch.arange(9).expand(2, -1) < torch.tensor([[9], [6]])
    found = cross_penalty(following, current, has_next, torch.ones(2).double())
    expected = expected_penalty(following[0, 1, :6], current[0, 1, :6], 1.0)
    assert found[0, 1].item() == pytest.approx(expected, rel=1e-12)
    following[:, 1, 6:] = 1e6
    again = cross_penalty(following, current, has_next, torch.ones(2).double())
    torch.testing.assert_close(again, found)


def test_a_batch_without_any_pair_has_no_penalty():
    following, current = pairs()
    none = torch.zeros(2, 9, dtype=torch.bool)
    assert (cross_penalty(following, current, none, torch.ones(2).double()) == 0.0).all()


@pytest.mark.parametrize("size", [4, 40])
def test_the_penalty_does_not_know_the_sign_of_the_covariance(size):
    following, current = pairs(size=size)
    penalties = [
        cross_penalty(sign * following, current, every(), torch.ones(2).double())
        for sign in (1.0, -1.0)
    ]
    torch.testing.assert_close(*penalties)


@pytest.mark.parametrize("kind", ["exact", "feature"])
@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("rows", [6, 30])
def test_the_gradient_by_the_critics_parameters_against_finite_differences(kind, online, rows):
    """Of 6 rows features use Gram matrices, of 30 the covariance."""
    network = MLP((5, 14, 13, 1))
    theta = network.init(MemberRandom([0], "critic"), ensemble=1).detach().double()
    target = theta + 0.1 * normal(*theta.shape, seed=2)
    x, following = normal(1, rows, 5, seed=3), normal(1, rows, 5, seed=4)
    has_next = torch.arange(rows).unsqueeze(0) % 5 != 0

    def penalty(parameters):
        return cross_penalty(
            gradients(network, parameters if online else target, following, kind),
            gradients(network, parameters, x, kind),
            has_next,
            torch.tensor([0.3]).double(),
        )

    assert torch.autograd.gradcheck(penalty, (theta.requires_grad_(),), eps=1e-7)
    (gradient,) = torch.autograd.grad(penalty(theta).sum(), theta)
    assert gradient.abs().max() > 1e-6


def test_features_are_what_the_last_layer_is_applied_to():
    network = MLP((5, 7, 6, 1))
    theta = network.init(MemberRandom([0], "critic"), ensemble=2).detach().double()
    x = normal(1, 4, 5)
    features = gradients(network, theta, x, "feature")
    last = network.unpack(theta)[-1]
    values = features.flatten(0, 1) @ last.weight + last.bias
    torch.testing.assert_close(values.view(2, 1, 4, 1), network(theta, x))
    assert (features >= 0.0).all()


def clusters(following, current, responsibilities):
    """p_z, μ'_z, μ_z and the blocks Σ'_z, C_z and Σ_z of Ω_z that the M-step gives (n, m) rows."""
    size, points = current.shape[-1], torch.cat([following, current], -1)[None]
    no_ridge = torch.zeros(1, dtype=torch.float64)
    fitted = maximisation(points, responsibilities[None], no_ridge)
    means, covariances = fitted.means[0].split(size, -1), fitted.covariances[0]
    blocks = (
        covariances[:, :size, :size],
        covariances[:, :size, size:],
        covariances[:, size:, size:],
    )
    return fitted.log_weights[0].exp(), means, blocks


@pytest.mark.parametrize("soft", [False, True])
def test_theorem_2(soft):
    """C = Σ p_z C_z + Σ p_z (μ'_z - μ') (μ_z - μ)ᵀ of the mixture's own parameters."""
    following, current = (each[0, 0] for each in pairs(rows=60))
    responsibilities = (3.0 * normal(60, 3, seed=5)).softmax(-1)
    if not soft:
        responsibilities = torch.eye(3).double()[responsibilities.argmax(-1)]
    shares, means, (_, within_each, _) = clusters(following, current, responsibilities)
    overall = [each.mean(0) for each in (following, current)]
    total = (following - overall[0]).T @ (current - overall[1]) / 60
    offsets = [each - centre for each, centre in zip(means, overall, strict=True)]
    within = (shares[:, None, None] * within_each).sum(0)
    between = (shares[:, None] * offsets[0]).T @ offsets[1]
    torch.testing.assert_close(within + between, total, **EXACTLY)
    assert between.abs().max() > 0.01

    found = traces(following[None], current[None], responsibilities[None])
    expected = {
        "uniform": total,
        "within": within,
        "between": between,
        "following": following.T.cov(correction=0),
        "current": current.T.cov(correction=0),
    }
    for name, matrix in expected.items():
        value = getattr(found, name)
        torch.testing.assert_close(value, matrix.trace()[None] / 4, **EXACTLY, msg=name)


def test_traces_leave_out_rows_that_belong_to_no_cluster():
    following, current = (each[0] for each in pairs(rows=20))
    responsibilities = normal(2, 20, 3, seed=5).softmax(-1)
    responsibilities[:, 15:] = 0.0
    ours = traces(following, current, responsibilities)
    theirs = traces(following[:, :15], current[:, :15], responsibilities[:, :15])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **EXACTLY)


def test_a_clusters_covariance_is_bounded_by_its_variances():
    """Equation 10 of the mixture's own blocks: ‖C_z‖₂ ≤ sqrt(tr Σ'_z tr Σ_z)."""
    for seed in range(20):
        following = normal(12, 5, seed=seed) * torch.rand(5, dtype=torch.float64)
        current = following @ normal(5, 5, seed=seed + 100) + normal(12, 5, seed=seed + 200)
        responsibilities = (3.0 * normal(12, 3, seed=seed + 300)).softmax(-1)
        _, _, blocks = clusters(following, current, responsibilities)
        spreads = [each.diagonal(dim1=-2, dim2=-1).sum(-1) for each in blocks[::2]]
        norms = torch.linalg.matrix_norm(blocks[1], ord=2)
        assert (norms <= (spreads[0] * spreads[1]).sqrt() * (1.0 + 1e-12)).all()
