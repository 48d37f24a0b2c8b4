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

from baselines.engine.checkpoint import (
    read_checkpoint,
    remove_partial_writes,
    restore,
    write_checkpoint,
)
from baselines.engine.display import Display
from baselines.engine.evaluation import evaluate_member
from baselines.engine.fine_tuning import FineTuning, OnlineAgent
from baselines.engine.ledger import Ledger, LogEntry, same_results
from baselines.engine.online_data import MemberEnvironments, OnlineData
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.engine.training import claim
from hetero_bench.runs import Run, read_run_file, write_run


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
    path = tuning.checkpoint_path(Path(out))
    with claim(path.parent):
        remove_partial_writes(path)
        display = Display(tuning.title, tuning.steps, quiet=quiet)
        session = Session(tuning, Path(out), overwrite=overwrite)
        if session.ledger.step < tuning.steps:
            session.run(display)
        else:
            display.say(f"{tuning.title}: already fine-tuned, nothing to do")
        return session.record()


class Session:
    """One process's work: from the last checkpoint, or the trained population, to the records.

    Attributes:
        ledger: What has been done; its steps are those in the environment.
    """

    def __init__(self, tuning: FineTuning, out: Path, *, overwrite: bool):
        self._tuning, self._out, self._overwrite = tuning, out, overwrite
        self._path = tuning.checkpoint_path(out)
        self._saved: dict[str, Tensor] | None = None
        plan, trained = tuning.population.plan, tuning.population.ledger
        self.ledger = Ledger.begin(plan, overwrites=overwrite).model_copy(
            update={
                "fingerprint": tuning.fingerprint,
                "fine_tuning": tuning.settings,
                "evaluations": [each[-1:] for each in trained.evaluations],
                "diverged": dict(trained.diverged),
            }
        )
        if self._path.exists() and not overwrite:
            self._saved, facts = read_checkpoint(self._path)
            self.ledger = Ledger.model_validate(facts)
        if self.ledger.step < tuning.steps:
            self._refuse_overwriting(None)

    def _refuse_overwriting(self, own: list[Run] | None) -> None:
        for number, member in enumerate(self._tuning.population.plan.members):
            path = self._tuning.run_path(self._out, member)
            same = own and path.exists() and same_results(read_run_file(path)[0], own[number])
            if path.exists() and not same and not self._overwrite:
                raise FileExistsError(
                    f"results of another run are in the way: {path}. Give another output folder, "
                    "or overwrite them (--overwrite)."
                )

    def run(self, display: Display) -> None:
        """Fine-tunes to the end, with logs, evaluations and checkpoints on the way."""
        tuning, ledger = self._tuning, self.ledger
        learning = Learning(tuning)
        restore(learning.trainer.state_dict(), read_checkpoint(tuning.population.path)[0])
        if self._saved is not None:
            restore(learning.state_dict(), self._saved)
            display.say(f"{tuning.title}: resuming at step {ledger.step:,} from {self._path}")
        clock = time.perf_counter()
        with contextlib.closing(learning), display.running(ledger.step):
            while ledger.step < tuning.steps:
                stop = tuning.next_stop(ledger.step)
                learning.advance(stop)
                display.update(stop)
                ledger.step = stop
                done = tuning.population.plan.steps + stop
                ledger.log.append(LogEntry(step=done, metrics=learning.trainer.take_metrics()))
                for number in learning.trainer.frozen():
                    ledger.diverged.setdefault(number, done)
                evaluates = tuning.eval_every and stop % tuning.eval_every == 0
                if evaluates or stop == tuning.steps:
                    with display.paused():
                        self._evaluate(learning.trainer, done)
                ledger.wall_seconds += time.perf_counter() - clock
                clock = time.perf_counter()
                if stop % tuning.cut_every == 0 or stop == tuning.steps:
                    state = learning.state_dict()
                    write_checkpoint(self._path, state, ledger.model_dump(mode="json"))

    def _evaluate(self, trainer: Trainer, step: int) -> None:
        plan = self._tuning.population.plan
        for number, member in enumerate(plan.members):
            actor = trainer.agent.actor(number)
            record = evaluate_member(member, actor, step, plan.evaluation_episodes)
            self.ledger.evaluations[number].append(record)

    def record(self) -> list[Run]:
        """Writes the run records and returns them."""
        tuning, plan = self._tuning, self._tuning.population.plan
        runs = self.ledger.runs(plan)
        self._refuse_overwriting(runs)
        for member, run in zip(plan.members, runs, strict=True):
            write_run(run, tuning.run_path(self._out, member))
        return runs


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
