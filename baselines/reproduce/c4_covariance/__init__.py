"""``python -m baselines reproduce c4-covariance``: what C4's paper plots during training.

Qiao et al., "Less Is More: Clustered Cross-Covariance Control for Offline RL", Figures 1 and 11 to
13: which part of the TD loss drives its gradient, the variances and the cross covariance of
gradient pairs for the backbone alone, with LN, with DR3 and with C4, and the clusters that C4
finds. Short runs on a bundled dataset: the pictures show mechanisms, no scores that a paper would
report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

import hetero_bench
from baselines.reproduce.c4_covariance.observation import BACKBONES, Study, observe
from baselines.reproduce.c4_covariance.page import write_page
from hetero_bench.atomic import write_file


@dataclass(frozen=True)
class Reproduction:
    """Train a backbone alone and with LN, DR3 and C4, and draw what happens to its gradients.

    The same command again only writes the page.
    """

    dataset: str = "hopper-medium-replay-hb-10k"
    """Dataset id."""
    backbones: tuple[str, ...] = ("cql", "td3_bc")
    """cql, td3_bc, or both."""
    steps: int = 3_000
    """Gradient steps of every run."""
    observations: int = 12
    """Times at which measures are taken, evenly spread."""
    seeds: int = 2
    """Seeds per run; 0, 1, ..."""
    episodes: int = 5
    """Episodes per evaluation."""
    device: str = "cpu"
    """cpu, or cuda."""
    threads: int = 1
    """CPU threads."""
    out: Path = Path("runs/c4-covariance")
    """Folder of what was measured."""
    page: Path = Path("docs/results/c4-covariance.md")
    """The page to write; its figures go into a folder of its name."""

    def run(self) -> None:
        """Runs the reproduction.

        Raises:
            ValueError: If a backbone is unknown, or there are too few steps for the observations.
        """
        unknown = set(self.backbones) - set(BACKBONES)
        if unknown:
            raise ValueError(
                f"no backbone {', '.join(sorted(unknown))}; expected {' or '.join(BACKBONES)}"
            )
        if not 2 <= self.observations <= self.steps:
            raise ValueError(
                f"observations is {self.observations}; expected 2 or more, and no more than steps"
            )
        torch.set_num_threads(self.threads)
        for path in write_page([self._study(each) for each in self.backbones], self.page):
            print(path)

    def _study(self, backbone: str) -> Study:
        """Returns the study of a backbone, from the file of these options if it is there."""
        counts = (self.steps, self.observations, self.seeds, self.episodes)
        file = self.out / ("-".join([backbone, self.dataset, *map(str, counts)]) + ".json")
        if file.exists():
            return Study.model_validate_json(file.read_text())
        study = observe(
            hetero_bench.load(self.dataset),
            backbone,
            steps=self.steps,
            observations=self.observations,
            seeds=tuple(range(self.seeds)),
            episodes=self.episodes,
            device=self.device,
        )
        write_file(file, study.model_dump_json() + "\n")
        return study
