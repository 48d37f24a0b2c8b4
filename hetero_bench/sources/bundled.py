"""Small datasets that come with the package: ``registry/data/<id>/<artefact>.npz``, compressed.

A file holds the arrays under the names of :meth:`EpisodeArrays.named` and the notes as JSON text;
nothing in it is pickled. ``python -m hetero_bench.bundling`` writes them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.atomic import new_file
from hetero_bench.errors import SourceError
from hetero_bench.registry import registry_folder
from hetero_bench.sources import Answer, Request
from hetero_bench.spec import WHOLE, BundledSource, DatasetSpec, draw_artefact

_NOTES = "notes"


def simulated(spec: DatasetSpec) -> bool:
    """Bundled data has the same bits everywhere."""
    return False


def identity(spec: DatasetSpec, source: BundledSource) -> str:
    """Returns a digest over the digests that the registry pins."""
    pins = json.dumps(spec.sha256, sort_keys=True)
    return hashlib.sha256(pins.encode()).hexdigest()


def fetch(spec: DatasetSpec, source: BundledSource, request: Request) -> Answer:
    """Reads the file that came with the package.

    Raises:
        SourceError: If this draw is not bundled, or its file is damaged.
    """
    path = bundled_path(spec, WHOLE if spec.subset is None else draw_artefact(request.draw))
    if not path.is_file():
        has = ", ".join(sorted(file.stem for file in path.parent.glob("*.npz"))) or "nothing"
        reason = f". {source.reason}" if source.reason else ""
        raise SourceError(
            f"{path.stem} is not bundled; of {spec.id}, this release has {has}{reason}"
        )
    try:
        return Answer(read_arrays(path))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(
            f"{path} is damaged ({type(error).__name__}: {error}); install hetero-bench again"
        ) from error


def bundled_path(spec: DatasetSpec, artefact: str) -> Path:
    """Returns where an artefact's file is, or would be."""
    return registry_folder() / "data" / spec.id / f"{artefact}.npz"


def read_arrays(path: Path) -> EpisodeArrays:
    """Reads a bundled file.

    Raises:
        OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error: If it is damaged.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != _NOTES}
        notes = json.loads(str(file[_NOTES]))
    return EpisodeArrays.from_named(arrays, notes)


def write_arrays(arrays: EpisodeArrays, path: Path) -> None:
    """Writes a bundled file, whole or not at all."""
    notes = np.array(json.dumps(arrays.notes, sort_keys=True))
    named = dict(arrays.named())
    with new_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **{_NOTES: notes}, **named)
