"""Full digests of what lies in the cache, compared with what was written and what is pinned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hetero_bench.arrays import dataset_digest
from hetero_bench.cache import CacheEntry, DamagedEntryError
from hetero_bench.provenance import Provenance, Status
from hetero_bench.registry import all_specs
from hetero_bench.spec import DatasetSpec


@dataclass(frozen=True)
class Verdict:
    """What was found about one cached artefact.

    Attributes:
        dataset_id: Canonical id.
        artefact: ``whole``, ``draw-0``, ``size-5000-draw-3``.
        folder: Where it lies.
        state: ``damaged``, or what its provenance says: ``verified`` (equal to the registry's
            digest), ``rebuilt`` (known to differ), ``unpinned``.
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
    entry = CacheEntry(folder)
    entry.verify()
    digest = dataset_digest(entry.digests())
    try:
        provenance = Provenance.model_validate(entry.read()[1]["provenance"])
    except (KeyError, ValueError) as error:
        raise DamagedEntryError(f"{folder}: its metadata lacks a valid provenance") from error
    if provenance.digest != digest:
        raise DamagedEntryError(f"{folder}: its provenance is that of other data")
    # A draw of another size has no pin of its own, nor has data from a chosen source only.
    pinned = None if spec is None else spec.sha256.get(folder.name.partition("@")[0])
    if pinned is not None and provenance.status != "rebuilt" and pinned != digest:
        raise DamagedEntryError(f"{folder}: its digest is {digest}; the registry pins {pinned}")
    return provenance.status
