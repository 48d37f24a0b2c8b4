"""A training of SAC on one locomotion task: made, saved, and restored to the same state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from hetero_bench.recipes.lean_sac import HiddenDtype, LeanSAC
from hetero_bench.recipes.locomotion_runs import POLICY_FILE
from hetero_bench.recipes.locomotion_tasks import TaskName, make_task
from hetero_bench.recipes.replay import ROW_ARRAYS, RecordedReplay
from hetero_bench.recipes.seeded_episodes import SeededEpisodes
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.recipes.training_checkpoints import read_rows, read_state, write_checkpoint

_TRAINER_FILE = "trainer.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class LocomotionTrainer:
    """SAC with its environment and replay buffer.

    Args:
        task: The environment.
        seed: Seed of everything.
        capacity: Rows of room in the replay buffer.
        learning_starts: Steps with uniform actions before the first update.
        batch_size: Rows per update.
        width: Units of each hidden layer.
        hidden_dtype: Arithmetic between hidden layers; see ``lean_sac.py``.
    """

    def __init__(
        self,
        task: TaskName,
        seed: int,
        capacity: int,
        *,
        learning_starts: int,
        batch_size: int,
        width: int,
        hidden_dtype: HiddenDtype,
    ) -> None:
        self.episodes = SeededEpisodes(make_task(task), seed)
        self.model = LeanSAC(
            "MlpPolicy",
            DummyVecEnv([lambda: self.episodes]),
            rng=np.random.default_rng(np.random.SeedSequence([seed, 0])),
            hidden_dtype=hidden_dtype,
            buffer_size=capacity,
            replay_buffer_class=RecordedReplay,  # type: ignore[arg-type]
            learning_starts=learning_starts,
            batch_size=batch_size,
            policy_kwargs={"net_arch": [width, width]},
            seed=seed,
            device="cpu",
        )
        self._saved_rows = 0
        self._saved_episodes = 0

    @property
    def replay(self) -> RecordedReplay:
        """The rows collected."""
        return self.model.replay_buffer  # type: ignore[return-value]

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return self.model.num_timesteps

    def policy(self) -> SquashedGaussianMLP:
        """Returns a copy of the present policy."""
        named = self.model.actor.state_dict().items()
        state = {name: tensor.numpy().copy() for name, tensor in named}
        heads = ("mu", "log_std")
        hidden = ("latent_pi.0", "latent_pi.2")
        return SquashedGaussianMLP(
            weights=(
                *(state[f"{layer}.weight"] for layer in hidden),
                np.concatenate([state[f"{head}.weight"] for head in heads]),
            ),
            biases=(
                *(state[f"{layer}.bias"] for layer in hidden),
                np.concatenate([state[f"{head}.bias"] for head in heads]),
            ),
        )

    def train(self, steps: int) -> None:
        """Goes on until ``steps`` environment steps in all."""
        self.model.learn(steps - self.steps, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]

    def save(self, run: Path, about: dict[str, Any]) -> None:
        """Writes a checkpoint: what changed since the last one, and the state to go on from.

        Args:
            run: The run's folder.
            about: JSON, stored beside the state.
        """
        new = slice(self._saved_rows, self.replay.size())
        arrays = {name: self.replay.arrays[name][new] for name in ROW_ARRAYS}
        begun = self.replay.episode + 1  # the running episode included
        positions = self.episodes.initial_positions[self._saved_episodes : begun]
        velocities = self.episodes.initial_velocities[self._saved_episodes : begun]
        data = self.episodes.unwrapped.data  # type: ignore[attr-defined]
        arrays["initial_positions"] = np.array(positions).reshape(-1, len(data.qpos))
        arrays["initial_velocities"] = np.array(velocities).reshape(-1, len(data.qvel))

        def write_networks(folder: Path) -> None:
            safetensors.numpy.save_file(self._tensors(), folder / _TRAINER_FILE)
            self.policy().save(folder / POLICY_FILE, {"training_steps": self.steps})

        state = {
            **about,
            "steps": self.steps,
            "updates": self.model._n_updates,
            "generator": self.model.rng.bit_generator.state,
        }
        write_checkpoint(run, self.steps, state, arrays, write_networks)
        self._saved_rows, self._saved_episodes = new.stop, begun

    def restore(self, folders: list[Path]) -> None:
        """Takes up the state of the last of a run's checkpoints.

        The running episode is taken up by replaying its actions from its start. Where the
        simulator does not give the same observations (another machine or MuJoCo release), that
        episode ends truncated and the next one begins.

        Args:
            folders: All checkpoints of the run, oldest first.
        """
        self.replay.extend({name: read_rows(folders, name) for name in ROW_ARRAYS})
        self.episodes.initial_positions = list(read_rows(folders, "initial_positions"))
        self.episodes.initial_velocities = list(read_rows(folders, "initial_velocities"))
        self._saved_rows = self.replay.size()
        self._saved_episodes = len(self.episodes.initial_positions)
        state = read_state(folders[-1])
        self.model.num_timesteps = state["steps"]
        self.model._n_updates = state["updates"]
        self.model.rng.bit_generator.state = state["generator"]
        self._load_tensors(safetensors.numpy.load_file(folders[-1] / _TRAINER_FILE))
        if not self._replay_running_episode():
            print("the running episode does not replay here; it ends truncated", flush=True)
            self.replay.end_episode()
            self._begin(self.replay.episode)

    @property
    def _vec_env(self) -> DummyVecEnv:
        return self.model.env  # type: ignore[return-value]

    def _begin(self, episode: int) -> None:
        """Starts an episode, forgetting what is remembered of it and of later ones."""
        del self.episodes.initial_positions[episode:], self.episodes.initial_velocities[episode:]
        self.episodes.next_episode = episode
        self.model._last_obs = self._vec_env.reset()  # type: ignore[assignment]

    def _replay_running_episode(self) -> bool:
        """Replays the running episode's actions; whether all observations came out the same."""
        arrays, size = self.replay.arrays, self.replay.size()
        self._begin(self.replay.episode)
        for row in np.flatnonzero(arrays["episode_ids"][:size] == self.replay.episode):
            observations, *_ = self._vec_env.step(arrays["actions"][row : row + 1])
            expected = arrays["next_observations"][row]
            if not np.array_equal(np.asarray(observations, np.float32)[0], expected):
                return False
            self.model._last_obs = observations  # type: ignore[assignment]
        return True

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "actor": self.model.actor.optimizer,
            "critic": self.model.critic.optimizer,
            "temperature": self.model.alpha_optimizer,
        }

    def _tensors(self) -> dict[str, np.ndarray]:
        """Returns networks, optimisers and temperature by name."""
        tensors = {f"policy.{n}": value for n, value in self.model.policy.state_dict().items()}
        tensors["log_ent_coef"] = self.model.log_alpha
        for name, optimiser in self._optimisers().items():
            for moments in optimiser.state.values():
                tensors |= {f"adam.{name}.{key}": moments[key] for key in _MOMENTS}
        return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}

    def _load_tensors(self, arrays: dict[str, np.ndarray]) -> None:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.model.policy.load_state_dict(
            {n.removeprefix("policy."): t for n, t in tensors.items() if n.startswith("policy.")}
        )
        with torch.no_grad():
            self.model.log_alpha.copy_(tensors["log_ent_coef"])
        for name, optimiser in self._optimisers().items():
            (parameter,) = optimiser.param_groups[0]["params"]
            if f"adam.{name}.step" in tensors:
                moments = {key: tensors[f"adam.{name}.{key}"] for key in _MOMENTS}
                optimiser.state[parameter] = moments
