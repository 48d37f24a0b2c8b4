"""One seed for a whole grade, and a random stream of its own for every name in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from hetero_bench import bootstrap
from hetero_bench.bootstrap import Estimate, Statistic
from hetero_bench.scoring import Scores


@dataclass(frozen=True)
class Resampling:
    """How a grade bootstraps.

    Attributes:
        seed: Seed of all streams.
        resamples: Number of resamples of each estimate.
    """

    seed: int
    resamples: int

    def stream(self, *names: str) -> np.random.Generator:
        """A fresh generator that depends on the seed and the names only.

        An interval therefore does not change because another method is graded along, and all
        statistics of one entry on the same data see the same resamples.
        """
        digest = hashlib.sha256("\x1f".join(names).encode()).digest()
        return np.random.default_rng([self.seed, int.from_bytes(digest)])

    def estimate(self, statistic: Statistic, *scores: Scores, names: tuple[str, ...]) -> Estimate:
        """Bootstraps a scalar statistic from the stream of these names."""
        return bootstrap.estimate(
            statistic, *scores, rng=self.stream(*names), resamples=self.resamples
        )

    def distribution(
        self, statistic: Statistic, *scores: Scores, names: tuple[str, ...]
    ) -> np.ndarray:
        """Bootstrap distribution (R, ...) of any statistic from the stream of these names."""
        return bootstrap.bootstrap(
            statistic, *scores, rng=self.stream(*names), resamples=self.resamples
        )
