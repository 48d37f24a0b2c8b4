from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import types

import numpy as np
import pytest

from hetero_bench import registry
from hetero_bench.arrays import dataset_digest, digest_arrays
from hetero_bench.errors import SizeError, SourceError
from hetero_bench.loading import load
from hetero_bench.sources.subset import digest_rows, draw_subset
from hetero_bench.verification import verify
from tests.test_arrays import episodes_of

TOY = """
[defaults]
version = 0
family = "toy"
licence = "MIT"
citation = "none"
rewards = {{ semantics = "none" }}
environment = {{ id = "hetero_bench/GridworldMaze-v0", max_episode_steps = 300 }}

[datasets.toy]
summary = "Ten episodes of three."
transitions = 30
sources = [{{ kind = "build" }}]
recipe = {{ name = "toy_recipe", version = 1, seed = {seed}, parameters = {{ episodes = 10 }} }}
subset_seed = 7
{toy_digest}

[datasets.toy-small]
summary = "Eleven rows of it."
transitions = 11
sources = [{{ kind = "subset" }}]
subset = {{ parent = "toy", size = 11 }}
{small_digest}
"""


@pytest.fixture
def toy(monkeypatch, tmp_path, cache):
    """Registers the toy datasets; returns a function that registers them with changes."""
    built = []

    def build(parameters, seed, *, environment, progress):
        built.append(seed)
        progress(1, 1)
        return episodes_of([3] * parameters["episodes"], dims=2 + seed)

    recipe = types.SimpleNamespace(VERSION=1, build=build)
    monkeypatch.setitem(sys.modules, "hetero_bench.recipes.toy_recipe", recipe)

    def register(seed=0, toy_digest="", small_digest=""):
        text = TOY.format(seed=seed, toy_digest=toy_digest, small_digest=small_digest)
        path = tmp_path / "toy.toml"
        path.write_text(text)
        monkeypatch.setattr(registry, "_registered", registry.read_manifest(path))

    register()
    register.built = built
    register.cache = cache
    register.recipe = recipe
    return register


def test_a_dataset_is_built_once_then_memory_mapped(toy):
    first, second = load("toy"), load("toy-v0")
    assert toy.built == [0]
    assert isinstance(second.arrays.observations, np.memmap)
    assert not second.arrays.observations.flags.writeable
    for name, array in episodes_of([3] * 10).named():
        np.testing.assert_array_equal(dict(second.arrays.named())[name], array)
    assert first.provenance == second.provenance
    assert second.provenance.status == "unpinned"
    assert second.provenance.digest == dataset_digest(digest_arrays(second.arrays))
    assert second.provenance.recipe_digest is not None


def test_status_says_verified_or_rebuilt(toy):
    digest = dataset_digest(digest_arrays(episodes_of([3] * 10)))
    toy(toy_digest=f'sha256 = {{ whole = "{digest}" }}')
    dataset = load("toy")
    assert dataset.provenance.status == "verified"
    small = load("toy", size=5)
    assert small.provenance.status == "verified"
    assert small.provenance.parent == dataset.provenance
    toy(seed=1, toy_digest=f'sha256 = {{ whole = "{digest}" }}')
    assert load("toy").provenance.status == "rebuilt"
    assert load("toy", size=5).provenance.status == "rebuilt"


def folders_of(cache):
    return sorted(path.name for path in (cache / "toy-v0").iterdir() if path.is_dir())


def pinned_to(digest):
    return f'sha256 = {{ whole = "{digest}" }}'


def test_the_status_follows_the_registrys_pin(toy, caplog):
    made = load("toy").provenance
    assert made.status == "unpinned"
    toy(toy_digest=pinned_to(made.digest))
    assert load("toy").provenance == made.model_copy(
        update={"status": "verified", "expected_digest": made.digest}
    )
    toy(toy_digest=pinned_to("0" * 64))
    (verdict,) = verify(toy.cache)
    assert verdict.state == "rebuilt"
    assert "rebuilt" not in caplog.text
    again = load("toy").provenance
    assert (again.status, again.expected_digest) == ("rebuilt", "0" * 64)
    assert "toy-v0 (whole) was rebuilt with other bits" in caplog.text
    assert load("toy", size=5).provenance.parent.expected_digest == "0" * 64
    toy()
    assert load("toy", size=5).provenance.status == "unpinned"
    assert toy.built == [0]


def test_a_recipe_that_simulates_nothing_must_give_the_pinned_bits(toy):
    toy.recipe.SIMULATED = False
    load("toy")
    toy(toy_digest=pinned_to("0" * 64))
    (verdict,) = verify(toy.cache)
    assert (verdict.state, verdict.reason[-64:]) == ("damaged", "0" * 64)
    with pytest.raises(SourceError, match="its digest is .*; the registry pins 0000"):
        load("toy")
    (aside,) = folders_of(toy.cache)
    assert aside.startswith("whole.damaged-")


def test_gridworld_with_other_bits_than_the_pinned_is_refused(cache, monkeypatch):
    spec = registry.get_spec("gridworld-hetero")
    recipe = spec.recipe.model_copy(
        update={"parameters": {**spec.recipe.parameters, "trajectories": 30}}
    )
    fields = {"recipe": recipe, "transitions": None, "episodes": None}
    wrong = spec.model_copy(update={"name": "wrong", **fields})
    monkeypatch.setattr(registry, "_registered", {"wrong": wrong})
    with pytest.raises(SourceError, match="its digest is .*; the registry pins"):
        load("wrong")
    assert not (cache / "wrong-v0" / "whole").exists()


def test_rebuilt_data_may_have_other_episodes_but_not_other_transitions(toy):
    """On another CPU ants fall elsewhere: the same steps make other episodes."""
    toy(toy_digest=f"episodes = 9\n{pinned_to('0' * 64)}")
    dataset = load("toy")
    assert (dataset.provenance.status, dataset.arrays.num_episodes) == ("rebuilt", 10)
    toy.recipe.build = lambda *_, **__: episodes_of([3] * 9)
    toy(seed=1)
    with pytest.raises(SourceError, match="27 transitions; toy-v0 is registered with 30"):
        load("toy")


def test_verified_data_has_the_episodes_that_its_manifest_states(toy):
    digest = dataset_digest(digest_arrays(episodes_of([3] * 10)))
    toy(toy_digest=f"episodes = 9\n{pinned_to(digest)}")
    with pytest.raises(SourceError, match="10 episodes; toy-v0 is registered with 9"):
        load("toy")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("episodes = 9", "10 episodes; toy-v0 is registered with 9"),
        ('observation = { shape = [3], dtype = "float32" }', r"observations have shape \(2,\)"),
        ('observation = { shape = [2], dtype = "int8" }', "dtype float32; .* int8"),
        ('action = { shape = [], dtype = "int64", n = 4 }', "actions reach from 0 to 4"),
    ],
)
def test_built_data_is_compared_with_its_manifest(toy, stated, message):
    toy(toy_digest=stated)
    with pytest.raises(SourceError, match=message):
        load("toy")


def test_a_stale_entry_makes_way(toy):
    load("toy")
    toy(seed=1)
    assert load("toy").arrays.observations.shape == (30, 3)
    assert toy.built == [0, 1]
    assert folders_of(toy.cache) == ["whole"]


def test_subsets_are_whole_trajectories_nested_in_size_and_differ_by_draw(toy):
    parent = load("toy")
    large, small = load("toy", size=29, draw=2), load("toy", size=8, draw=2)
    np.testing.assert_array_equal(large.extras["row"][:8], small.extras["row"])
    other = load("toy", size=29, draw=3)
    assert not np.array_equal(large.extras["row"], other.extras["row"])
    assert large.spec.subset.size == 29
    expected, rows = draw_subset(parent.arrays, 29, 2, seed=7)
    np.testing.assert_array_equal(large.extras["row"], rows)
    assert large.provenance.digest == dataset_digest(digest_arrays(expected))
    np.testing.assert_array_equal(parent.subset(29, draw=2).extras["row"], rows)
    whole = load("toy", size=30)
    assert sorted(whole.extras["row"]) == list(range(30))


def test_a_registered_subset_equals_the_same_size_of_its_parent(toy):
    small = load("toy-small", draw=4)
    assert (small.id, small.draw, len(small)) == ("toy-small-v0", 4, 11)
    np.testing.assert_array_equal(small.extras["row"], load("toy", size=11, draw=4).extras["row"])
    assert load("toy-small", size=11, draw=4).folder == small.folder, "so that its pins apply"
    smaller = load("toy-small", size=5, draw=4)
    assert smaller.id == "toy-v0"
    np.testing.assert_array_equal(smaller.extras["row"], small.extras["row"][:5])


def test_a_cached_subset_opens_without_its_parent(toy):
    load("toy-small")
    (toy.cache / "toy-v0" / "whole").rename(toy.cache / "elsewhere")
    load("toy-small")
    assert toy.built == [0]


def test_subset_rows_are_pinned(toy):
    digest = dataset_digest(digest_arrays(episodes_of([3] * 10)))
    _, rows = draw_subset(episodes_of([3] * 10), 11, 0, seed=7)
    verified = f'sha256 = {{ whole = "{digest}" }}'
    pin = 'subset = {{ parent = "toy", size = 11, index_sha256 = ["{}"] }}'
    original = 'subset = {{ parent = "toy", size = 11 }}'

    def register(index):
        text = TOY.replace(original, pin.format(index).replace("{", "{{").replace("}", "}}"))
        path = toy.cache.parent / "pinned.toml"
        path.write_text(text.format(seed=0, toy_digest=verified, small_digest=""))
        registry._registered.update(registry.read_manifest(path))

    register(digest_rows(rows))
    load("toy-small", draw=0)
    (toy.cache / "toy-small-v0" / "draw-0").rename(toy.cache / "elsewhere")
    register("0" * 64)
    with pytest.raises(SourceError, match="the registry pins 0000"):
        load("toy-small", draw=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 31}, "size 31 was asked for; toy-v0 has 30 transitions"),
        ({"size": 0}, "size 0 was asked for"),
        ({"size": 3, "draw": 5}, "draw 5 was asked for; the official draws are 0 to 4"),
        ({"draw": 1}, "toy-v0 is whole and has no draws"),
    ],
)
def test_impossible_sizes_and_draws_are_refused(toy, arguments, message):
    with pytest.raises(SizeError, match=message):
        load("toy", **arguments)
    assert toy.built == []


@pytest.mark.parametrize(
    "arguments", [{"size": 5.0}, {"size": True}, {"size": 5, "draw": 1.0}, {"size": "5"}]
)
def test_sizes_and_draws_are_whole_numbers(toy, arguments):
    with pytest.raises(TypeError, match=r"(size|draw) is .*; expected a whole number"):
        load("toy", **arguments)
    with pytest.raises(TypeError, match=r"(size|draw) is .*; expected a whole number"):
        load("toy").subset(**arguments)
    assert len(load("toy", size=np.int64(5), draw=np.int32(1))) == 5


def test_a_draw_is_not_drawn_from_again(toy):
    for drawn in (load("toy-small"), load("toy", size=20), load("toy").subset(20)):
        with pytest.raises(SizeError, match=r"draw from that, with load\('toy', size=5, draw=2\)"):
            drawn.subset(5, draw=2)


def test_sources_are_chosen_by_kind(toy):
    with pytest.raises(ValueError, match="toy-v0 has no source 'd4rl'; it has build"):
        load("toy", source="d4rl")
    assert load("toy", source="build").folder.name == "whole@build"


def test_a_recipe_of_another_version_is_not_run(toy):
    toy.recipe.VERSION = 2
    with pytest.raises(SourceError, match="is at version 2; the manifest of toy-v0 asks"):
        load("toy")


def test_a_recipe_that_breaks_the_layout_is_refused(toy, monkeypatch):
    def build(parameters, seed, *, environment, progress):
        arrays = episodes_of([3] * 10)
        arrays.rewards[4] = np.nan
        return arrays

    monkeypatch.setattr(toy.recipe, "build", build)
    with pytest.raises(SourceError, match="rewards is not finite in row 4"):
        load("toy")
    assert not (toy.cache / "toy-v0" / "whole").exists()


def damage_truncate(folder):
    with (folder / "observations.npy").open("r+b") as stream:
        stream.truncate(100)


def damage_flip(folder):
    path = folder / "rewards.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damage_remove(folder):
    (folder / "actions.npy").unlink()


def damage_metadata(folder):
    path = folder / "metadata.json"
    path.write_text(path.read_text()[:50])


def change_metadata(change):
    """Damage by a function that changes the document, or returns another in its place."""

    def damage(folder):
        path = folder / "metadata.json"
        document = json.loads(path.read_text())
        document = change(document) or document
        path.write_text(json.dumps(document))

    return damage


def damage_nested(folder):
    (folder / "metadata.json").write_text("[" * 200_000)


def damage_to_file(folder):
    shutil.rmtree(folder)
    folder.write_text("no folder")


def lose_provenance_digest(document):
    document["provenance"]["digest"] = "0" * 64


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate,
        damage_flip,
        damage_remove,
        damage_metadata,
        damage_nested,
        damage_to_file,
        change_metadata(lambda document: document.update(format=99)),
        change_metadata(lambda document: {"format": 1}),
        change_metadata(lambda document: [1]),
        change_metadata(lambda document: document.pop("origin") and None),
        change_metadata(lambda document: document.pop("provenance") and None),
        change_metadata(lambda document: document["arrays"]["actions"].pop("bytes") and None),
        change_metadata(lambda document: document["provenance"].update(new_field=1)),
        change_metadata(lambda document: document["arrays"].pop("actions") and None),
        change_metadata(lambda document: document["arrays"].pop("extras.row") and None),
        change_metadata(lose_provenance_digest),
    ],
)
def test_a_damaged_entry_is_set_aside_and_made_again(toy, caplog, damage):
    folder = load("toy").folder
    damage(folder)
    again = load("toy")
    assert toy.built == [0, 0]
    assert again.provenance.digest == dataset_digest(digest_arrays(episodes_of([3] * 10)))
    aside = [path for path in folder.parent.iterdir() if "damaged" in path.name]
    assert len(aside) == 1
    assert "set aside" in caplog.text
    damage(folder)
    load("toy")
    aside = [path for path in folder.parent.iterdir() if "damaged" in path.name]
    assert len(aside) == 2, "one does not take the other's name"


def test_a_touched_but_equal_entry_is_kept(toy):
    folder = load("toy").folder
    os.utime(folder / "rewards.npy", (1, 1))
    load("toy")
    assert toy.built == [0]
    recorded = json.loads((folder / "metadata.json").read_text())["arrays"]["rewards"]
    assert recorded["mtime_ns"] == 10**9


def test_a_cache_that_cannot_be_written_to_is_read(toy, monkeypatch):
    folder = load("toy").folder
    os.utime(folder / "rewards.npy", (1, 1))
    before = (folder / "metadata.json").read_bytes()

    def read_only(*_args, **_kwargs):
        raise OSError(30, "Read-only file system")

    (verdict,) = verify(toy.cache)
    assert verdict.state == "unpinned"
    assert (folder / "metadata.json").read_bytes() == before, "verify changes nothing"
    monkeypatch.setattr("hetero_bench.atomic.new_file", read_only)
    monkeypatch.setattr("hetero_bench.cache.filelock.FileLock.acquire", read_only)
    assert load("toy").folder == folder
    with pytest.raises(OSError, match=r"could not write .*Read-only.*another HETERO_BENCH_CACHE"):
        load("toy", size=5)


def test_a_cache_folder_that_cannot_be_made_is_named(toy, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not write .*another HETERO_BENCH_CACHE"):
        load("toy", cache_dir=tmp_path / "file")


def test_a_failing_disk_leaves_nothing_behind(toy, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hetero_bench.cache.np.save", full)
    with pytest.raises(OSError, match="could not write .*No space left"):
        load("toy")
    monkeypatch.undo()
    entries = list((toy.cache / "toy-v0").iterdir())
    assert [path.name for path in entries] == [".whole.lock"]


LOAD = "import hetero_bench; print(hetero_bench.load('gridworld-hetero').provenance.digest)"


def run_python(code, cache, **options):
    environment = {**os.environ, "HETERO_BENCH_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_a_build_killed_at_any_moment_leaves_no_half_dataset(cache):
    started = time.perf_counter()
    digest, error = run_python(LOAD, cache).communicate(timeout=120)
    whole = time.perf_counter() - started
    assert digest, error
    generator = np.random.default_rng(0)
    outcomes = []
    for trial, moment in enumerate(generator.uniform(0.3, 1.0, size=10) * whole):
        folder = cache.with_name(f"killed-{trial}")
        process = run_python(LOAD, folder)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        entry = folder / "gridworld-hetero-v0" / "whole"
        outcomes.append(entry.exists())
        again, error = run_python(LOAD, folder).communicate(timeout=120)
        assert again == digest, error
        left = [path.name for path in entry.parent.iterdir() if path.name.startswith(".partial")]
        assert left == []
    assert not all(outcomes), "no build was killed before its end: the test proves nothing"


def _limit_file_size():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))


@pytest.mark.slow
def test_a_full_disk_is_reported_and_leaves_nothing(cache):
    process = run_python(LOAD, cache, preexec_fn=_limit_file_size)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "could not write" in error
    assert "Nothing was kept" in error
    assert [path.name for path in (cache / "gridworld-hetero-v0").iterdir()] == [".whole.lock"]


def _load_and_count(folder, queue, builds):
    os.environ["HETERO_BENCH_CACHE"] = str(folder)
    from hetero_bench.recipes import gridworld

    original = gridworld.build

    def counted(*arguments, **options):
        with builds.get_lock():
            builds.value += 1
        return original(*arguments, **options)

    gridworld.build = counted
    queue.put(load("gridworld-hetero").provenance.digest)


@pytest.mark.slow
def test_processes_that_load_at_once_build_once(cache):
    context = multiprocessing.get_context("spawn")
    queue, builds = context.Queue(), context.Value("i", 0)
    workers = [
        context.Process(target=_load_and_count, args=(cache, queue, builds)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    digests = {queue.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(digests) == 1
    assert builds.value == 1
