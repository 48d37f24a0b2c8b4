"""Training and scoring of single cells: one case, one dataset, one library, one seed.

A cell is done when its file is there: a run record for the methods here, a policy and then an
evaluation for d3rlpy's. Whatever is missing is made, so a killed comparison continues.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hetero_bench
from baselines.engine import train
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.plan import config_values
from baselines.engine.preparation import Frame, Preparation, frame_of
from hetero_bench.atomic import write_file
from hetero_bench.runs import EvaluationRecord, Run, read_run_file

from .cases import Case
from .equivalents import d3rlpy_settings
from .process import command, environment, write_inputs


@dataclass(frozen=True)
class ExportedActor:
    """A policy that d3rlpy exported, as an actor of ``baselines``.

    Attributes:
        script: Maps prepared observations to actions in [-1, 1].
        frame: From the environment to the network and back.
    """

    script: torch.jit.ScriptModule
    frame: Frame

    @property
    def noise_size(self) -> int:
        """No noise: d3rlpy exports the most likely action."""
        return 0

    def __call__(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, obs) observations and (n, 0) noise to (n, act) actions."""
        return self.frame.act(self.script(self.frame.observe(observations)))


class Comparison:
    """One case on one dataset: its files and what makes them.

    Args:
        name: Of the case.
        case: The case.
        dataset: The dataset.
        work: Folder of everything that is not kept.
    """

    def __init__(self, name: str, case: Case, dataset: hetero_bench.Dataset, work: Path):
        self.name = name
        self.case = case
        self.dataset = dataset
        self.config = case.config(dataset.spec)
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        self.folder = work / dataset.id / f"{name}-{digest[:8]}"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two comparisons the same, as JSON values; other settings, other cells."""
        return {
            "case": self.name,
            "dataset": {"id": self.dataset.id, "digest": self.dataset.provenance.digest},
            "steps": self.case.steps,
            "preparation": dataclasses.asdict(self.preparation),
            "d3rlpy_settings": d3rlpy_settings(self.case.method, self.config, self.case.steps),
        }

    @property
    def preparation(self) -> Preparation:
        """What is done to the dataset before either library sees it."""
        return self.case.form.prepare(self.config, self.dataset)

    def policy_path(self, seed: int) -> Path:
        """Returns where d3rlpy's policy is saved."""
        return self.folder / "d3rlpy" / f"seed-{seed}" / "policy.pt"

    def score_path(self, seed: int) -> Path:
        """Returns where the evaluation of d3rlpy's policy is saved."""
        return self.policy_path(seed).with_name("evaluation.json")

    def run_path(self, seed: int) -> Path:
        """Returns where our run record is saved."""
        return self.folder / self.case.method / self.dataset.id / f"seed-{seed}" / "run.json"

    def prepare(self) -> None:
        """Writes the prepared transitions and the settings for d3rlpy's process."""
        write_inputs(self.folder, self.case.form, self.config, self.dataset, self.case.steps)

    def train_ours(self, seeds: Sequence[int]) -> None:
        """Trains and evaluates the seeds that are missing as one population."""
        missing = [seed for seed in seeds if not self.run_path(seed).exists()]
        if missing:
            train(
                self.case.form,
                [self.dataset],
                missing,
                self.config,
                steps=self.case.steps,
                out=self.folder,
                quiet=True,
            )

    def train_theirs(self, seed: int, python: str) -> None:
        """Trains d3rlpy's method in its own process, if its policy is missing."""
        if not self.policy_path(seed).exists():
            self.prepare()
            arguments = command(python, "train", self.folder, threads=1)
            arguments += ["--steps", str(self.case.steps), "--seed", str(seed)]
            arguments += ["--policy", str(self.policy_path(seed))]
            subprocess.run(arguments, check=True, env=environment(threads=1))

    def score_theirs(self, seed: int) -> None:
        """Evaluates d3rlpy's policy as ours are: same episodes, same seed."""
        if self.policy_path(seed).exists() and not self.score_path(seed).exists():
            script = torch.jit.load(str(self.policy_path(seed)))
            actor = ExportedActor(script, frame_of(self.dataset, self.preparation))
            member = Member(self.dataset, self.config, seed)
            record = evaluate_member(member, actor, self.case.steps, episodes=None)
            write_file(self.score_path(seed), record.model_dump_json())

    def document(self, seeds: Sequence[int]) -> dict[str, Any] | None:
        """Returns what is kept, as JSON: settings, versions and every episode's return.

        None unless each library has a seed that is done.
        """
        ours: dict[int, Run] = {}
        theirs: dict[int, EvaluationRecord] = {}
        versions: dict[str, str] = {}
        for seed in seeds:
            if self.run_path(seed).exists():
                (ours[seed],) = read_run_file(self.run_path(seed))
            if self.score_path(seed).exists():
                text = self.score_path(seed).read_text(encoding="utf-8")
                theirs[seed] = EvaluationRecord.model_validate_json(text)
                facts = self.policy_path(seed).with_suffix(".json").read_text(encoding="utf-8")
                versions = json.loads(facts)["versions"]
        if not ours or not theirs:
            return None
        commits = sorted({run.commit or hetero_bench.__version__ for run in ours.values()})
        return {
            **self.identity,
            "config": config_values(self.config),
            "versions": {"hetero_bench": ", ".join(commits)} | versions,
            "returns": {
                "hetero_bench": {
                    str(seed): _rounded(run.evaluations[-1]) for seed, run in ours.items()
                },
                "d3rlpy": {str(seed): _rounded(record) for seed, record in theirs.items()},
            },
        }


def _rounded(record: EvaluationRecord) -> list[float]:
    return [round(value, 2) for value in record.returns]
