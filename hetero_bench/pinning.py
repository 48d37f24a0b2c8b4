"""What a release pins about a dataset: counts and digests, computed for a manifest's author.

    python -m hetero_bench.pinning registry/gridworld.toml [names]

prints, per dataset, or per dataset named, the lines to paste into its table. What the table pins so
far is ignored. Loading compares against the pins, so nothing here ever writes a manifest: a pin is
a statement of the author's, not of the code under test.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hetero_bench.arrays import EpisodeArrays, dataset_digest, digest_arrays
from hetero_bench.importing import register
from hetero_bench.loading import Artefact
from hetero_bench.registry import get_spec
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
        arrays = _unpinned(spec, cache_dir)
        return {
            "transitions": arrays.num_transitions,
            "episodes": arrays.num_episodes,
            "sha256": {WHOLE: dataset_digest(digest_arrays(arrays))},
        }
    parent = get_spec(spec.subset.parent)
    whole = _unpinned(parent, cache_dir)
    digests, rows_digests = {}, []
    for draw in range(OFFICIAL_DRAWS):
        arrays, rows = draw_subset(whole, spec.subset.size, draw, parent.subset_seed)
        digests[draw_artefact(draw)] = dataset_digest(digest_arrays(arrays))
        rows_digests.append(digest_rows(rows))
    return {"transitions": spec.subset.size, "sha256": digests, "index_sha256": rows_digests}


def _unpinned(spec: DatasetSpec, cache_dir: Path) -> EpisodeArrays:
    free = spec.model_copy(update={"sha256": {}, "transitions": None, "episodes": None})
    return Artefact.of(free).load(cache_dir).arrays


def main(manifest: str, names: Sequence[str] = ()) -> None:
    """Prints the pins of a manifest's datasets: of those named, or of all.

    Raises:
        ValueError: If the manifest has no dataset of a name.
    """
    specs = {spec.name: spec for spec in register(manifest)}
    unknown = sorted(set(names) - set(specs))
    if unknown:
        raise ValueError(f"{manifest} has no {', '.join(unknown)}; it has {', '.join(specs)}")
    with tempfile.TemporaryDirectory() as folder:
        for spec in map(specs.__getitem__, names or specs):
            print(f"[datasets.{spec.name}]")
            for key, value in pins(spec, Path(folder)).items():
                print(f"{key} = {toml_value(value)}")
            print()


def toml_value(value: Any) -> str:
    """Writes a JSON value without nulls as TOML, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prints what a manifest should pin.")
    parser.add_argument("manifest", help="TOML file")
    parser.add_argument("names", nargs="*", help="datasets; all by default")
    arguments = parser.parse_args()
    main(arguments.manifest, arguments.names)
