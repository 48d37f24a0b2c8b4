"""Full digests of what lies in the cache, compared with what was written and what is pinned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hetero_bench.cache import CacheEntry, DamagedEntryError
from hetero_bench.errors import DigestError
from hetero_bench.provenance import Status, judge
from hetero_bench.registry import all_specs
from hetero_bench.spec import DatasetSpec


@dataclass(frozen=True)
class Verdict:
    """What was found about one cached artefact.

    Attributes:
        dataset_id: Canonical id.
        artefact: ``whole``, ``draw-0``, ``size-5000-draw-3``.
        folder: Where it lies.
        state: ``damaged``, or its status by today's registry: ``verified`` (equal to the
            registry's digest), ``rebuilt`` (known to differ), ``unpinned``.
        reason: Why it is damaged, else empty.
    """

    dataset_id: str
    artefact: str
    folder: Path
    state: Status | Literal["damaged"]
    reason: str = ""


def cached_artefacts(root: Path, dataset_ids: Iterable[str] | None = None) -> Iterator[Path]:
    """Yields the folders of complete artefacts, what was set aside left out.

    Args:
        root: The cache folder.
        dataset_ids: Only these datasets; all by default.
    """
    if dataset_ids is None:
        dataset_ids = sorted(folder.name for folder in root.glob("[!.]*") if folder.is_dir())
    for dataset_id in dataset_ids:
        for folder in sorted((root / dataset_id).glob("[!.]*")):
            if folder.is_dir() and ".damaged-" not in folder.name:
                yield folder


def verify(root: Path, dataset_ids: Iterable[str] | None = None) -> Iterator[Verdict]:
    """Reads every byte of cached artefacts and compares digests; changes nothing.

    Args:
        root: The cache folder.
        dataset_ids: Only these datasets; all by default.

    Yields:
        A verdict for each artefact, in order of their names.
    """
    specs = {spec.id: spec for spec in all_specs().values()}
    for folder in cached_artefacts(root, dataset_ids):
        dataset_id = folder.parent.name
        try:
            state, reason = _state(folder, specs.get(dataset_id)), ""
        except DamagedEntryError as error:
            state, reason = "damaged", str(error)
        yield Verdict(dataset_id, folder.name, folder, state, reason)


def _state(folder: Path, spec: DatasetSpec | None) -> Status:
    provenance = CacheEntry(folder).verify().provenance
    if spec is None:
        return provenance.status
    # A draw of another size, size-5000-draw-3, has no pin of its own; a source or key follows an @.
    artefact = folder.name.partition("@")[0]
    try:
        return judge(provenance, spec, artefact).status
    except DigestError as error:
        raise DamagedEntryError(f"{folder}: {error}") from error
