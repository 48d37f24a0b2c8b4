"""Twin critics and a delayed deterministic policy: what methods on TD3 share.

Fujimoto, van Hoof and Meger, "Addressing Function Approximation Error in Actor-Critic Methods",
ICML 2018:

    Q:  min_θ  Σ_i E_D[ (Q_i(s,a) - y)² ],   y = r + γ [min_i Q̄_i(s', ã) - p(s', ã)]
                                                                                Algorithm 1
        ã = clip(π̄(s') + clip(ε, -c, c), -1, 1),   ε ~ N(0, σ²)                Eq. 14

The policy and all targets move with every ``policy_delay``-th update of the critics. What the
policy climbs is the method's affair, and so is p, which is nothing in TD3 itself. A plug-in may add
to the loss of Q (parts/penalties.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from baselines.engine.checks import check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.random import MemberRandom
from baselines.parts.critics import Critics, smoothed, squared_error, td_targets
from baselines.parts.initialisation import Initialiser, small_output, uniform_fan_in
from baselines.parts.networks import NormPlace
from baselines.parts.penalties import CriticPenalty, penalised
from baselines.parts.policies import Policy

POLICY_OUTPUT, CRITIC_OUTPUT = 1e-3, 3e-3
"""Bounds of the initial last layers with ``small_outputs``, as in the code of SPOT and ReBRAC."""

NextPenalty = Callable[[Batch, Tensor], Tensor]
"""From a batch and (P, B, act) actions ã in s' to the (P, B) p(s', ã), without gradient."""


def check_td3(config: Any) -> None:
    """Checks the fields of a config that :class:`TD3` reads.

    Raises:
        ValueError: If one is wrong; the message has field, value and what was expected.
    """
    check_sizes(config)
    check_range(config, "discount", 0.0, 1.0)
    check_range(config, "target_rate", 0.0, 1.0, open_low=True)
    check_range(config, "policy_noise", 0.0)
    check_range(config, "noise_clip", 0.0)
    check_range(config, "policy_delay", 1, whole=True)


class TD3:
    """A population of policies with their twin critics.

    Args:
        configs: (P,) configs with the fields ``hidden_sizes`` and ``policy_delay``, the same for
            all members, and ``discount``, ``target_rate``, ``policy_noise`` and ``noise_clip``.
        data: Gives sizes, frames and device.
        seeds: (P,) member seeds.
        critic_rate: (P,) Adam's step sizes for the critics.
        policy_rate: (P,) Adam's step sizes for the policy.
        dropout: Probability with which a hidden unit of policy and target policy is dropped.
        small_outputs: Start from nearly zero actions and values.
        hidden_bias: All biases of hidden layers at first, with ``small_outputs``; None for the
            usual ones.
        critic_norm: Where the critics' hidden layers have layer normalisation.
        critic_penalty: Is added to the loss of the critics.
        next_penalty: p, is taken off the values in s'.

    Attributes:
        critics: Q_i and Q̄_i.
        policy: π and π̄.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        data: MemberData,
        seeds: Sequence[int],
        *,
        critic_rate: Tensor,
        policy_rate: Tensor,
        dropout: float = 0.0,
        small_outputs: bool = False,
        hidden_bias: float | None = None,
        critic_norm: NormPlace = "none",
        critic_penalty: CriticPenalty | None = None,
        next_penalty: NextPenalty | None = None,
    ):
        def initialiser(output: float) -> Initialiser:
            return (
                small_output(output, hidden_bias=hidden_bias) if small_outputs else uniform_fan_in
            )

        hidden_sizes = shared(configs, "hidden_sizes")
        self.critics = Critics(
            data,
            seeds,
            hidden_sizes,
            critic_rate,
            norm=critic_norm,
            initialiser=initialiser(CRITIC_OUTPUT),
        )
        self.policy = Policy(
            data,
            seeds,
            hidden_sizes,
            policy_rate,
            dropout=dropout,
            initialiser=initialiser(POLICY_OUTPUT),
        )
        self._critic_penalty, self._next_penalty = critic_penalty, next_penalty
        self._noise = MemberRandom(seeds, "target noise", data.device)
        self._delay: int = shared(configs, "policy_delay")
        self._discount = per_member(configs, "discount", data.device)
        self._target_rate = per_member(configs, "target_rate", data.device)
        self._policy_noise = per_member(configs, "policy_noise", data.device)
        self._noise_clip = per_member(configs, "noise_clip", data.device)

    def moves_policy(self, updates: int) -> bool:
        """Returns whether the policy moves with the critics' update ``updates`` (1, 2, ...)."""
        return updates % self._delay == 0

    def actions(self, observations: Tensor) -> Tensor:
        """Returns the (P, B, act) actions π(s), units dropped as in training."""
        return self.policy(observations, training=True).tanh()

    def actions_of(self, parameters: Tensor, batch: Batch) -> Tensor:
        """Returns the (P, B, act) actions in s of policies with given (P, n) parameters."""
        return self.policy.network(parameters, batch.observations).tanh()

    def values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Returns the (P, B) values Q_1(s, a), with a gradient to the actions alone."""
        return self.critics.of_policy(observations, actions, critics=1)[0]

    def target_actions(self, batch: Batch) -> Tensor:
        """Returns the (P, B, act) actions ã in s', without gradient (Eq. 14)."""
        noise = self._noise.normal(*batch.actions.shape[1:])
        actions = self.policy.target_outputs(batch.next_observations, training=True).tanh()
        return smoothed(actions, noise, self._policy_noise, self._noise_clip)

    def targets(self, batch: Batch, next_actions: Tensor) -> Tensor:
        """Returns the (P, B) targets y of the critics, without gradient."""
        next_values = self.critics.target_values(batch.next_observations, next_actions).amin(0)
        if self._next_penalty is not None:
            next_values = next_values - self._next_penalty(batch, next_actions)
        return td_targets(batch.rewards, batch.terminations, next_values, self._discount)

    def improve_critics(self, batch: Batch, active: Tensor) -> dict[str, Tensor]:
        """Takes one gradient step on the critics.

        Args:
            batch: Transitions.
            active: (P,) bool, changed in place: a member that is no longer finite is switched off.

        Returns:
            Metrics, (P,) each.
        """
        next_actions = self.target_actions(batch)
        targets = self.targets(batch, next_actions)
        values, features = self.critics.with_features(batch.observations, batch.actions)
        td = squared_error(values, targets)
        penalty = self._critic_penalty
        loss, of_plug_in = penalised(penalty, td, td, self.critics, batch, next_actions, features)
        self.critics.optimiser.minimise(loss, active)
        metrics = {"loss": loss, "q_data": values.mean((0, -1)), "target": targets.mean(-1)}
        return metrics | of_plug_in

    def track(self, active: Tensor) -> None:
        """Moves the targets of critics and policy where (P,) active."""
        self.critics.track(self._target_rate, active)
        self.policy.track(self._target_rate, active)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "critics": self.critics.state_dict(),
            "policy": self.policy.state_dict(),
            "noise": self._noise.state_dict(),
        }
