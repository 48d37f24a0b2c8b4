from __future__ import annotations

import math

import pytest
import torch

from baselines.parts.reweighting import bad_action_weights, weight_metrics


def test_metrics_of_four_transitions_by_hand():
    tau = torch.tensor([0.5])
    advantages = torch.tensor([[0.0, -0.5 * math.log(3), 20.0, -20.0]])
    weights = bad_action_weights(advantages, tau)
    metrics = weight_metrics(advantages, tau, weights)
    g = [1.0, 3.0, math.exp(-10), math.exp(5)]
    expected = {
        "advantage": -0.125 * math.log(3),
        "advantage_5": -20.0,
        "advantage_50": -0.5 * math.log(3),
        "advantage_95": 20.0,
        "weight": sum(g) / 4,
        "weight_ess": sum(g) ** 2 / sum(each**2 for each in g),
        "weight_lowest": 0.25,
        "weight_highest": 0.25,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert metrics[name].tolist() == pytest.approx([value], rel=1e-5), name


def test_percentiles_are_the_members_own():
    advantages = torch.arange(1.0, 101.0).flip(0) * torch.tensor([[1.0], [-1.0]])
    metrics = weight_metrics(advantages, torch.ones(2), torch.ones_like(advantages))
    found = {percent: metrics[f"advantage_{percent}"].tolist() for percent in (5, 50, 95)}
    assert found == {5: [5.0, -96.0], 50: [50.0, -51.0], 95: [95.0, -6.0]}


def test_equal_weights_count_every_transition():
    advantages = torch.full((2, 7), -0.3)
    tau = torch.tensor([0.1, 3.0])
    weights = bad_action_weights(advantages, tau)
    assert weight_metrics(advantages, tau, weights)["weight_ess"].tolist() == pytest.approx([7, 7])
