"""Where evaluated episodes ended, so that one sees where a policy gets stuck."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hetero_bench.envs.regions import Regions
from hetero_bench.formatting import NONE


class RegionEnds(NamedTuple):
    """The episodes that ended in one region.

    Attributes:
        region: Its name.
        distance: Moves from its nearest cell to the goal on a shortest path.
        episodes: How many ended there.
        successes: How many of them succeeded, None where the task has no notion of success.
        timeouts: How many of them ran out of time.
    """

    region: str
    distance: int
    episodes: int
    successes: int | None
    timeouts: int


@dataclass(frozen=True, eq=False)
class Ends:
    """Where and how ``K`` episodes ended.

    Attributes:
        regions: The maze's regions.
        positions: (K, 2) float64 last positions: x and y in metres in AntMaze, row and column in
            the gridworld.
        timeouts: (K,) bool, whether the episode ended by running out of time.
        successes: (K,) bool, None where the task has no notion of success.
    """

    regions: Regions
    positions: np.ndarray
    timeouts: np.ndarray
    successes: np.ndarray | None

    @cached_property
    def episode_regions(self) -> np.ndarray:
        """(K,) int64 number of the region that each episode ended in."""
        return self.regions.locate(self.positions)

    def by_region(self) -> list[RegionEnds]:
        """Returns the regions in which an episode ended, the nearest to the goal first."""
        counts = []
        for region in np.unique(self.episode_regions).tolist():
            here = self.episode_regions == region
            counts.append(
                RegionEnds(
                    region=self.regions.names[region],
                    distance=int(self.regions.distances[region]),
                    episodes=int(here.sum()),
                    successes=None if self.successes is None else int(self.successes[here].sum()),
                    timeouts=int(self.timeouts[here].sum()),
                )
            )
        return counts

    def document(self) -> dict[str, Any]:
        """Returns JSON values: every episode's last position and region, and who timed out."""
        return {
            "positions": self.positions.tolist(),
            "regions": [self.regions.names[region] for region in self.episode_regions.tolist()],
            "timeouts": self.timeouts.tolist(),
        }

    def __str__(self) -> str:
        """A table of :meth:`by_region`."""
        rows = [("ended in", "moves to goal", "episodes", "succeeded", "timed out")]
        rows += [tuple(NONE if n is None else str(n) for n in row) for row in self.by_region()]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(
            "  ".join([row[0].ljust(first), *(map(str.rjust, row[1:], others))]) for row in rows
        )
