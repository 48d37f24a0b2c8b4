"""Stable-Baselines3's SAC with a leaner update: same networks, losses and defaults, less time.

On one core the stock update spends most of its time in 256 x 256 matrix products in float32 and in
bookkeeping. Here the hidden products may run in bfloat16 (parameters, first and last layers,
losses, targets and optimisers stay in float32), gradients are written out (``flat_mlp.py``), and
each optimiser sees one flat vector. With ``hidden_dtype="float32"`` an update equals the stock one
up to rounding.

Source: Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor, nn

from hetero_bench.recipes.flat_mlp import Activations, FlatMLP
from hetero_bench.recipes.replay import RecordedReplay

HiddenDtype = Literal["bfloat16", "float32"]
_TANH_EPSILON = 1e-6
"""Keeps the squashing correction finite, as in Stable-Baselines3."""


@dataclass(frozen=True)
class _Sample:
    """Actions of a squashed Gaussian with what their gradient needs; arrays (B, A)."""

    seen: Activations
    noise: Tensor
    raw_log_std: Tensor
    std: Tensor
    actions: Tensor
    slope: Tensor
    """Derivative of tanh, 1 - actions^2."""
    log_prob: Tensor
    """(B,)"""


class LeanSAC(SAC):
    """SAC whose noise and batches come from one generator, and whose update is lean.

    Args:
        *args: Those of ``stable_baselines3.SAC``; networks have two hidden ReLU layers, one
            environment is stepped, actions are bounded by -1 and 1, and the replay buffer is a
            :class:`~hetero_bench.recipes.replay.RecordedReplay`.
        rng: Source of all randomness but the initial weights.
        hidden_dtype: Arithmetic of the products between hidden layers in updates.
        **kwargs: Those of ``stable_baselines3.SAC``.
    """

    def __init__(
        self,
        *args: Any,
        rng: np.random.Generator,
        hidden_dtype: HiddenDtype = "float32",
        **kwargs: Any,
    ) -> None:
        self.rng = rng
        self._dtype = getattr(torch, hidden_dtype)
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        self._num_actions = int(np.prod(self.action_space.shape or ()))
        self._actor = FlatMLP([_linear_layers(self.actor)])
        self._critics, self._targets = (
            FlatMLP([_linear_layers(network) for network in critic.q_networks])
            for critic in (self.critic, self.critic_target)
        )
        assert self.log_ent_coef is not None
        assert self.ent_coef_optimizer is not None
        self.log_alpha, self.alpha_optimizer = self.log_ent_coef, self.ent_coef_optimizer
        self.entropy_goal = float(self.target_entropy)
        for module, flat in ((self.actor, self._actor), (self.critic, self._critics)):
            rate = module.optimizer.param_groups[0]["lr"]
            module.optimizer = torch.optim.Adam([flat.parameters], lr=rate, fused=True)

    def _sample_action(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns the next action (1, A) twice: as executed, and as stored, which is the same."""
        if self.num_timesteps < self.learning_starts:
            actions = self.rng.uniform(-1.0, 1.0, (1, self._num_actions)).astype(np.float32)
        else:
            observations = torch.from_numpy(np.asarray(self._last_obs, dtype=np.float32))
            with torch.no_grad():
                actions = self._sample(observations, torch.float32).actions.numpy()
        return actions, actions

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Takes gradient steps on batches from the replay buffer, in Stable-Baselines3's order."""
        with torch.no_grad():
            for _ in range(gradient_steps):
                self._update(batch_size)
        self._n_updates += gradient_steps

    def _update(self, batch_size: int) -> None:
        replay = self.replay_buffer
        assert isinstance(replay, RecordedReplay)
        batch = replay.rows(self.rng.integers(replay.size(), size=batch_size))
        alpha = self.log_alpha.exp()
        sample = self._sample(batch.observations, self._dtype)

        # Temperature: loss -log(alpha) mean(log_prob + target entropy).
        self.log_alpha.grad = -(sample.log_prob.mean() + self.entropy_goal).reshape(1)
        self.alpha_optimizer.step()

        # Critics: half the mean squared error to the clipped double target.
        following = self._sample(batch.next_observations, self._dtype)
        inputs = torch.cat([batch.next_observations, following.actions], 1)
        next_values = torch.minimum(*self._targets.forward(inputs, self._dtype).outputs)
        soft_values = next_values.squeeze(1) - alpha * following.log_prob
        targets = batch.rewards + self.gamma * batch.continues * soft_values
        seen = self._critics.forward(torch.cat([batch.observations, batch.actions], 1), self._dtype)
        errors = [(values - targets[:, None]) / batch_size for values in seen.outputs]
        self._critics.backward(seen, errors)
        self.critic.optimizer.step()

        # Actor: mean(alpha log_prob - min Q), with the critics just updated.
        seen = self._critics.forward(
            torch.cat([batch.observations, sample.actions], 1), self._dtype
        )
        first_is_smaller = seen.outputs[0] < seen.outputs[1]
        shares = [first_is_smaller / -batch_size, ~first_is_smaller / -batch_size]
        by_inputs = self._critics.backward(seen, shares, to_inputs=True)
        assert by_inputs is not None
        by_actions = by_inputs[:, -self._num_actions :]
        self._backward_actor(sample, by_actions, alpha / batch_size)
        self.actor.optimizer.step()

        self._targets.parameters.lerp_(self._critics.parameters, self.tau)

    def _sample(self, observations: Tensor, dtype: torch.dtype) -> _Sample:
        """Draws actions for (B, S) observations and computes their log densities."""
        seen = self._actor.forward(observations, dtype)
        mean, raw_log_std = seen.outputs[0].chunk(2, 1)
        noise = torch.from_numpy(self.rng.standard_normal(mean.shape, dtype=np.float32))
        log_std = raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        std = log_std.exp()
        actions = torch.tanh(mean + std * noise)
        slope = 1 - actions.square()
        log_prob = -0.5 * noise.square() - log_std - torch.log(slope + _TANH_EPSILON)
        log_prob = log_prob.sum(1) - 0.5 * math.log(2 * math.pi) * mean.shape[1]
        return _Sample(seen, noise, raw_log_std, std, actions, slope, log_prob)

    def _backward_actor(self, sample: _Sample, by_actions: Tensor, weight: Tensor) -> None:
        """Writes the actor's gradient.

        Args:
            sample: Of the forward pass.
            by_actions: (B, A) gradient of the critics' part of the loss by the actions.
            weight: Factor of the log densities in the loss.
        """
        by_squashing = 2 * weight * sample.actions / (sample.slope + _TANH_EPSILON)
        by_mean = (by_actions + by_squashing) * sample.slope
        inside = sample.raw_log_std == sample.raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        by_log_std = (by_mean * sample.std * sample.noise - weight) * inside
        self._actor.backward(sample.seen, [torch.cat([by_mean, by_log_std], 1)])


def _linear_layers(network: nn.Module) -> list[nn.Linear]:
    """Returns a network's linear layers in order, those that give outputs last."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)]
