"""Conservative Q-learning (CQL) for discrete actions.

Kumar, Zhou, Tucker and Levine, "Conservative Q-Learning for Offline Reinforcement Learning",
NeurIPS 2020; written after Singh et al., "ReDS: Offline Reinforcement Learning With
Heteroskedastic Datasets via Support Constraints", NeurIPS 2023, Equation 2:

    min_θ  α ( E_{s~D, a~π}[Q_θ(s,a)] - E_{(s,a)~D}[Q_θ(s,a)] )                the penalty R(θ)
           + ½ E_{(s,a,r,s')~D}[ (Q_θ(s,a) - r - γ E_{a'~π(·|s')}[Q̄(s',a')])² ]    the TD error

The policy is not a network of its own but π(a|s) ∝ exp(Q_θ(s,a)/T), the maximiser of
E_π[Q] + T·H(π). With it the penalty's first term becomes T·log Σ_a exp(Q_θ(s,a)/T): this is
CQL(H) of Kumar et al., their Equation 4, at temperature T. Its gradient is Eq. 2's with π held
fixed. Q̄ is an exponential moving average of Q_θ.

Choices that the papers leave open:

- The TD error has weight ½, as Eq. 2 has it; code that leaves the ½ out doubles its α.
- α and T are in units of (scaled) reward: multiplying ``reward_scale``, α and T by one number
  changes nothing but the scale of Q.
- One Q-function, not the minimum of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from baselines.engine.checks import check_choice, check_network, check_range
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member
from baselines.engine.method import Method
from baselines.parts.discrete import SoftmaxActor, soft_maximum, taken
from baselines.parts.soft_q import SoftQ, td_loss


@dataclass(frozen=True)
class Config:
    """Hyperparameters of CQL."""

    alpha: float = 0.004
    """α, weight of the penalty, in units of scaled reward (Eq. 2; the paper tries 0.1, 1 and 10 in
    its maze, at a reward scale that it does not state)."""
    temperature: float = 0.02
    """T of the policy softmax(Q/T), in units of scaled reward."""
    discount: float = 0.99
    """γ."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this."""
    backup: Literal["policy", "max"] = "policy"
    """Next state's value: expectation under π (Eq. 2), or the maximum of Q̄."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Width of each hidden layer; the same for all members."""
    batch_size: int = 256
    """Transitions per gradient step."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    target_rate: float = 0.02
    """Fraction by which the target Q̄ moves towards Q in each step. At the usual 0.005 a value needs
    some 200 steps per cell of the way to the start, too long for 8,000 steps in all."""
    greedy: bool = False
    """Evaluate argmax Q instead of sampling from π."""

    def __post_init__(self) -> None:
        check_network(self)
        check_range(self, "alpha", 0.0)
        check_range(self, "temperature", 0.0, open_low=True)
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "reward_scale")
        check_choice(self, "backup", ("policy", "max"))
        check_range(self, "target_rate", 0.0, 1.0, open_low=True)


def conservative_penalty(q: Tensor, actions: Tensor, temperature: Tensor) -> Tensor:
    """Returns the (P,) penalty of Eq. 2, ``mean_B [T log Σ_a exp(Q(s,a)/T) - Q(s,a)]``.

    Args:
        q: (P, B, A) action values.
        actions: (P, B) int64 dataset actions.
        temperature: (P,).
    """
    return (soft_maximum(q, temperature) - taken(q, actions)).mean(-1)


class Agent:
    """A population of conservative Q-functions."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        self.q = SoftQ(configs, data, seeds)
        self.active = self.q.active
        self.alpha = per_member(configs, "alpha", data.device)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on Eq. 2, then moves the target."""
        targets = self.q.targets(batch)
        q = self.q(batch.observations)
        q_taken = taken(q, batch.actions)
        td = td_loss(q_taken, targets)
        penalty = conservative_penalty(q, batch.actions, self.q.temperature)
        loss = td + self.alpha * penalty
        self.q.minimise(loss)
        metrics = {"loss": loss, "td_loss": td, "penalty": penalty, "q_data": q_taken.mean(-1)}
        return {name: value.detach() for name, value in metrics.items()}

    def actor(self, member: int) -> SoftmaxActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.q.actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return self.q.state_dict()


METHOD = Method(
    name="cql",
    title="CQL",
    paper="Kumar et al., NeurIPS 2020",
    config=Config,
    agent=Agent,
    actions="discrete",
)
