"""Trains the arms of a study, and measures at intervals what the paper plots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from baselines.c4 import Agent as C4Agent
from baselines.engine import get_method
from baselines.engine.data import Batch, MemberData
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member, per_member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.critics import Critics
from baselines.parts.cross_covariance import gradients, successive_inputs, traces
from baselines.parts.networks import MLP
from baselines.parts.td_residual import gradient_cosines
from hetero_bench import Dataset

BACKBONES = {
    "cql": {"CQL": "cql", "LN": "ln_cql", "DR3": "dr3_cql", "C4": "c4"},
    "td3_bc": {"TD3+BC": "td3_bc", "LN": "ln_td3_bc", "DR3": "dr3_td3_bc", "C4": "c4_td3_bc"},
}
"""Methods by the names of their arms; the backbone itself comes first."""
C4 = "C4"
ROWS = 4_096
"""Transitions that traces are taken over, at most."""
CLUSTER_ROWS = 700
"""Transitions in pictures of clusters."""
SNAPSHOTS = 4
"""Pictures of clusters, at the last observation of each part of training."""


class Clusters(BaseModel):
    """Gradient pairs of the first member with their clusters, in two dimensions.

    Attributes:
        step: Gradient steps taken.
        places: (n, 2) coordinates by t-SNE.
        labels: (n,) number of the cluster of highest responsibility.
        effective: exp of the entropy of p.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    places: list[tuple[float, float]]
    labels: list[int]
    effective: float


class Study(BaseModel):
    """All arms on one backbone.

    Attributes:
        backbone: Name of the backbone's method.
        dataset: Id of the dataset.
        seeds: (P,) seeds.
        steps: (T,) gradient steps at the observations.
        episodes: Per evaluation.
        arms: (T, P) values by the measure's name, by the arm's name.
        clusters: C4's, at a few of the observations; none in the values beside the page.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    dataset: str
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    episodes: int
    arms: dict[str, dict[str, list[list[float | None]]]]
    clusters: list[Clusters] = []


@dataclass(frozen=True)
class Probe:
    """What every observation of every arm looks at: the same transitions."""

    batch: Batch  # (P, B) for traces
    uniform: Batch  # (P, 256) for cosines
    responsibilities: Tensor  # (P, B, 1): 1 where there is a next action

    @classmethod
    def of(cls, data: MemberData, seeds: tuple[int, ...]) -> Probe:
        """Draws the transitions, equal for all members."""
        random = MemberRandom([0] * len(seeds), "probe", data.device)
        batch, uniform = data.sample(random, ROWS), data.sample(random, 256)
        return cls(batch, uniform, batch.has_next.unsqueeze(-1).float())


def observe(
    dataset: Dataset,
    backbone: str,
    *,
    steps: int,
    observations: int,
    seeds: tuple[int, ...],
    episodes: int,
    device: str,
) -> Study:
    """Trains all arms of a backbone.

    Args:
        dataset: The dataset.
        backbone: A key of ``BACKBONES``.
        steps: Gradient steps of every arm.
        observations: How often measures are taken.
        seeds: (P,) seeds.
        episodes: Per evaluation.
        device: ``cpu`` or a torch device.
    """
    stops = [round(steps * number / observations) for number in range(1, observations + 1)]
    arms: dict[str, dict[str, list[list[float | None]]]] = {}
    clusters = []
    pictured = {stops[observations * part // SNAPSHOTS - 1] for part in range(1, SNAPSHOTS + 1)}
    for arm, name in BACKBONES[backbone].items():
        method = get_method(name, "continuous")
        group = [Member(dataset, method.config_for(dataset.spec), seed) for seed in seeds]
        trainer = Trainer(method, group, device, steps=steps)
        probe = Probe.of(trainer.data, seeds)
        curves: dict[str, list[list[float | None]]] = {}
        for before, stop in zip([0, *stops], stops, strict=False):
            trainer.advance(stop - before)
            measures: dict[str, list[float | None]] = {
                **_measures(trainer, group, probe),
                **_fitted(trainer),
            }
            measures["score"] = [
                _score(member, trainer.agent.actor(number), stop, episodes)
                for number, member in enumerate(group)
            ]
            for key, values in measures.items():
                curves.setdefault(key, []).append(values)
            print(f"{method.title}: step {stop:,} of {steps:,}", flush=True)
            if arm == C4 and stop in pictured:
                clusters.append(_clusters(trainer, stop))
        arms[arm] = curves
    return Study(
        backbone=backbone,
        dataset=dataset.id,
        seeds=seeds,
        steps=tuple(stops),
        episodes=episodes,
        arms=arms,
        clusters=clusters,
    )


def _score(member: Member, actor: Any, step: int, episodes: int) -> float:
    record = evaluate_member(member, actor, step, episodes)
    return float(member.dataset.spec.normalized_score(record.returns).mean())


def _measures(trainer: Trainer, group: list[Member], probe: Probe) -> dict[str, list[float | None]]:
    """Returns traces by input gradients and by features, and the cosines, of all members."""
    agent: Any = trainer.agent
    backbone = agent.backbone if isinstance(agent, C4Agent) else agent
    found: dict[str, Tensor] = {}
    features = partial(gradients, kind="feature")
    for kind, rows_of in (("exact", input_gradients), ("feature", features)):
        pairs = _pairs(backbone.critics, probe.batch, rows_of)
        terms = traces(*pairs, probe.responsibilities)
        spreads = terms.following * terms.current
        found |= {
            f"correlation_{kind}": terms.uniform / spreads.sqrt(),
            f"trace_{kind}": terms.uniform,
            f"term_a_{kind}": terms.following,
            f"term_b_{kind}": terms.current,
        }
    discount = per_member([each.config for each in group], "discount", trainer.data.device)
    cosines = gradient_cosines(backbone.critics, backbone.policy, probe.uniform, discount)
    found["cosine_variance"], found["cosine_mean"] = cosines
    return {name: values.tolist() for name, values in found.items()}


def _fitted(trainer: Trainer) -> dict[str, list[float | None]]:
    """Returns what C4's fits since the last observation say, on average; nothing for other arms.

    None if there was none.
    """
    metrics = trainer.take_metrics()
    if not isinstance(trainer.agent, C4Agent):
        return {}
    missing: list[float | None] = [None] * trainer.data.num_members
    names = ("trace_cluster", "trace_uniform", "effective_clusters")
    return {f"fit_{name}": metrics.get(name, missing) for name in names}


def _pairs(
    critics: Critics, batch: Batch, rows_of: Callable[[MLP, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns the (P, B, m) rows g' and g of the first critics."""
    following, current = successive_inputs(batch)
    return (
        rows_of(critics.network, critics.target[0], following),
        rows_of(critics.network, critics.parameters.detach()[0], current),
    )


def input_gradients(network: MLP, parameters: Tensor, inputs: Tensor) -> Tensor:
    """Returns the (P, B, in) gradients of networks by their inputs, normalised layers or not."""
    inputs = inputs.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(network(parameters, inputs).sum(), inputs)
    return gradients


def _clusters(trainer: Trainer, step: int) -> Clusters:
    """Returns a picture of the first member's clusters."""
    from sklearn.manifold import TSNE

    agent = trainer.agent
    assert isinstance(agent, C4Agent)
    size = int(trainer.data.sizes[0])
    rows = torch.linspace(0, size - 1, min(CLUSTER_ROWS, size)).long()
    paired = trainer.data.rows.has_next[rows.to(trainer.data.device)].cpu()
    rows = rows[paired].to(trainer.data.device)
    points, responsibilities = agent.clustering.assign(agent.backbone.critics, 0, rows)
    places = TSNE(init="pca", random_state=0).fit_transform(points.cpu().numpy())
    shares = responsibilities.mean(0)
    entropy = -torch.special.xlogy(shares, shares).sum()
    return Clusters(
        step=step,
        places=[(round(float(x), 2), round(float(y), 2)) for x, y in places],
        labels=responsibilities.argmax(-1).tolist(),
        effective=float(entropy.exp()),
    )
