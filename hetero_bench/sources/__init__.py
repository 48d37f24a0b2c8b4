"""Where a dataset's bytes come from: one module per kind of source.

A source module has

- ``fetch(spec, source, request) -> Answer``, which raises
  :class:`hetero_bench.errors.SourceError` or :class:`OSError` when it cannot answer; the next
  source of the manifest is then asked;
- ``identity(spec, source) -> str | None``, a cheap text that changes when the data would, so that
  the cache knows when an entry is stale (None: cannot be told any more, keep what is cached);
- ``simulated(spec) -> bool``, whether another CPU may give other bits than those that the
  registry pins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.progress import ProgressCallback
from hetero_bench.provenance import Provenance

if TYPE_CHECKING:
    from hetero_bench.dataset import Dataset


@dataclass(frozen=True)
class Request:
    """What a source is asked for.

    Attributes:
        draw: The official draw wanted, for sources that draw subsets.
        load: Loads another dataset through the same cache, by name.
        progress: Told how far a long build is.
        keep: Folder of this artefact's own for finished parts of a build, so that an interrupted
            one goes on where it stopped.
    """

    draw: int
    load: Callable[[str], Dataset]
    progress: ProgressCallback
    keep: Path


class Answer(NamedTuple):
    """What a source gives: the arrays and, for a subset, its parent's provenance."""

    arrays: EpisodeArrays
    parent: Provenance | None = None
