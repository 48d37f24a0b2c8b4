"""Every official dataset that is made within seconds has the bits that its manifest pins."""

from __future__ import annotations

import pytest

from hetero_bench.arrays import dataset_digest, digest_arrays
from hetero_bench.loading import load
from hetero_bench.registry import get_spec, list_datasets
from hetero_bench.sources.subset import digest_rows, draw_subset
from hetero_bench.spec import OFFICIAL_DRAWS, draw_artefact


@pytest.mark.slow
@pytest.mark.parametrize("spec", list_datasets(family="gridworld"), ids=lambda spec: spec.id)
def test_data_is_what_the_manifest_pins(spec, official_cache):
    if spec.subset is None:
        dataset = load(spec.id, cache_dir=official_cache)
        assert dataset.provenance.status == "verified"
        assert len(dataset) == spec.transitions
        assert dataset.arrays.num_episodes == spec.episodes
        assert dataset_digest(digest_arrays(dataset.arrays)) == spec.sha256["whole"]
        return
    assert len(spec.sha256) == len(spec.subset.index_sha256) == OFFICIAL_DRAWS
    parent = load(spec.subset.parent, cache_dir=official_cache)
    seed = get_spec(spec.subset.parent).subset_seed
    for draw in range(OFFICIAL_DRAWS):
        dataset = load(spec.id, draw=draw, cache_dir=official_cache)
        assert dataset.provenance.status == "verified"
        assert len(dataset) == spec.transitions
        assert dataset_digest(digest_arrays(dataset.arrays)) == spec.sha256[draw_artefact(draw)]
        _, rows = draw_subset(parent.arrays, spec.subset.size, draw, seed)
        assert digest_rows(rows) == spec.subset.index_sha256[draw]
