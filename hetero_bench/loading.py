"""``load``: from a dataset's id to memory-mapped arrays, through the cache and the sources."""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from hetero_bench.arrays import EpisodeArrays, dataset_digest, digest_arrays
from hetero_bench.cache import (
    CacheEntry,
    DamagedEntryError,
    Origin,
    StaleEntryError,
    cache_folder,
)
from hetero_bench.dataset import Dataset
from hetero_bench.errors import DigestError, SizeError, SourceError
from hetero_bench.progress import progress_bar
from hetero_bench.provenance import Provenance, judge, package_versions
from hetero_bench.registry import get_spec
from hetero_bench.sources import Request
from hetero_bench.sources.subset import whole_number
from hetero_bench.spec import (
    OFFICIAL_DRAWS,
    WHOLE,
    D4RLSource,
    DatasetSpec,
    MinariSource,
    Source,
    draw_artefact,
)

_logger = logging.getLogger(__name__)
_ADVICE = "Correct the manifest, or register the file again"


def load(
    dataset_id: str,
    *,
    size: int | None = None,
    draw: int | None = None,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Loads a dataset, making it first if it is not in the cache.

    A size other than a reduced dataset's own is drawn from its parent, so that draws stay nested in
    size, and is named after the parent: ``load("gridworld-hetero-10k", size=500)`` is
    ``load("gridworld-hetero", size=500)``.

    Args:
        dataset_id: Canonical id (``gridworld-hetero-v0``) or bare name (``gridworld-hetero``).
        size: Draw this many transitions as whole trajectories; all of them by default.
        draw: Which official draw of a subset, 0 to 4; 0 by default. Draws are nested in size.
        source: Ask this kind of source only (``bundled``, ``build``, ``subset``, ...), and keep its
            data apart in the cache; by default those of the manifest in order.
        cache_dir: Cache folder; by default ``HETERO_BENCH_CACHE`` or the platform's own.

    Returns:
        The dataset, memory-mapped, with its provenance.

    Raises:
        UnknownDatasetError: If no dataset has that id; the message suggests the nearest.
        SizeError: If size or draw is not to be had.
        TypeError: If size or draw is not an integer.
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
            TypeError: If size or draw is not an integer.
            ValueError: If the dataset has no such source.
        """
        size = None if size is None else whole_number("size", size)
        draw = None if draw is None else whole_number("draw", draw)
        if spec.subset is not None and size == spec.subset.size:
            size = None
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
        """The artefact's folder name in the cache, e.g. ``whole`` or ``size-5000-draw-3``.

        A chosen source is added, and for data from a user's files a key of their paths, so that
        files in different places can be registered under one name in turn: ``whole@1f2e3d4c``.
        """
        name = self.pinned_as
        if self.size is not None:
            name = f"size-{self.size}-{name}"
        paths = "\n".join(_paths(self.spec))
        key = hashlib.sha256(paths.encode()).hexdigest()[:8] if paths else None
        suffix = "-".join(part for part in (self.source, key) if part)
        return f"{name}@{suffix}" if suffix else name

    @property
    def pinned_as(self) -> str:
        """The artefact's name in the manifest's ``sha256``: ``whole``, or ``draw-3``."""
        return WHOLE if self.draw is None else draw_artefact(self.draw)

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
        except (DamagedEntryError, StaleEntryError) as error:
            _logger.debug("%s", error)
        with entry.lock():
            try:
                return self._open(entry)  # another process may have made it meanwhile
            except FileNotFoundError:
                pass
            except StaleEntryError as error:
                entry.discard(str(error))
            except DamagedEntryError as error:
                entry.set_aside(str(error))
            self._make(entry, root)
            return self._open(entry)

    def _open(self, entry: CacheEntry) -> Dataset:
        if not entry.exists():
            raise FileNotFoundError(entry.folder)
        arrays, metadata = entry.read()
        current = {source.kind: _identity(self.spec, source) for source in self.sources}
        origin = metadata.origin
        if current.get(origin.source, "") not in (None, origin.identity):
            raise StaleEntryError(
                f"{entry.folder} was made from another recipe, file or parent than today's"
            )
        try:
            provenance = judge(metadata.provenance, self.spec, self.pinned_as)
        except DigestError as error:
            raise DamagedEntryError(f"{entry.folder}: {error}") from error
        if provenance.status == "rebuilt":
            _logger.warning(
                "%s (%s) was rebuilt with other bits than the release's: simulators differ between "
                "CPU classes. Results on it are not exactly comparable",
                self.spec.id,
                self.name,
            )
        return Dataset(
            spec=self.spec,
            arrays=arrays,
            provenance=provenance,
            size=self.size,
            draw=self.draw,
            folder=entry.folder,
        )

    def _make(self, entry: CacheEntry, root: Path) -> None:
        """Asks the sources in order and stores the first answer that holds."""
        refusals: list[str] = []
        cause: Exception | None = None
        for source in self.sources:
            module = _module(source.kind)
            try:
                with progress_bar(f"{self.spec.id} ({self.name}): {source.kind}") as progress:
                    request = Request(
                        draw=self.draw or 0,
                        load=functools.partial(load, cache_dir=root),
                        progress=progress,
                        keep=entry.folder.with_name(f".parts-{entry.folder.name}"),
                    )
                    arrays, parent = module.fetch(self.spec, source, request)
                arrays.validate()
                self._require_as_stated(arrays)
                provenance = judge(
                    Provenance(
                        status="unpinned",
                        source=source.kind,
                        digest=dataset_digest(digest_arrays(arrays)),
                        recipe_digest=self.spec.recipe_digest if source.kind == "build" else None,
                        parent=parent,
                        versions=package_versions("gymnasium", "mujoco", "h5py", "minari"),
                        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    ),
                    self.spec,
                    self.pinned_as,
                )
                if self.draw is None and provenance.status != "rebuilt":
                    # Rebuilt data has other bits, so that other episodes end early.
                    self._require_count("episodes", arrays.num_episodes, self.spec.episodes)
            except (SourceError, OSError, ValueError) as error:
                refusals.append(f"{source.kind}: {error}")
                cause = error
                continue
            origin = Origin(source=source.kind, identity=_identity(self.spec, source))
            entry.write(arrays, origin, provenance)
            return
        raise SourceError(f"no source gave {self.spec.id}: " + "; ".join(refusals)) from cause

    def _require_as_stated(self, arrays: EpisodeArrays) -> None:
        """Checks that data has the shapes, dtypes and number of rows that its manifest states.

        Raises:
            SourceError: If it has not.
        """
        spec = self.spec
        for name, array, stated in (
            ("observations", arrays.observations, spec.observation),
            ("actions", arrays.actions, spec.action),
        ):
            found = (array.shape[1:], array.dtype.name)
            if stated is not None and found != (stated.shape, stated.dtype):
                raise SourceError(
                    f"{name} have shape {found[0]} and dtype {found[1]}; {spec.id} is registered "
                    f"with {stated.shape} and {stated.dtype}. {_ADVICE}"
                )
        if spec.action is not None and spec.action.n is not None:
            low, high = int(arrays.actions.min()), int(arrays.actions.max())
            if low < 0 or high >= spec.action.n:
                raise SourceError(
                    f"actions reach from {low} to {high}; {spec.id} is registered with "
                    f"{spec.action.n} of them. {_ADVICE}"
                )
        self._require_count("transitions", arrays.num_transitions, self.spec.transitions)

    def _require_count(self, name: str, count: int, stated: int | None) -> None:
        """Checks a number of the data, if the manifest states it.

        Raises:
            SourceError: If it is another.
        """
        if stated not in (None, count):
            raise SourceError(
                f"{count} {name}; {self.spec.id} is registered with {stated}. {_ADVICE}"
            )


def _identity(spec: DatasetSpec, source: Source) -> str | None:
    """Returns what the source would make it from; None where that cannot be told any more."""
    return _module(source.kind).identity(spec, source)


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"hetero_bench.sources.{kind}")


def _paths(spec: DatasetSpec) -> list[str]:
    """Returns the users' files that a dataset, or the parent of a subset, is read from."""
    if spec.subset is not None:
        spec = get_spec(spec.subset.parent)
    return [
        str(Path(source.path).expanduser().resolve())
        for source in spec.sources
        if isinstance(source, D4RLSource | MinariSource) and source.path is not None
    ]
