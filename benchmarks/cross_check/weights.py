"""Both libraries from equal weights through the same batches, which leaves little to chance."""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import hetero_bench
from baselines.engine.members import Member
from baselines.engine.method import PhasedAgent
from baselines.engine.trainer import Trainer

from .cases import CASES
from .process import command, environment, write_inputs

Layers = list[tuple[np.ndarray, np.ndarray]]
"""(out, in) weight and (out,) bias of every linear layer, as PyTorch has them."""


@dataclass(frozen=True)
class Check:
    """What is compared of a case.

    Attributes:
        case: Name of the case.
        updates: How many.
        changes: Settings that leave nothing to chance, or nothing that moves.
        networks: d3rlpy's networks whose weights have to be equal afterwards.
        losses: For updates that move nothing: d3rlpy's loss as a linear combination of our metrics.
            The means over all updates, of one batch, are compared. One update is enough where no
            random numbers enter.
    """

    case: str
    updates: int
    changes: Mapping[str, Any]
    networks: tuple[str, ...] = ()
    losses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


_STILL = {"critic_rate": 1e-30, "policy_rate": 1e-30, "target_rate": 1e-30}
_CRITICS = ("q_funcs.0", "q_funcs.1")

CHECKS = (
    Check(
        "td3_bc",
        updates=20,
        changes={"policy_noise": 0.0, "policy_delay": 1},
        networks=("policy", "targ_policy", *_CRITICS),
    ),
    # The targets of Q have V before its step in d3rlpy and after it here, which without a discount
    # is the same; where nothing moves, it is, too.
    Check(
        "iql",
        updates=20,
        changes={"discount": 0.0},
        networks=("policy", "value_func", *_CRITICS),
    ),
    Check(
        "iql",
        updates=1,
        changes={"learning_rate": 1e-30},
        losses={
            "v_loss": {"value_loss": 1.0},
            "actor_loss": {"policy_loss": 1.0},
            "q_loss": {"critic_loss": 1.0},
        },
    ),
    Check(
        "cql_max_backup",
        updates=200,
        changes=_STILL,
        losses={
            "conservative_loss": {"loss": 1.0, "td_loss": -1.0},
            "critic_loss": {"loss": 1.0},
            "actor_loss": {"policy_loss": 1.0},
        },
    ),
)


def flat(layers: Layers) -> Tensor:
    """Returns the parameters of an ``MLP`` with these layers, one after the other."""
    pieces = [piece for weight, bias in layers for piece in (weight.T.ravel(), bias)]
    return torch.from_numpy(np.concatenate(pieces))


def joined_heads(layers: Layers) -> Layers:
    """Returns the layers with the last two, both on the same features, as one."""
    *hidden, first, second = layers
    return [*hidden, tuple(np.concatenate(pair) for pair in zip(first, second, strict=True))]  # type: ignore[list-item]


def read_layers(file: Mapping[str, np.ndarray], prefix: str) -> Layers:
    """Returns the layers whose arrays are called ``<prefix>/<number>/weight`` and ``bias``."""
    layers = []
    while f"{prefix}/{len(layers)}/weight" in file:
        start = f"{prefix}/{len(layers)}"
        layers.append((file[f"{start}/weight"], file[f"{start}/bias"]))
    return layers


def network_parameters(agent: Any) -> dict[str, Tensor]:
    """Returns views of an agent's (n,) parameters, of its one member, by d3rlpy's names."""
    views = {"policy": agent.policy.parameters[0], "targ_policy": agent.policy.target[0]}
    for number in range(2):
        views[f"q_funcs.{number}"] = agent.critics.parameters[number, 0]
        views[f"targ_q_funcs.{number}"] = agent.critics.target[number, 0]
    if hasattr(agent, "value"):
        views["value_func"] = agent.value[0]
    return {name: view.detach() for name, view in views.items()}


def replay(check: Check, dataset: hetero_bench.Dataset, python: str) -> list[dict[str, Any]]:
    """Takes the updates in both libraries.

    Args:
        check: What is compared.
        dataset: Where the batches come from.
        python: The Python of d3rlpy's environment.

    Returns:
        One entry per network or loss: ``case``, ``updates``, ``quantity``, ``size`` (the largest
        change of a weight, or d3rlpy's mean loss), ``difference`` (the largest one of a weight, or
        of the means) and ``error`` (standard error of the difference of means, None for weights and
        for one update).
    """
    case = CASES[check.case]
    config = dataclasses.replace(case.config(dataset.spec), **check.changes)
    batches = 1 if check.losses else check.updates
    drawn = np.random.default_rng(0).integers(len(dataset), size=(batches, config.batch_size))
    rows = np.broadcast_to(drawn, (check.updates, config.batch_size))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, case.form, config, dataset, case.steps)
        np.save(folder / "rows.npy", rows)
        arguments = command(python, "replay", folder, threads=1)
        arguments += ["--rows", str(folder / "rows.npy"), "--out", str(folder / "out.npz")]
        subprocess.run(arguments, check=True, env=environment(threads=1))
        with np.load(folder / "out.npz", allow_pickle=False) as file:
            theirs = dict(file)
    trainer = Trainer(case.form, [Member(dataset, config, seed=0)], "cpu", steps=case.steps)
    agent: Any = trainer.agent
    copy_weights(agent, theirs)
    begun = {name: view.clone() for name, view in network_parameters(agent).items()}
    metrics = []
    for number, batch_rows in enumerate(rows):
        if "log_std" in theirs:
            copy_log_std(agent, theirs["log_std"][number])
        batch = trainer.data.take(torch.from_numpy(batch_rows.copy()).unsqueeze(0))
        phase = [agent.phase(0)] if isinstance(agent, PhasedAgent) else []
        update = agent.update(batch, *phase)
        metrics.append({name: float(value) for name, value in update.items()})
    entry = {"case": check.case, "updates": check.updates}
    ended = network_parameters(agent)
    found = [
        entry | {"quantity": f"weights of `{name}`"} | moved(begun[name], ended[name], theirs, name)
        for name in check.networks
    ]
    for name, parts in check.losses.items():
        ours = np.array([sum(parts[each] * one[each] for each in parts) for one in metrics])
        compared = means(ours, theirs[f"metrics/{name}"])
        quantity = f"mean `{name}`" if check.updates > 1 else f"`{name}`"
        found.append(entry | {"quantity": quantity} | compared)
    return found


def copy_weights(agent: Any, file: Mapping[str, np.ndarray]) -> None:
    """Gives an agent d3rlpy's initial weights; parameters that are no layer's stay as they are."""
    for name, view in network_parameters(agent).items():
        layers = read_layers(file, f"before/{name}")
        if layers:
            wide = name == "policy" and agent.policy.network.sizes[-1] != len(layers[-1][1])
            parameters = flat(joined_heads(layers) if wide else layers)
            view[: len(parameters)] = parameters


def copy_log_std(agent: Any, log_std: np.ndarray) -> None:
    """Gives an agent's policy (act,) log standard deviations that are the same in all states.

    Both libraries learn them, but not as the same function of a parameter; with these given, all
    else that a policy learns has to be equal.
    """
    agent.policy.network.extra(agent.policy.parameters.detach())[0] = torch.from_numpy(log_std)


def moved(
    begun: Tensor, ended: Tensor, file: Mapping[str, np.ndarray], name: str
) -> dict[str, float | None]:
    """Returns how far a network's weights have moved, and how far from d3rlpy's they are."""
    theirs = flat(read_layers(file, f"after/{name}"))
    layers = slice(len(theirs))  # parameters that are no layer's come after these
    return {
        "size": float((ended - begun)[layers].abs().max()),
        "difference": float((ended[layers] - theirs).abs().max()),
        "error": None,
    }


def means(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float | None]:
    """Returns the difference of the means of two (K,) samples with its error, None for one each."""
    error = None
    if len(ours) > 1:
        error = float(np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs)))
    return {
        "size": float(theirs.mean()),
        "difference": float(ours.mean() - theirs.mean()),
        "error": error,
    }
