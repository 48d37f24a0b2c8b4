"""Releasing a training: policies, reference returns, six datasets, their bundles and pins."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hetero_bench import registry
from hetero_bench.arrays import dataset_digest, digest_arrays
from hetero_bench.errors import SourceError
from hetero_bench.heteroskedasticity.marginal_fit import FitSettings
from hetero_bench.loading import load
from hetero_bench.pinning import toml_value
from hetero_bench.recipes import locomotion_policies
from hetero_bench.recipes.export_locomotion import export
from hetero_bench.recipes.locomotion_manifest import DEFAULTS, QUALITIES
from hetero_bench.recipes.locomotion_runs import LocomotionRun
from hetero_bench.recipes.measure_locomotion import measure, references_path
from hetero_bench.recipes.release_locomotion import Release, tables, to_toml
from hetero_bench.recipes.train_locomotion import train
from hetero_bench.sources import bundled
from tests.test_locomotion_training import small

SMALL, LARGE = 60, 150


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A registry folder with everything that the commands make of a short training.

    Its medium policy is that after 200 steps.
    """
    folder = tmp_path_factory.mktemp("release")
    run = folder / "run"
    train(small(run, 300))
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder)
        patch.setattr(LocomotionRun, "medium_steps", lambda self: 200)
        export(run)
        path = measure("hopper", 300, episodes=4)
        document = json.loads(path.read_text())
        # After so few steps the policy is no better than chance, which a manifest refuses.
        document["returns"]["expert"] = [each + 100 for each in document["returns"]["expert"]]
        path.write_text(json.dumps(document))
        release = Release(
            run,
            small=SMALL,
            large=LARGE,
            collection={"shards": 2, "envs": 2, "steps": 50},
            fit=FitSettings(steps=20, width=8),
        )
        text = "".join(to_toml(*each) for each in tables(release))
    defaults = "\n".join(f"{key} = {toml_value(value)}" for key, value in DEFAULTS.items())
    (folder / "registry" / "hopper.toml").write_text(f"[defaults]\n{defaults}\n{text}")
    return folder


def use(patch, folder):
    """Lets everything read and write a registry and cache of the test's own."""
    patch.setenv("HETERO_BENCH_CACHE", str(folder / "cache"))
    patch.setattr(registry, "_registered", {})
    patch.setattr(locomotion_policies, "registry_folder", lambda: folder / "registry")
    patch.setattr(bundled, "registry_folder", lambda: folder / "registry")


@pytest.fixture
def specs(released, monkeypatch):
    """The released datasets, registered."""
    use(monkeypatch, released)
    specs = registry.read_manifest(released / "registry" / "hopper.toml")
    registry._registered.update(specs)
    return specs


def test_six_datasets_with_their_subsets_are_listed(specs):
    wholes = [f"hopper-{quality}-hb" for quality in QUALITIES]
    subsets = [f"{name}-{SMALL}" for name in wholes] + [f"hopper-medium-replay-hb-{LARGE}"]
    assert sorted(specs) == sorted(wholes + subsets)
    for name in subsets:
        spec = specs[name]
        assert spec.environment == specs[spec.subset.parent].environment
        assert spec.reference == specs["hopper-expert-hb"].reference


@pytest.mark.parametrize("quality", QUALITIES)
def test_bundled_draws_are_verified_and_say_where_their_rows_are(specs, released, quality):
    draws = 5 if quality == "medium-replay" else 1
    name = f"hopper-{quality}-hb-{SMALL}"
    for draw in range(draws):
        dataset = load(name, draw=draw, cache_dir=released / "fresh")
        assert dataset.provenance.source == "bundled"
        assert dataset.provenance.status == "verified"
        assert len(dataset) == SMALL
        assert dataset.extras["reset_seeds"].dtype == np.uint32
    files = sorted((released / "registry" / "data" / f"{name}-v0").iterdir())
    assert [file.stem for file in files] == [f"draw-{draw}" for draw in range(draws)]


def test_policy_made_data_is_made_again(specs, released):
    for quality in ("random", "medium", "medium-expert", "expert"):
        name = f"hopper-{quality}-hb"
        whole = load(name, cache_dir=released / "again")
        assert whole.provenance.status == "verified"
        assert dataset_digest(digest_arrays(whole.arrays)) == specs[name].sha256["whole"]
        for draw in (0, 4):
            drawn = load(f"{name}-{SMALL}", draw=draw, source="subset")
            assert drawn.provenance.status == "verified"
        assert load(name, size=20, draw=3).provenance.status == "verified"


def test_replay_is_what_the_training_saw(specs, released):
    replay = LocomotionRun(released / "run").replay(200).arrays
    spec = specs["hopper-medium-replay-hb"]
    assert (spec.transitions, spec.episodes) == (200, replay.num_episodes)
    assert spec.sha256["whole"] == dataset_digest(digest_arrays(replay))
    drawn = load(f"hopper-medium-replay-hb-{LARGE}")
    rows = {row.tobytes() for row in replay.observations}
    assert all(row.tobytes() in rows for row in drawn.arrays.observations)
    assert "behaviour_means" not in drawn.extras


@pytest.mark.parametrize(
    "arguments",
    [
        {"dataset_id": "hopper-medium-replay-hb"},
        {"dataset_id": "hopper-medium-replay-hb", "size": 50},
        {"dataset_id": f"hopper-medium-replay-hb-{SMALL}", "size": 50},
        {"dataset_id": f"hopper-medium-replay-hb-{LARGE}", "draw": 1},
    ],
)
def test_what_cannot_be_had_says_why_and_what_there_is(specs, arguments):
    message = (
        "It is cut from the replay buffer of a training.*there is "
        rf"hopper-medium-replay-hb-{SMALL} \(draws 0 to 4\) and "
        rf"hopper-medium-replay-hb-{LARGE} \(draw 0\)"
    )
    with pytest.raises(SourceError, match=message):
        load(**arguments)


def test_reference_returns_are_measured_with_their_intervals(specs, released):
    document = json.loads(
        (released / "registry/policies/locomotion/hopper-references.json").read_text()
    )
    reference = specs["hopper-medium-hb"].reference
    for name in ("random", "expert"):
        returns = np.array(document["returns"][name])
        half = 1.959964 * returns.std(ddof=1) / 2
        assert len(returns) == len(document["lengths"][name]) == 4
        assert getattr(reference, name) == pytest.approx(returns.mean(), abs=0.01)
        assert f"{name} {returns.mean():.1f} ± {half:.1f}" in reference.source
    assert "over 4 episodes" in reference.source
    assert "hopper-300" in reference.source


def test_the_card_says_what_was_measured(specs):
    text = load(f"hopper-medium-hb-{SMALL}").card()
    for expected in (
        "## Measured on hopper-medium-hb-v0",
        "| medium policy | the checkpoint after 200 steps",
        "| heteroskedasticity: behaviour | exact |",
        "| heteroskedasticity: maximum of D |",
        "### Returns",
        "### State coverage",
        "return of whole episodes: hopper-200: mean",
        "D4RL's hopper-medium (version 2) has 1M transitions in 2,187 trajectories",
    ):
        assert expected in text
    measures = {name: spec.measurements.get("heteroskedasticity") for name, spec in specs.items()}
    assert measures["hopper-expert-hb"]["maximum_of_D"] == pytest.approx(0, abs=1e-4)
    assert measures["hopper-random-hb"]["behaviour"] == "fitted"
    assert measures[f"hopper-random-hb-{SMALL}"] is None


def test_another_trainings_policies_are_refused(released, monkeypatch, tmp_path):
    use(monkeypatch, tmp_path)
    monkeypatch.setattr(LocomotionRun, "medium_steps", lambda self: 200)
    release = Release(released / "run")
    with pytest.raises(FileNotFoundError, match="give export_locomotion the same --run first"):
        next(tables(release))
    export(released / "run")
    with pytest.raises(ValueError, match="measure them with"):
        next(tables(release))
    path = locomotion_policies.policy_path("hopper-200")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(
        ValueError, match=r"hopper-200.safetensors is not the policy of .* after 200"
    ):
        next(tables(release))
    assert not references_path("hopper").exists()
