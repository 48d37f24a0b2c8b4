"""Trains a method of d3rlpy on exported transitions; the only file here that imports d3rlpy.

It runs in d3rlpy's own environment, which needs nothing of this repository: data come in as an
``.npz`` file, settings as JSON, and the policy goes out as TorchScript, by d3rlpy's own export.

    python d3rlpy_learner.py train --data data.npz --settings settings.json --steps 10000 --seed 0
        --policy policy.pt
    python d3rlpy_learner.py serve --data data.npz --settings settings.json
    python d3rlpy_learner.py replay --data data.npz --settings settings.json --rows rows.npy
        --out out.npz

``replay`` takes one update per row of (K, B) transitions, and saves all weights before and after
with what every update returned; and before every update the policy's log standard deviation, if it
has one that is the same in all states. ``serve`` reads numbers of updates from its standard input,
one per line, takes them, and answers each with a line, so that another process can time it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import d3rlpy
import numpy as np
import torch
from d3rlpy.algos import CQLConfig, IQLConfig, TD3PlusBCConfig
from d3rlpy.dataset import Episode, InfiniteBuffer, ReplayBuffer, TransitionMiniBatch
from d3rlpy.models.encoders import VectorEncoderFactory
from d3rlpy.optimizers import AdamFactory
from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory

CONFIGS = {"td3_bc": TD3PlusBCConfig, "iql": IQLConfig, "cql": CQLConfig}


def episodes(columns: Mapping[str, np.ndarray]) -> list[Episode]:
    """Splits transitions into episodes, of which d3rlpy takes exactly these transitions.

    d3rlpy takes the next row's observation as the successor, and leaves the last row of an episode
    out if that did not terminate. A truncated episode therefore gets one more row with its final
    observation: all its transitions are there, and none of them ends the values.

    Args:
        columns: (N, ...) observations, actions, rewards, next_observations, terminations and
            truncations, whole episodes one after the other.
    """
    found, start = [], 0
    for last in np.flatnonzero(columns["terminations"] | columns["truncations"]):
        observations, actions, rewards = (
            columns[name][start : last + 1] for name in ("observations", "actions", "rewards")
        )
        terminated = bool(columns["terminations"][last])
        if not terminated:
            observations = np.append(observations, columns["next_observations"][[last]], axis=0)
            actions = np.append(actions, np.zeros_like(actions[:1]), axis=0)
            rewards = np.append(rewards, np.zeros_like(rewards[:1]))
        found.append(Episode(observations, actions, rewards[:, None], terminated))
        start = last + 1
    return found


class Learner:
    """One of d3rlpy's methods at its beginning.

    Args:
        columns: See :func:`episodes`.
        settings: ``method``, ``config`` (arguments of the method's config), ``hidden_units`` (by
            network) and ``cosine_steps``, over which the actor's step size falls to zero, or None.
        seed: Of all of d3rlpy's randomness.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], settings: Mapping[str, Any], seed: int):
        d3rlpy.seed(seed)
        encoders = {
            f"{network}_encoder_factory": VectorEncoderFactory(hidden_units=list(sizes))
            for network, sizes in settings["hidden_units"].items()
        }
        schedule = settings["cosine_steps"] and CosineAnnealingLRFactory(settings["cosine_steps"])
        config = CONFIGS[settings["method"]](
            **settings["config"],
            **encoders,
            actor_optim_factory=AdamFactory(lr_scheduler_factory=schedule),
        )
        self.buffer = ReplayBuffer(InfiniteBuffer(), episodes=episodes(columns))
        taken, given = self.buffer.transition_count, len(columns["rewards"])
        if taken != given:
            raise ValueError(f"d3rlpy takes {taken} of {given} transitions; expected all")
        self.algo = config.create(device="cpu:0")
        self.algo.build_with_dataset(self.buffer)

    def advance(self, updates: int) -> None:
        """Takes gradient steps, as ``fit`` does without its logs."""
        for _ in range(updates):
            self.algo.update(self.buffer.sample_transition_batch(self.algo.batch_size))


def train(learner: Learner, steps: int, policy: Path) -> None:
    begun = time.perf_counter()
    learner.advance(steps)
    facts = {
        "wall_seconds": round(time.perf_counter() - begun, 1),
        "versions": {"d3rlpy": d3rlpy.__version__, "torch": torch.__version__},
    }
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    partial = policy.with_name(f"partial-{policy.name}")
    learner.algo.save_policy(str(partial))
    partial.replace(policy)


def serve(learner: Learner) -> None:
    for line in sys.stdin:
        learner.advance(int(line))
        print("done", flush=True)


def weights(learner: Learner, prefix: str) -> dict[str, np.ndarray]:
    """Returns every network's linear layers, called ``<prefix>/<network>/<layer>/weight``."""
    networks = {}
    for name, module in vars(learner.algo.impl.modules).items():
        if isinstance(module, torch.nn.ModuleList):
            networks |= {f"{name}.{number}": each for number, each in enumerate(module)}
        elif isinstance(module, torch.nn.Module):
            networks[name] = module
    arrays = {}
    for name, network in networks.items():
        layers = [each for each in network.modules() if isinstance(each, torch.nn.Linear)]
        for number, layer in enumerate(layers):
            for part in ("weight", "bias"):
                values = getattr(layer, part).detach().numpy().copy()
                arrays[f"{prefix}/{name}/{number}/{part}"] = values
    return arrays


def replay(learner: Learner, rows: np.ndarray, out: Path) -> None:
    buffer = learner.buffer
    policy = learner.algo.impl.modules.policy
    shared_std = "_logstd" in dict(policy.named_parameters())
    somewhere = torch.zeros(1, *learner.algo.impl.observation_shape)
    arrays, metrics, log_stds = weights(learner, "before"), [], []
    for batch in rows:
        if shared_std:
            log_stds.append(policy(somewhere).logstd[0].detach().numpy())
        found = [buffer.buffer[int(row)] for row in batch]
        transitions = [buffer.transition_picker(episode, index) for episode, index in found]
        metrics.append(learner.algo.update(TransitionMiniBatch.from_transitions(transitions)))
    arrays |= weights(learner, "after")
    if shared_std:
        arrays["log_std"] = np.array(log_stds)
    arrays |= {f"metrics/{name}": np.array([each[name] for each in metrics]) for name in metrics[0]}
    np.savez(out, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("train", "serve", "replay"))
    parser.add_argument("--data", type=Path, required=True, help="transitions, .npz")
    parser.add_argument("--settings", type=Path, required=True, help="settings, JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1, help="gradient steps of train")
    parser.add_argument("--policy", type=Path, help="where train saves the policy")
    parser.add_argument("--rows", type=Path, help="(K, B) rows for replay, .npy")
    parser.add_argument("--out", type=Path, help="where replay saves weights and losses, .npz")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = json.loads(arguments.settings.read_text(encoding="utf-8"))
    with np.load(arguments.data, allow_pickle=False) as file:
        learner = Learner(dict(file), settings, arguments.seed)
    if arguments.command == "train":
        train(learner, arguments.steps, arguments.policy)
    elif arguments.command == "replay":
        replay(learner, np.load(arguments.rows, allow_pickle=False), arguments.out)
    else:
        serve(learner)


if __name__ == "__main__":
    main()
