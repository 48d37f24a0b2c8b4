"""Conservative Q-learning (CQL) for continuous actions.

Kumar, Zhou, Tucker and Levine, "Conservative Q-Learning for Offline Reinforcement Learning",
NeurIPS 2020: CQL(H) on soft actor-critic, in the form of JaxCQL (young-geng/JaxCQL), the code that
the ReDS paper builds on:

    Q:  min_θ  Σ_i { E_D[ (Q_i(s,a) - y)² ] + w · diff_i }                     Eq. 4
        diff_i = E_D[ log Σ_a exp Q_i(s,a) - Q_i(s,a) ]

with the policy π, its temperature α and the targets y of :mod:`baselines.parts.soft_actor_critic`.
The sum over actions is estimated with K actions each that are uniform, from π(·|s) and from
π(·|s'), all of them in s and each exponential divided by the action's density (appendix F). The
estimate is a sum, not a mean: it carries a constant log 3K.

``gap`` makes w a multiplier that holds diff at the gap (Eq. 30): the penalty is then
α' w (diff_i - gap), and α' >= 0 ascends on it.

All losses are computed before any step is taken, as in JaxCQL. Its policy also learns a scale and
an offset of its log standard deviation, which are left out here, and its α' begins at e, here at 1.
The authors' own code (aviralkumar2907/CQL) is another: α and α' take their steps first, the gap is
subtracted from w diff and not from diff, and with ``max_backup`` each critic has a best action of
its own. Settings are those of CORL (Tarasov et al., "CORL: Research-oriented Deep Offline
Reinforcement Learning Library", NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.engine.checks import check_choice, check_preparation, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import shared
from baselines.engine.method import Method
from baselines.engine.preparation import as_configured
from baselines.parts.conservatism import Penalty, log_sum_exp
from baselines.parts.critics import squared_error
from baselines.parts.networks import NORM_PLACES, NormPlace
from baselines.parts.penalties import CriticPenalty, penalised
from baselines.parts.policies import DeterministicActor, GaussianActor
from baselines.parts.soft_actor_critic import Samples, SoftActorCritic, policy_loss


@dataclass(frozen=True)
class Config:
    """Hyperparameters of CQL. Defaults are those for locomotion."""

    penalty: float = 10.0
    """w, weight of the penalty: twice the α of Eq. 4, where the TD error has a factor ½."""
    gap: float | None = None
    """Value at which a multiplier holds diff, in units of value; None for no multiplier. Given or
    not for all members alike."""
    samples: int = 10
    """K, actions per state from each of three distributions; the same for all members."""
    diff_min: float | None = None
    """Values of diff that are smaller, of single transitions, are raised to this; None for no.
    Given or not for all members alike."""
    max_backup: bool = False
    """Back up the best of K actions instead of one; the same for all members."""
    discount: float = 0.99
    """γ."""
    target_rate: float = 0.005
    """Fraction by which the targets Q̄ move in each step."""
    critic_sizes: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer of the critics; the same for all members."""
    critic_norm: NormPlace = "none"
    """Where the critics' hidden layers have layer normalisation; the same for all members."""
    policy_sizes: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer of the policy; the same for all members."""
    orthogonal: bool = True
    """Start from orthogonal weights; the same for all members."""
    critic_rate: float = 3e-4
    """Adam's step size for critics, and for α'."""
    policy_rate: float = 3e-5
    """Adam's step size for the policy, and for α."""
    batch_size: int = 256
    """Transitions per gradient step."""
    normalise_observations: bool = False
    """Subtract the dataset's mean from observations and divide by its standard deviation."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this,"""
    reward_shift: float = 0.0
    """and then this is added."""

    def __post_init__(self) -> None:
        check_preparation(self)
        check_sizes(self, "critic_sizes")
        check_sizes(self, "policy_sizes")
        check_range(self, "penalty", 0.0)
        if self.gap is not None:
            check_range(self, "gap")
        if self.diff_min is not None:
            check_range(self, "diff_min")
        check_range(self, "samples", 1, whole=True)
        check_choice(self, "max_backup", (False, True))
        check_choice(self, "critic_norm", NORM_PLACES)
        check_choice(self, "orthogonal", (False, True))
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "target_rate", 0.0, 1.0, open_low=True)
        check_range(self, "critic_rate", 0.0, open_low=True)
        check_range(self, "policy_rate", 0.0, open_low=True)


OVERRIDES = {
    "antmaze": {
        "penalty": 5.0,
        "gap": 0.8,
        "diff_min": -200.0,
        "max_backup": True,
        "critic_sizes": (256, 256, 256, 256, 256),
        "policy_sizes": (256, 256),
        "policy_rate": 1e-4,
        "reward_scale": 10.0,
        "reward_shift": -5.0,
    },
    "adroit": {"penalty": 1.0, "policy_rate": 1e-4},
}


def conservative_difference(q: Tensor, log_densities: Tensor, q_data: Tensor) -> Tensor:
    """Returns the (E, P, B) ``log Σ_k exp(Q(s,a_k)) / p(a_k|s) - Q(s,a)`` of Eq. 4.

    Args:
        q: (E, P, B, K) values of sampled actions.
        log_densities: (P, B, K) log p of the distributions that they were drawn from.
        q_data: (E, P, B) values of the dataset's actions.
    """
    return log_sum_exp(q, log_densities) - q_data


class Agent:
    """A population of policies with conservative twin critics."""

    def __init__(
        self,
        configs: Sequence[Config],
        data: MemberData,
        seeds: Sequence[int],
        *,
        critic_penalty: CriticPenalty | None = None,
    ):
        norm = shared(configs, "critic_norm")
        self.learner = SoftActorCritic(configs, data, seeds, critic_norm=norm)
        self.critics, self.active = self.learner.critics, self.learner.active
        self.policy = self.learner.policy
        self.critic_penalty = critic_penalty
        self.penalty = Penalty(configs, data.device)

    def differences(self, batch: Batch, proposals: Sequence[Samples]) -> tuple[Tensor, Tensor]:
        """Returns the (E, P) means of diff, and the (E, P, B) values of the dataset's actions."""
        actions = [batch.actions.unsqueeze(-2), *(each.actions for each in proposals)]
        q = self.critics(batch.observations, torch.cat(actions, dim=-2))
        log_densities = torch.cat([each.log_densities for each in proposals], dim=-1)
        diff = conservative_difference(q[..., 1:], log_densities, q[..., 0])
        return self.penalty.mean(diff), q[..., 0]

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on α, π, Q and α' each, then moves the targets."""
        draws = self.learner.draw(batch)
        chosen, log_density = draws.chosen.actions, draws.chosen.log_densities[..., 0]
        values = self.critics.of_policy(batch.observations, chosen, critics=2)[..., 0]
        loss = policy_loss(values, log_density, self.learner.alpha.value())
        diff, q_data = self.differences(batch, draws.proposals)
        td = squared_error(q_data, self.learner.targets(batch, draws.candidates))
        weight, critic_loss = self.penalty.weight(), td + self.penalty.loss(diff)
        critic_loss, of_plug_in = penalised(
            self.critic_penalty,
            critic_loss,
            td,
            self.critics,
            batch,
            draws.candidates.actions[..., 0, :],
        )

        entropy = -log_density.detach().mean(-1)
        self.learner.minimise(loss, critic_loss, entropy)
        self.penalty.ascend(diff, self.active)
        metrics = {
            "loss": critic_loss,
            "td_loss": td,
            "difference": diff.mean(0),
            "penalty_weight": weight,
            "policy_loss": loss,
            "entropy": entropy,
            "alpha": self.learner.alpha.value(),
            "q_data": q_data.mean((0, -1)),
            **of_plug_in,
        }
        return {name: value.detach() for name, value in metrics.items()}

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU, at its mode before squashing."""
        return self.learner.actor(member)

    def gaussian_actor(self, member: int) -> GaussianActor:
        """Returns a copy of one member's policy on the CPU that samples."""
        return self.learner.gaussian_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {**self.learner.state_dict(), **self.penalty.state_dict()}


METHOD = Method(
    name="cql",
    title="CQL",
    paper="Kumar et al., NeurIPS 2020",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
