from __future__ import annotations

import tomllib

import pytest

from hetero_bench import registry
from hetero_bench.loading import load
from hetero_bench.pinning import main, pins
from hetero_bench.sources.subset import digest_rows, draw_subset

MANIFEST = """
[defaults]
version = 0
family = "small"
summary = ""
licence = "MIT"
citation = ""
rewards = { semantics = "none" }

[datasets.small]
sources = [{ kind = "build" }]
subset_seed = 3
environment = { id = "hetero_bench/GridworldMaze-v0", max_episode_steps = 300 }
recipe = { name = "gridworld", version = 1, seed = 0, parameters = { trajectories = 30 } }

[datasets.smaller]
sources = [{ kind = "subset" }]
subset = { parent = "small", size = 100 }
"""


@pytest.fixture
def manifest(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    path = tmp_path / "small.toml"
    path.write_text(MANIFEST)
    return path


def test_what_is_printed_verifies_what_is_loaded(manifest, capsys):
    main(str(manifest))
    printed = capsys.readouterr().out
    tables = tomllib.loads(printed)["datasets"]
    assert list(tables) == ["small", "smaller"]
    text = MANIFEST
    for name, pinned in tables.items():
        head, table = f"[datasets.{name}]\n", printed.split(f"[datasets.{name}]\n")[1]
        lines = table.split("\n\n")[0]
        index = pinned.pop("index_sha256", None)
        if index:
            text = text.replace("size = 100 }", f"size = 100, index_sha256 = {index} }}")
            lines = "\n".join(line for line in lines.splitlines() if "index" not in line)
        text = text.replace(head, f"{head}{lines}\n")
    manifest.write_text(text)
    registry._registered.clear()
    registry._registered.update(registry.read_manifest(manifest))
    whole = load("small")
    assert whole.provenance.status == "verified"
    assert tables["small"]["transitions"] == len(whole)
    assert tables["small"]["episodes"] == 30
    for draw in range(5):
        assert load("smaller", draw=draw).provenance.status == "verified"
        _, rows = draw_subset(whole.arrays, 100, draw, seed=3)
        assert digest_rows(rows) == index[draw]


def test_only_what_is_named_is_made(manifest, capsys):
    main(str(manifest), ["small"])
    assert list(tomllib.loads(capsys.readouterr().out)["datasets"]) == ["small"]
    registry._registered.clear()
    with pytest.raises(ValueError, match=r"has no large; it has small, smaller"):
        main(str(manifest), ["large"])


def test_what_the_table_pins_so_far_is_ignored(manifest, cache):
    """A recipe's author needs the new pins just when the old ones are wrong."""
    specs = registry.read_manifest(manifest)
    right = {}
    for name, spec in specs.items():
        registry._registered.update(specs)
        right[name] = pins(spec, cache)
    wrong = {"sha256": {"whole": "0" * 64}, "transitions": 1, "episodes": 1}
    registry._registered["small"] = specs["small"].model_copy(update=wrong)
    small = registry._registered["small"]
    assert pins(small, cache.with_name("other")) == right["small"]
    assert pins(specs["smaller"], cache.with_name("other")) == right["smaller"]
