"""Fine-tunes trained populations in their environments; resumes where it was interrupted.

As in Wu et al., "Supported Policy Optimization for Offline Reinforcement Learning", NeurIPS 2022,
and in CAR, Section 5.5 and appendix B.5: in each step every member takes one action in its own
environment, its policy's plus normal noise, and then one update on its dataset and what it has
collected. What holds the policy to the data gets less weight over time; models of the data stay as
they are.

Checkpoints are taken at given steps, and there all episodes are cut off and new ones begin: so what
a simulator holds need not be saved, and an interrupted run continues to the same results. As at a
time limit, the cut is no termination to the critics.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from baselines.engine.checkpoint import read_checkpoint, restore
from baselines.engine.display import Display
from baselines.engine.evaluators import Evaluators
from baselines.engine.fine_tuning import FineTuning, OnlineAgent
from baselines.engine.ledger import Ledger
from baselines.engine.online_data import MemberEnvironments, OnlineData
from baselines.engine.random import MemberRandom
from baselines.engine.session import Session, claim
from baselines.engine.trainer import Trainer
from hetero_bench.runs import Run


def fine_tune(
    tuning: FineTuning,
    out: str | os.PathLike[str] = "runs",
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> list[Run]:
    """Fine-tunes a population and writes one run JSON per member.

    Its first evaluation is that of the trained policy, at the steps it was trained for; those of
    the fine-tuned one follow. The same call continues a run that was interrupted, with the result
    it would have had, and returns the records of one that has finished.

    Args:
        tuning: What is done.
        out: Folder for results; see :meth:`FineTuning.run_path`.
        overwrite: Replace finished results, of this run or of others.
        quiet: Show no progress.

    Returns:
        (P,) run records.

    Raises:
        FileExistsError: If results of another run would be overwritten.
        RuntimeError: If another process is fine-tuning the same population.
    """
    out = Path(out)
    with claim(tuning.checkpoint_path(out)):
        display = Display(tuning.title, tuning.steps, quiet=quiet)
        session = FineTuningSession(tuning, out, display, overwrite=overwrite)
        if not session.complete:
            session.run()
        return session.record()


class FineTuningSession(Session):
    """Work on a fine-tuning; the ledger's steps are those in the environment."""

    def __init__(self, tuning: FineTuning, out: Path, display: Display, *, overwrite: bool):
        plan, trained = tuning.population.plan, tuning.population.ledger
        beginning = Ledger.begin(plan, overwrites=overwrite).model_copy(
            update={
                "fingerprint": tuning.fingerprint,
                "fine_tuning": tuning.settings,
                "evaluations": [each[-1:] for each in trained.evaluations],
                "diverged": dict(trained.diverged),
                "wall_seconds": trained.wall_seconds,
                "refresh_seconds": trained.refresh_seconds,
            }
        )
        super().__init__(tuning, plan, beginning, out, display, earlier_steps=plan.steps)
        self._tuning = tuning

    def run(self) -> None:
        """Fine-tunes to the end, with logs, evaluations and checkpoints on the way."""
        tuning, ledger, display = self._tuning, self.ledger, self.display
        learning = Learning(tuning)
        restore(learning.trainer.state_dict(), read_checkpoint(tuning.population.path)[0])
        if self.saved is not None:
            restore(learning.state_dict(), self.saved)
            self._say_resuming()
        clock = time.perf_counter()
        evaluators = Evaluators(self.plan, 0, display.paused)
        with contextlib.closing(learning), display.running(ledger.step), evaluators:
            while ledger.step < tuning.steps:
                stop = tuning.next_stop(ledger.step)
                learning.advance(stop)
                display.update(stop)
                self._advanced(stop, learning.trainer)
                self._begin_evaluations(evaluators, learning.trainer)
                self._take_evaluations(evaluators)
                ledger.wall_seconds += time.perf_counter() - clock
                clock = time.perf_counter()
                if stop % tuning.cut_every == 0 or stop == tuning.steps:
                    self._save(learning.state_dict())


class Learning:
    """A population that acts, collects and learns.

    Args:
        tuning: What is done.

    Attributes:
        trainer: The learners and their datasets.
    """

    def __init__(self, tuning: FineTuning):
        plan = tuning.population.plan
        # Without a number of steps no step size falls to zero at the end of training.
        self.trainer = Trainer(
            plan.method, tuning.members, tuning.device, precision=plan.precision, capture=False
        )
        data = self.trainer.data
        self._tuning = tuning
        self._data = OnlineData(data, tuning.steps)
        self._environments = MemberEnvironments(plan.members)
        self._episodes = torch.from_numpy(self._environments.episodes)
        seeds = [member.seed for member in plan.members]
        self._exploration = MemberRandom(seeds, "exploration", data.device)
        self._frames = [data.frame(number) for number in range(data.num_members)]
        prepared = [plan.method.prepare(each.config, each.dataset) for each in plan.members]
        self._scale, self._shift = (
            np.array([getattr(each, name) for each in prepared], np.float32)
            for name in ("reward_scale", "reward_shift")
        )

    def advance(self, stop: int) -> None:
        """Takes steps until ``stop`` of them have been taken in all."""
        agent = cast(OnlineAgent, self.trainer.agent)
        everyone = np.ones(self.trainer.data.num_members, bool)
        with self.trainer.precision:
            for step in range(self._data.count, stop):
                if step % self._tuning.cut_every == 0:
                    self._environments.begin(everyone)
                self._collect(agent)
                batch = self._data.sample(self.trainer.batches, self.trainer.batch_size)
                factor = self._tuning.regulariser(step)
                self.trainer.note(agent.update_online(batch, step, factor))

    @torch.no_grad()
    def _collect(self, agent: OnlineAgent) -> None:
        """Takes one step in every environment and keeps the transitions."""
        device = self.trainer.data.device
        observations = self._observe(self._environments.observations)
        chosen = agent.act(observations.unsqueeze(1)).squeeze(1)
        noise = self._exploration.normal(chosen.shape[-1])
        actions = (chosen + self._tuning.noise * noise).clamp(-1.0, 1.0)
        own = [frame.act(each) for frame, each in zip(self._frames, actions.cpu(), strict=True)]
        steps = self._environments.step(torch.stack(own).numpy())
        self._data.append(
            observations=observations,
            actions=actions,
            rewards=torch.from_numpy(self._scale * steps.rewards + self._shift).to(device),
            next_observations=self._observe(steps.next_observations),
            terminations=torch.from_numpy(steps.terminations).to(device),
        )

    def _observe(self, observations: np.ndarray) -> Tensor:
        """Returns (P, *obs) what networks see, on the device."""
        raw = torch.from_numpy(observations)
        seen = [frame.observe(each) for frame, each in zip(self._frames, raw, strict=True)]
        return torch.stack(seen).to(self.trainer.data.device)

    def close(self) -> None:
        """Frees what the environments hold."""
        self._environments.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine what follows, where episodes are cut off."""
        return {
            **self.trainer.state_dict(),
            "online": {
                **self._data.state_dict(),
                "episodes": self._episodes,
                "exploration": self._exploration.state_dict(),
            },
        }
