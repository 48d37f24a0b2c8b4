"""Writes the files that a release bundles, for a manifest's author.

    python -m hetero_bench.bundling antmaze-large-noisy-10k [more ids] [--draws 0 1 2]

makes each dataset from the other sources of its manifest and writes ``registry/data/<id>``. What
the registry pins is checked on the way, so pin first (``hetero_bench.pinning``).
"""

from __future__ import annotations

import argparse

from hetero_bench.loading import load
from hetero_bench.registry import get_spec
from hetero_bench.sources.bundled import bundled_path, write_arrays
from hetero_bench.spec import WHOLE, draw_artefact


def bundle(dataset_id: str, draw: int = 0) -> None:
    """Makes an artefact and writes its bundled file.

    Args:
        dataset_id: A dataset that names ``bundled`` among its sources.
        draw: Which draw, if it is a subset.

    Raises:
        ValueError: If its manifest does not name that source, or no other.
        SourceError: If the data cannot be made, or is not what the registry pins.
    """
    spec = get_spec(dataset_id)
    kinds = [source.kind for source in spec.sources]
    others = [kind for kind in kinds if kind != "bundled"]
    if "bundled" not in kinds or not others:
        raise ValueError(
            f"{spec.id} has sources {', '.join(kinds)}; expected 'bundled' and one to make it from"
        )
    draws = None if spec.subset is None else draw
    dataset = load(spec.id, draw=draws, source=others[0])
    path = bundled_path(spec, WHOLE if draws is None else draw_artefact(draw))
    write_arrays(dataset.arrays, path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {dataset.provenance.status}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes the files that a release bundles.")
    parser.add_argument("ids", nargs="+", help="datasets to bundle")
    parser.add_argument("--draws", nargs="+", type=int, default=[0], help="of subsets; default 0")
    arguments = parser.parse_args()
    for name in arguments.ids:
        for number in arguments.draws:
            bundle(name, number)
