"""What a release pins about a dataset: counts and digests, computed for a manifest's author.

    python -m hetero_bench.pinning registry/gridworld.toml

prints, per dataset, the lines to paste into its table. Loading compares against them, so nothing
here ever writes a manifest: a pin is a statement of the author's, not of the code under test.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hetero_bench.arrays import dataset_digest, digest_arrays
from hetero_bench.loading import load
from hetero_bench.registry import read_manifest
from hetero_bench.sources.subset import OFFICIAL_DRAWS, digest_rows, draw_subset
from hetero_bench.spec import WHOLE, DatasetSpec, draw_artefact


def pins(spec: DatasetSpec, cache_dir: Path) -> dict[str, Any]:
    """Makes a dataset and returns what its manifest table should pin.

    Args:
        spec: A registered dataset, whole or a subset.
        cache_dir: Where to make it.

    Returns:
        ``transitions``, ``episodes`` (whole datasets) and ``sha256``; for a subset also
        ``index_sha256``, the digests of the rows of its official draws.
    """
    if spec.subset is None:
        arrays = load(spec.id, cache_dir=cache_dir).arrays
        return {
            "transitions": arrays.num_transitions,
            "episodes": arrays.num_episodes,
            "sha256": {WHOLE: dataset_digest(digest_arrays(arrays))},
        }
    parent = load(spec.subset.parent, cache_dir=cache_dir)
    digests, rows_digests = {}, []
    for draw in range(OFFICIAL_DRAWS):
        arrays, rows = draw_subset(parent.arrays, spec.subset.size, draw, parent.spec.subset_seed)
        digests[draw_artefact(draw)] = dataset_digest(digest_arrays(arrays))
        rows_digests.append(digest_rows(rows))
    return {"transitions": spec.subset.size, "sha256": digests, "index_sha256": rows_digests}


def main(manifest: str) -> None:
    """Prints the pins of every dataset of a manifest."""
    with tempfile.TemporaryDirectory() as folder:
        for spec in read_manifest(manifest).values():
            print(f"[datasets.{spec.name}]")
            for key, value in pins(spec, Path(folder)).items():
                print(f"{key} = {_toml(value)}")
            print()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    main(sys.argv[1])
