"""What trained policies do on the data that they were trained on.

How far their actions are from the data's, how many lie at the bounds, how much they vary over
states, and what the critics think of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

import hetero_bench
from baselines import spar
from baselines.engine import TrainedRun, trained_runs
from baselines.parts.critics import Critics

AT_BOUNDS = 0.99
"""An action is at its bounds beyond this, where -1 and 1 are the bounds."""


@dataclass(frozen=True)
class Diagnostic:
    """Show what trained policies do on their own datasets.

    Actions are in units of the networks, in which the bounds are -1 and 1.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files run.json that training wrote, or folders that are searched for them."""
    rows: int = 4_096
    """Most transitions of a dataset to look at, spread over it."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own that the runs were trained on, as for train."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Prints a block of lines per run: a table has no room for all columns."""
        for path in self.register:
            hetero_bench.register(path)
        for trained in trained_runs(self.runs):
            print(f"{trained.run.method} {trained.member}")
            for name, value in diagnose(trained, self.rows).items():
                print(f"  {name:<18} {value:.3g}")


def diagnose(trained: TrainedRun, rows: int) -> dict[str, float]:
    """Returns statistics of a policy by name.

    Continuous actions:
        ``distance``: root mean square difference of an action's dimension from the data's.
        ``noise``: as ``distance``, between two samples of a policy that samples.
        ``at bounds``: share of the numbers in actions that lie at a bound; ``at bounds (data)``.
        ``spread``: standard deviation of an action's dimension over states; ``spread (data)``.
        ``Q(data)``, ``Q(policy)``: mean over critics of the value of the data's and the policy's
        actions, as rewards were prepared; ``Q std``: standard deviation over critics of the
        latter, mean over states.

    Discrete actions:
        ``agreement``: share of states in which the policy takes the data's action.
        ``entropy``: of the actions taken over all states, in nats; ``entropy (data)``.

    Args:
        trained: The run.
        rows: Most transitions to look at, spread over the dataset.
    """
    data, actor = trained.population.trainer.data, trained.actor()
    transitions = trained.member.dataset.transitions
    chosen = np.unique(np.linspace(0, len(transitions.actions) - 1, rows).astype(np.int64))
    observations = torch.from_numpy(np.asarray(transitions.observations[chosen], np.float32))
    random = np.random.default_rng(0)

    @torch.inference_mode()
    def sampled() -> np.ndarray:
        noise = random.standard_normal((len(chosen), actor.noise_size), dtype=np.float32)
        return actor(observations, torch.from_numpy(noise)).numpy()

    taken = np.asarray(transitions.actions[chosen])
    if data.discrete:
        return _discrete(sampled(), taken)
    frame = data.frame(trained.number)
    actions, taken = frame.action_inputs(sampled()), frame.action_inputs(taken)
    values = {"distance": _root_mean_square(actions - taken)}
    if actor.noise_size:
        values["noise"] = _root_mean_square(actions - frame.action_inputs(sampled()))
    for name, numbers in (("", actions), (" (data)", taken)):
        values[f"at bounds{name}"] = float((np.abs(numbers) > AT_BOUNDS).mean())
        values[f"spread{name}"] = float(numbers.std(axis=0).mean())
    return values | _values(trained, frame.observe(observations), taken, actions)


def _discrete(actions: np.ndarray, taken: np.ndarray) -> dict[str, float]:
    return {
        "agreement": float((actions == taken).mean()),
        "entropy": _entropy(actions),
        "entropy (data)": _entropy(taken),
    }


def _entropy(actions: np.ndarray) -> float:
    shares = np.unique_counts(actions).counts / len(actions)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def _root_mean_square(differences: np.ndarray) -> float:
    return float(np.sqrt(np.square(differences).mean()))


@torch.inference_mode()
def _values(
    trained: TrainedRun, observations: torch.Tensor, taken: np.ndarray, actions: np.ndarray
) -> dict[str, float]:
    """Returns what a member's critics say of the data's and the policy's actions, if it has any."""
    agent = trained.population.trainer.agent
    critics = _critics(agent)
    if critics is None:
        return {}
    # Members of SPAR that differ in stage II alone have their critics in common.
    place = int(agent.groups[trained.number]) if isinstance(agent, spar.Agent) else trained.number
    own = critics.parameters[:, place : place + 1]
    of_data, of_policy = (
        critics.values(own, observations[None], torch.from_numpy(np.float32(each))[None])[:, 0]
        for each in (taken, actions)
    )
    return {
        "Q(data)": float(of_data.mean()),
        "Q(policy)": float(of_policy.mean()),
        "Q std": float(of_policy.std(0, correction=0).mean()),
    }


def _critics(agent: Any) -> Critics | None:
    """Returns an agent's critics, its own or those of a part that it is built on."""
    parts = (getattr(holder, "critics", None) for holder in (agent, *vars(agent).values()))
    return next((part for part in parts if isinstance(part, Critics)), None)
