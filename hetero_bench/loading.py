"""``load``: from a dataset's id to memory-mapped arrays, through the cache and the sources."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from hetero_bench.arrays import dataset_digest, digest_arrays
from hetero_bench.cache import CacheEntry, DamagedEntryError, cache_folder
from hetero_bench.dataset import Dataset
from hetero_bench.errors import DigestError, SizeError, SourceError
from hetero_bench.progress import progress_bar
from hetero_bench.provenance import Provenance, Status, package_versions
from hetero_bench.registry import get_spec
from hetero_bench.sources import Request
from hetero_bench.sources.subset import OFFICIAL_DRAWS
from hetero_bench.spec import WHOLE, DatasetSpec, Source, draw_artefact

_logger = logging.getLogger(__name__)


def load(
    dataset_id: str,
    *,
    size: int | None = None,
    draw: int | None = None,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Loads a dataset, making it first if it is not in the cache.

    Args:
        dataset_id: Canonical id (``gridworld-hetero-v0``) or bare name (``gridworld-hetero``).
        size: Draw this many transitions as whole trajectories; all of them by default.
        draw: Which official draw of a subset, 0 to 4; 0 by default. Draws are nested in size.
        source: Ask this kind of source only (``build``, ``subset``, ...), and keep its data apart
            in the cache; by default those of the manifest in order.
        cache_dir: Cache folder; by default ``HETERO_BENCH_CACHE`` or the platform's own.

    Returns:
        The dataset, memory-mapped, with its provenance.

    Raises:
        UnknownDatasetError: If no dataset has that id; the message suggests the nearest.
        SizeError: If size or draw is not to be had.
        SourceError: If no source answers, or none gives the data that the registry pins.
        OSError: If the cache cannot be written; nothing is left behind then.
    """
    artefact = Artefact.of(get_spec(dataset_id), size=size, draw=draw, source=source)
    return artefact.load(cache_folder(cache_dir))


class Artefact:
    """One loadable thing: a dataset, or one draw of a subset, from chosen sources."""

    def __init__(
        self, spec: DatasetSpec, size: int | None, draw: int | None, source: str | None
    ) -> None:
        """Use :meth:`of`, which checks the request."""
        self.spec = spec
        self.size = size
        self.draw = draw
        self.source = source

    @classmethod
    def of(
        cls,
        spec: DatasetSpec,
        *,
        size: int | None = None,
        draw: int | None = None,
        source: str | None = None,
    ) -> Artefact:
        """Checks a request against what the dataset has.

        Raises:
            SizeError: If size or draw is not to be had.
            ValueError: If the dataset has no such source.
        """
        whole = spec.transitions
        if size is not None and (size < 1 or (whole is not None and size > whole)):
            raise SizeError(f"size {size} was asked for; {spec.id} has {whole} transitions")
        if draw is not None and not 0 <= draw < OFFICIAL_DRAWS:
            raise SizeError(f"draw {draw} was asked for; the official draws are 0 to 4")
        if draw is not None and size is None and spec.subset is None:
            raise SizeError(f"{spec.id} is whole and has no draws; give a size to draw a subset")
        if size is not None:
            # Another budget comes from the whole parent, so that draws stay nested in size.
            parent = get_spec(spec.subset.parent) if spec.subset else spec
            spec = parent.resized(size)
        kinds = [candidate.kind for candidate in spec.sources]
        if source is not None and source not in kinds:
            raise ValueError(f"{spec.id} has no source {source!r}; it has {', '.join(kinds)}")
        return cls(spec, size, (draw or 0) if spec.subset else None, source)

    @property
    def name(self) -> str:
        """The artefact's folder name in the cache, e.g. ``whole`` or ``size-5000-draw-3``."""
        name = WHOLE if self.draw is None else draw_artefact(self.draw)
        if self.size is not None:
            name = f"size-{self.size}-{name}"
        return name if self.source is None else f"{name}@{self.source}"

    @property
    def sources(self) -> list[Source]:
        """The sources to ask, in order."""
        return [source for source in self.spec.sources if self.source in (None, source.kind)]

    def entry(self, root: Path) -> CacheEntry:
        """Returns the artefact's place in the cache."""
        return CacheEntry(root / self.spec.id / self.name)

    def load(self, root: Path) -> Dataset:
        """Opens the artefact, making it first where it is missing, stale or damaged."""
        entry = self.entry(root)
        try:
            return self._open(entry)
        except FileNotFoundError:
            pass
        except DamagedEntryError as error:
            _logger.debug("%s", error)
        with entry.lock():
            try:
                return self._open(entry)  # another process may have made it meanwhile
            except FileNotFoundError:
                pass
            except DamagedEntryError as error:
                entry.set_aside(str(error))
            self._make(entry, root)
            return self._open(entry)

    def _open(self, entry: CacheEntry) -> Dataset:
        if not entry.exists():
            raise FileNotFoundError(entry.folder)
        arrays, metadata = entry.read()
        current = {source.kind: _identity(self.spec, source) for source in self.sources}
        origin = metadata["origin"]
        if current.get(origin["source"], "") not in (None, origin["identity"]):
            raise DamagedEntryError(
                f"{entry.folder} was made from another recipe, file or parent than today's"
            )
        return Dataset(
            spec=self.spec,
            arrays=arrays,
            provenance=Provenance.model_validate(metadata["provenance"]),
            size=self.size,
            draw=self.draw,
            folder=entry.folder,
        )

    def _make(self, entry: CacheEntry, root: Path) -> None:
        """Asks the sources in order and stores the first answer that holds."""
        refusals: list[str] = []
        cause: Exception | None = None
        expected = self.spec.sha256.get(WHOLE if self.draw is None else draw_artefact(self.draw))
        for source in self.sources:
            module = importlib.import_module(f"hetero_bench.sources.{source.kind}")
            try:
                with progress_bar(f"{self.spec.id} ({self.name}): {source.kind}") as progress:
                    request = Request(
                        draw=self.draw or 0,
                        load=functools.partial(load, cache_dir=root),
                        progress=progress,
                    )
                    arrays, parent = module.fetch(self.spec, source, request)
                arrays.validate()
                digest = dataset_digest(digest_arrays(arrays))
                status = _status(digest, expected, parent, simulated=module.SIMULATED)
            except (SourceError, OSError, ValueError) as error:
                refusals.append(f"{source.kind}: {error}")
                cause = error
                continue
            provenance = Provenance(
                status=status,
                source=source.kind,
                digest=digest,
                expected_digest=expected,
                recipe_digest=self.spec.recipe_digest if source.kind == "build" else None,
                parent=parent,
                versions=package_versions("gymnasium", "mujoco", "h5py", "minari"),
                made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            entry.write(
                arrays,
                {
                    "origin": {"source": source.kind, "identity": _identity(self.spec, source)},
                    "provenance": provenance.model_dump(),
                },
            )
            return
        raise SourceError(f"no source gave {self.spec.id}: " + "; ".join(refusals)) from cause


def _identity(spec: DatasetSpec, source: Source) -> str | None:
    """Returns what the source would make it from; None where that cannot be told any more."""
    return importlib.import_module(f"hetero_bench.sources.{source.kind}").identity(spec, source)


def _status(
    digest: str, expected: str | None, parent: Provenance | None, *, simulated: bool
) -> Status:
    if expected is None:
        return "unpinned" if parent is None else parent.status
    if digest == expected:
        return "verified"
    if simulated:
        return "rebuilt"
    raise DigestError(f"its digest is {digest}; the registry pins {expected}")
