from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hetero_bench import registry
from hetero_bench.cli import main
from hetero_bench.exports import to_d4rl
from tests.helpers import dataset_of, random_arrays
from tests.synthetic_runs import save_scores


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch, cache):
    monkeypatch.setattr(registry, "_registered", {})


@pytest.fixture
def file(tmp_path):
    return str(to_d4rl(dataset_of(random_arrays()), tmp_path / "mine.hdf5"))


@pytest.fixture
def manifest(file, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        """
[datasets.cart]
version = 1
family = "cart"
summary = "A cart with a pole."
licence = "MIT"
citation = ""
rewards = { semantics = "+1 per step" }
sources = [{ kind = "d4rl", path = "mine.hdf5" }]
environment = { id = "CartPole-v1", max_episode_steps = 20 }
reference = { random = 0, expert = 20, source = "made up" }
transitions = 8
"""
    )
    return str(path)


def damage(folder):
    path = folder / "rewards.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    state = os.stat(path)
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def folder_of(cache, artefact):
    """The artefact's place; the name goes on with a key of the file it was read from."""
    (folder,) = (cache / "cart-v1").glob(f"{artefact}@*")
    return folder


def test_list_shows_what_exists_and_what_is_cached(capsys, manifest, cache):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "gridworld-hetero-v0" in listed
    assert "cart" not in listed
    assert main(["build", "cart", "--register", manifest]) == 0
    capsys.readouterr()
    assert main(["list", "--register", manifest, "--family", "cart"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["dataset", "family", "transitions", "episodes", "draws", "cached"]
    assert row.split() == ["cart-v1", "cart", "8", "–", "–", folder_of(cache, "whole").name]
    assert main(["list", "--register", manifest, "--cached"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["list", "--kind", "reduced"]) == 0
    assert all("0k-v0" in row for row in capsys.readouterr().out.splitlines()[1:])
    assert main(["list", "--contains", "nothing like it"]) == 1
    assert main(["list", "--family", "none"]) == 1
    assert "expected one of antmaze, gridworld" in capsys.readouterr().err


def test_show_reads_the_manifest_until_the_data_is_there(capsys, manifest):
    show = ["show", "cart", "--register", manifest]
    assert main(show) == 0
    text = capsys.readouterr().out
    assert text.startswith("# cart-v1\n\nA cart with a pole.")
    assert "Not in the cache; `hetero-bench build cart` makes it." in text
    assert main([*show, "--build"]) == 0
    assert "## Statistics" in capsys.readouterr().out
    assert main(show) == 0
    assert "## Statistics" in capsys.readouterr().out


def test_build_and_path_agree(capsys, manifest, tmp_path):
    elsewhere = ["--register", manifest, "--cache-dir", str(tmp_path / "elsewhere")]
    assert main(["path", "cart", *elsewhere]) == 1
    assert "make it with `hetero-bench build cart`" in capsys.readouterr().err
    assert main(["build", "cart", "--size", "5", "--draw", "2", *elsewhere]) == 0
    built = capsys.readouterr().out
    assert "5 transitions" in built
    assert main(["path", "cart", "--size", "5", "--draw", "2", *elsewhere]) == 0
    folder = capsys.readouterr().out.strip()
    assert built.endswith(f"{folder}\n")
    assert folder == str(folder_of(tmp_path / "elsewhere", "size-5-draw-2"))
    assert len(np.load(f"{folder}/rewards.npy")) == 5


def test_verify_finds_damage_that_opening_does_not_see(capsys, manifest, cache):
    register = ["--register", manifest]
    main(["build", "cart", *register])
    main(["build", "cart", "--size", "3", *register])
    capsys.readouterr()
    assert main(["verify", *register]) == 0
    # The parent of the draw is cached with it.
    assert capsys.readouterr().out.splitlines() == [
        f"unpinned  cart-v1 ({folder_of(cache, artefact).name})"
        for artefact in ("size-3-draw-0", "whole")
    ]
    whole = folder_of(cache, "whole")
    damage(whole)
    assert main(["verify", "cart", *register]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("unpinned")
    assert second.startswith(f"damaged   cart-v1 ({whole.name}): ")
    assert "rewards.npy is not what was written" in second
    assert whole.is_dir(), "verify changes nothing"


def test_verify_compares_with_the_registry(capsys, manifest, cache, tmp_path):
    text = Path(manifest).read_text()
    main(["build", "cart", "--register", manifest])
    registry._registered.clear()
    metadata = json.loads((folder_of(cache, "whole") / "metadata.json").read_text())
    digest = metadata["provenance"]["digest"]
    other = tmp_path / "other.toml"
    other.write_text(f'{text}sha256 = {{ whole = "{digest}" }}\n')
    assert main(["verify", "--register", str(other)]) == 0
    registry._registered.clear()
    other.write_text(f'{text}sha256 = {{ whole = "{"0" * 64}" }}\n')
    capsys.readouterr()
    assert main(["verify", "--register", str(other)]) == 1
    assert f"its digest is {digest}; the registry pins 000" in capsys.readouterr().out


def test_verify_of_what_is_not_cached_is_an_error(capsys, cache):
    assert main(["verify", "gridworld-hetero"]) == 1
    assert "gridworld-hetero-v0" in capsys.readouterr().err
    assert main(["verify"]) == 0, "an empty cache is sound"


def test_evaluate_prints_text_or_json(capsys, manifest, tmp_path, monkeypatch):
    command = ["evaluate", "cart", "--register", manifest, "--episodes", "3"]
    assert main([*command, "--policy", "random"]) == 0
    assert "cart-v1: return" in capsys.readouterr().out
    assert main([*command, "--policy", "random", "--json", "--seed", "5"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dataset"] == "cart-v1"
    assert document["seed"] == 5
    assert document["returns"] == [float(length) for length in document["lengths"]]
    assert document["scores"] == [5 * value for value in document["returns"]]

    (tmp_path / "own_policy.py").write_text(
        "import numpy as np\n"
        "def balance(observations):\n"
        "    return (observations[:, 2] + observations[:, 3] > 0).astype(int)\n"
        "def wrong(observations):\n"
        "    return np.full(len(observations), 7)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main([*command, "--policy", "own_policy:balance", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_return"] == 20
    assert main([*command, "--policy", "own_policy:wrong"]) == 1
    assert "action 7 is not finite or out of bounds" in capsys.readouterr().err
    assert main([*command, "--policy", "own_policy:absent"]) == 1
    assert "could not import the policy" in capsys.readouterr().err


def test_grade_writes_what_it_is_asked_for(capsys, tmp_path):
    for method in ("bc", "cql"):
        save_scores(tmp_path / "runs", method, "gridworld-hetero-v0", [40.0, 41.0])
    html, numbers = tmp_path / "out" / "grade.html", tmp_path / "out" / "grade.json"
    command = ["grade", str(tmp_path / "runs"), "--html", str(html), "--json", str(numbers)]
    assert main([*command, "--baseline", "bc"]) == 0
    assert "cql" in capsys.readouterr().out
    assert json.loads(numbers.read_text())["schema"] == "hetero_bench/grade/v1"
    assert html.read_text().lower().startswith("<!doctype html>")
    assert main(["grade", str(tmp_path / "nowhere")]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_errors_are_one_line_unless_debugging(capsys, monkeypatch):
    assert main(["show", "gridworld-heteroo"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("hetero-bench: no dataset 'gridworld-heteroo'")
    assert "did you mean gridworld-hetero" in error
    assert error.count("\n") == 1
    assert main(["build", "gridworld-hetero", "--draw", "1"]) == 1
    assert "is whole and has no draws" in capsys.readouterr().err
    assert main(["list", "--register", "nowhere.toml"]) == 1
    assert "nothing there to register" in capsys.readouterr().err
    with pytest.raises(KeyError):
        main(["show", "gridworld-heteroo", "--debug"])
    monkeypatch.setenv("HETERO_BENCH_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["show", "gridworld-heteroo"])


def test_train_hands_every_argument_to_the_baselines(monkeypatch):
    called = []
    monkeypatch.setattr(os, "execve", lambda *args: called.append(args))
    main(["train", "--method", "cql", "--help", "--debug"])
    ((program, words, environment),) = called
    assert program == sys.executable
    assert words[1:] == ["-m", "baselines", "train", "--method", "cql", "--help", "--debug"]
    assert os.path.isfile(
        os.path.join(environment["PYTHONPATH"].split(os.pathsep)[0], "baselines", "__main__.py")
    )


def test_train_without_a_checkout_says_where_to_get_it(monkeypatch, tmp_path, capsys):
    from hetero_bench.cli import runs

    monkeypatch.setattr(runs, "__file__", str(tmp_path / "a" / "b" / "runs.py"))
    monkeypatch.chdir(tmp_path)
    assert main(["train"]) == 1
    assert "clone hetero_bench's repository" in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from hetero_bench.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    heavy = {'torch', 'minari', 'h5py', 'matplotlib', 'mujoco'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("list", "show", "path", "verify", "build", "evaluate", "grade", "train"):
        assert command in done.stdout
