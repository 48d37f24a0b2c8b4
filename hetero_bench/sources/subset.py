"""Reduced-size data: whole trajectories drawn from a parent without replacement."""

from __future__ import annotations

import hashlib
import importlib
from types import ModuleType

import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.errors import DigestError, SizeError
from hetero_bench.registry import get_spec
from hetero_bench.sources import Answer, Request
from hetero_bench.spec import OFFICIAL_DRAWS, DatasetSpec, SubsetSource


def simulated(spec: DatasetSpec) -> bool:
    """Whether another CPU may give other bits: as far as the parent is made by a simulator."""
    assert spec.subset is not None
    parent = get_spec(spec.subset.parent)
    return any(_module(origin.kind).simulated(parent) for origin in parent.sources)


def whole_number(name: str, value: object) -> int:
    """Returns a size or draw as an int.

    Raises:
        TypeError: If it is not an integer.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}; expected a whole number (int)")
    return int(value)


def draw_subset(
    arrays: EpisodeArrays, size: int, draw: int, seed: int
) -> tuple[EpisodeArrays, np.ndarray]:
    """Draws ``size`` transitions as whole trajectories without replacement.

    The trajectories' order is a permutation fixed by (seed, draw) alone, so the draws of one
    parent are nested in size. The last trajectory is cut to fit and marked truncated.

    Args:
        arrays: The parent's arrays, ``N`` rows.
        size: Transitions to draw, 1 to ``N``.
        draw: Which draw, 0 to 4.
        seed: The parent manifest's ``subset_seed``.

    Returns:
        The subset, its rows in drawing order, and their (size,) int64 row numbers in the parent.

    Raises:
        SizeError: If size or draw is out of range.
        TypeError: If size or draw is not an integer.
    """
    size, draw = whole_number("size", size), whole_number("draw", draw)
    if not 1 <= size <= arrays.num_transitions:
        raise SizeError(
            f"size {size} was asked for; the data has {arrays.num_transitions} transitions"
        )
    if not 0 <= draw < OFFICIAL_DRAWS:
        raise SizeError(f"draw {draw} was asked for; the official draws are 0 to 4")
    generator = np.random.default_rng(np.random.SeedSequence([seed, draw]))
    return arrays.take_episodes(generator.permutation(arrays.num_episodes), size)


def digest_rows(rows: np.ndarray) -> str:
    """Returns the sha256 over row numbers as little-endian int64: a subset's identity."""
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<i8").tobytes()).hexdigest()


def identity(spec: DatasetSpec, source: SubsetSource) -> str:
    """Returns what the parent is made from, and what is drawn from it."""
    assert spec.subset is not None
    parent = get_spec(spec.subset.parent)
    origins = [_module(origin.kind).identity(parent, origin) for origin in parent.sources]
    return f"{origins} seed {parent.subset_seed} size {spec.subset.size}"


def fetch(spec: DatasetSpec, source: SubsetSource, request: Request) -> Answer:
    """Loads the parent and draws from it.

    Raises:
        DigestError: If the parent is the release's own and yet the rows drawn are not the ones
            that the manifest pins. (A parent rebuilt with other bits has other episodes; what is
            drawn from it says ``rebuilt``.)
    """
    subset = spec.subset
    assert subset is not None, "the manifest's validation asks for a subset table"
    parent = request.load(subset.parent)
    arrays, rows = draw_subset(parent.arrays, subset.size, request.draw, parent.spec.subset_seed)
    pinned = dict(enumerate(subset.index_sha256)).get(request.draw)
    drawn = digest_rows(rows)
    if parent.provenance.status == "verified" and pinned not in (None, drawn):
        raise DigestError(
            f"draw {request.draw} of {spec.id} took rows with digest {drawn}; the registry pins "
            f"{pinned}. NumPy's permutation stream may have changed; see constraints.txt."
        )
    return Answer(arrays, parent.provenance)


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"hetero_bench.sources.{kind}")
