"""Makes a task's six datasets, bundles their subsets and prints their manifest tables.

    python -m hetero_bench.recipes.export_locomotion --run runs/hopper
    python -m hetero_bench.recipes.measure_locomotion --env hopper --steps 1000000
    python -m hetero_bench.recipes.release_locomotion --run runs/hopper > hopper.toml

Paste what is printed into ``registry/locomotion.toml``. Files go to ``registry/data``; whole
datasets that policies collect are built in the cache, and taken from there if the command is given
again. The replay qualities are cut from the training's folder. Needs no torch.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hetero_bench.arrays import EpisodeArrays, dataset_digest, digest_arrays
from hetero_bench.cache import cache_folder
from hetero_bench.heteroskedasticity.marginal_fit import FitSettings
from hetero_bench.loading import Artefact
from hetero_bench.pinning import toml_value
from hetero_bench.recipes.locomotion_manifest import (
    QUALITIES,
    REPLAY,
    BehaviourPolicy,
    dataset_name,
    subset_table,
    to_spec,
    whole_table,
)
from hetero_bench.recipes.locomotion_measures import (
    heteroskedasticity_against,
    mean_return,
)
from hetero_bench.recipes.locomotion_policies import policy_name, policy_path
from hetero_bench.recipes.locomotion_runs import EXPERT_LEVEL, LocomotionRun
from hetero_bench.recipes.measure_locomotion import read_reference
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.sources.bundled import bundled_path, write_arrays
from hetero_bench.sources.subset import digest_rows, draw_subset
from hetero_bench.spec import OFFICIAL_DRAWS, WHOLE, draw_artefact

_LARGE_ENVS = ("hopper", "walker2d")
"""Tasks whose medium-replay also has a bundled 100k subset."""


@dataclass(frozen=True)
class Release:
    """What is released of a training.

    Attributes:
        run: Output folder of a finished training.
        last: Checkpoint to take for the final policy, in environment steps; the last by default.
        small: Transitions of the subset that every quality has.
        large: Transitions of the subset that hopper's and walker2d's medium-replay have too.
        collection: Recipe parameters besides the policies; empty for 1M transitions.
        fit: How behaviour that is not recorded is fitted, to measure heteroskedasticity.
    """

    run: Path
    last: int | None = None
    small: int = 10_000
    large: int = 100_000
    collection: dict[str, int] = field(default_factory=dict)
    fit: FitSettings = field(default_factory=FitSettings)


def tables(release: Release) -> Iterator[tuple[str, dict[str, Any]]]:
    """Makes the datasets one after the other and bundles their subsets.

    Args:
        release: What to release.

    Yields:
        Name and manifest table of each dataset, pins included.

    Raises:
        FileNotFoundError: If the policies are not bundled yet.
        ValueError: If the policies or reference returns are of another training.
    """
    trained = LocomotionRun(release.run, release.last)
    env, steps = trained.env, {"medium": trained.medium_steps(), "expert": trained.steps[-1]}
    policies = {
        name: _bundled_policy(trained, policy_name(env, count), count)
        for name, count in steps.items()
    }
    reference = read_reference(env, policies["expert"].sha256)
    expert = SquashedGaussianMLP.load(policy_path(policies["expert"].name))
    for quality in QUALITIES:
        replay_steps = steps["medium" if quality == "medium-replay" else "expert"]
        table = whole_table(
            env,
            quality,
            policies,
            replay_steps,
            _bundled_in_words(release, env, quality),
            release.collection,
        )
        name = dataset_name(env, quality)
        print(f"making {name}", file=sys.stderr, flush=True)
        if quality in REPLAY:
            arrays = trained.replay(replay_steps).arrays
        else:
            arrays = Artefact.of(to_spec(name, table)).load(cache_folder()).arrays
        table["transitions"] = arrays.num_transitions
        table["episodes"] = arrays.num_episodes
        table["sha256"] = {WHOLE: dataset_digest(digest_arrays(arrays))}
        table["reference"] = reference
        table["measurements"] = {
            **_choice_of_medium(trained, quality),
            "return_of_an_episode": mean_return(arrays),
            "heteroskedasticity": heteroskedasticity_against(
                expert, to_spec(name, table), arrays, release.fit
            ),
        }
        yield name, table
        for size, draws in _subset_sizes(release, env, quality).items():
            subset = subset_table(env, quality, size, table) | {"reference": reference}
            subset_name = f"{name}-{_suffix(size)}"
            _draw(subset_name, subset, arrays, draws)
            yield subset_name, subset


def _bundled_policy(trained: LocomotionRun, name: str, steps: int) -> BehaviourPolicy:
    """Returns a policy of a training that was bundled."""
    path = policy_path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"no policy weights at {path}; give export_locomotion the same --run first"
        )
    data = path.read_bytes()
    if data != trained.policy_file(steps).read_bytes():
        raise ValueError(
            f"{path} is not the policy of {trained.folder} after {steps} steps; give "
            "export_locomotion the same --run first"
        )
    return BehaviourPolicy(name, hashlib.sha256(data).hexdigest())


def _choice_of_medium(trained: LocomotionRun, quality: str) -> dict[str, str]:
    """Says how the medium policy was chosen, for the datasets that it defines."""
    if not quality.startswith("medium"):
        return {}
    medium = trained.medium_steps()
    returns = dict(zip(trained.steps, trained.stochastic_returns(), strict=True))
    return {
        "medium_policy": (
            f"the checkpoint after {medium:,} steps: its return over the training's evaluation "
            f"episodes, {returns[medium]:.0f}, is nearest to a third of the final policy's, "
            f"{returns[trained.steps[-1]]:.0f}, of all checkpoints before the first with "
            f"{EXPERT_LEVEL:.0%} of that"
        )
    }


def _subset_sizes(release: Release, env: str, quality: str) -> dict[int, int]:
    """Returns the sizes of a dataset's registered subsets and how many draws are bundled."""
    if quality != "medium-replay":
        return {release.small: 1}
    sizes = {release.small: OFFICIAL_DRAWS}
    return sizes | {release.large: 1} if env in _LARGE_ENVS else sizes


def _bundled_in_words(release: Release, env: str, quality: str) -> list[str]:
    return [
        f"{dataset_name(env, quality)}-{_suffix(size)} "
        + (f"(draws 0 to {draws - 1})" if draws > 1 else "(draw 0)")
        for size, draws in _subset_sizes(release, env, quality).items()
    ]


def _suffix(size: int) -> str:
    return str(size) if size % 1000 else f"{size // 1000}k"


def _draw(name: str, table: dict[str, Any], arrays: EpisodeArrays, bundled: int) -> None:
    """Bundles the first draws of a subset and adds the pins of all that can be had."""
    size, sources = table["subset"]["size"], table["sources"]
    kinds = [source["kind"] for source in sources]
    spec, digests, rows_digests = to_spec(name, table), {}, []
    for draw in range(OFFICIAL_DRAWS if "subset" in kinds else bundled):
        drawn, rows = draw_subset(arrays, size, draw, spec.subset_seed)
        digests[draw_artefact(draw)] = dataset_digest(digest_arrays(drawn))
        rows_digests.append(digest_rows(rows))
        if draw < bundled:
            path = bundled_path(spec, draw_artefact(draw))
            write_arrays(drawn, path)
            print(f"{path}: {path.stat().st_size / 1e6:.2f} MB", file=sys.stderr, flush=True)
    table["sha256"] = digests
    table["subset"]["index_sha256"] = rows_digests


def to_toml(name: str, table: Mapping[str, Any]) -> str:
    """Returns a dataset's table as text."""
    lines = [f"{key} = {toml_value(value)}" for key, value in table.items()]
    return "\n".join([f"[datasets.{name}]", *lines, ""])


if __name__ == "__main__":
    import tyro

    for dataset, content in tables(tyro.cli(Release)):
        print(to_toml(dataset, content), flush=True)
