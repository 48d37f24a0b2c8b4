"""Builds the wheel, checks what is in it, and uses it from a new environment in another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIRED = {
    "hetero_bench/__init__.py",
    "hetero_bench/py.typed",
    "hetero_bench/_registry/gridworld.toml",
    "hetero_bench/templates/report.html.jinja",
}
FORBIDDEN_PREFIXES = ("baselines/", "tests/", "benchmarks/", "examples/", "registry/", "docs/")
LARGEST_MB = 100

USE = """
import json, pathlib, sys
import numpy as np
import hetero_bench

assert "site-packages" in hetero_bench.__file__, hetero_bench.__file__
heavy = {"torch", "stable_baselines3", "ale_py", "matplotlib", "minari"} & set(sys.modules)
assert not heavy, f"importing hetero_bench imports {heavy}"

dataset = hetero_bench.load("gridworld-hetero-10k")
assert dataset.provenance.status == "verified", dataset.provenance
assert dataset.transitions.observations.shape == (10_000, 50)

bundled = [
    spec
    for spec in hetero_bench.list_datasets(reduced=True)
    if any(source.kind == "bundled" for source in spec.sources)
]
assert len(bundled) >= 4, bundled
for spec in bundled:
    assert hetero_bench.load(spec.id).provenance.status == "verified", spec.id

def still(observations):
    return np.zeros((len(observations), 8), dtype=np.float32)
ends = hetero_bench.evaluate(still, "antmaze-large-noisy-10k", episodes=2).ends
assert [end.region for end in ends.by_region()] == ["row 1, column 1 (start)"], str(ends)

def policy(observations, rng):
    return rng.integers(5, size=len(observations))
policy.dataset = dataset
evaluation = hetero_bench.evaluate(policy, episodes=20)
assert evaluation.returns.shape == (20,)

run = hetero_bench.Run.model_validate({
    "method": "uniform", "config": {}, "seed": 0,
    "dataset": {"id": dataset.id, "digest": dataset.provenance.digest, "draw": dataset.draw},
    "reference": {"random": dataset.spec.reference.random, "expert": dataset.spec.reference.expert},
    "budget": {"steps": 0, "wall_seconds": 0.0, "device": "cpu"},
    "evaluations": [evaluation.record(step=0).model_dump()],
})
hetero_bench.write_run(run, "runs/uniform/run.json")
grade = hetero_bench.grade(["runs"])
print(grade.to_text())
grade.to_html("report.html")
assert pathlib.Path("report.html").stat().st_size > 1000
"""


def main() -> None:
    """Runs the check; any failure ends it with a message."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", ROOT)
        (wheel,) = (folder / "dist").glob("*.whl")
        check_contents(wheel)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        constraints = ROOT / "constraints.txt"
        run(python, "-m", "pip", "install", "--quiet", wheel, "-c", constraints)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        environment = {**os.environ, "HETERO_BENCH_CACHE": str(folder / "cache")}
        run(python, "-c", USE, cwd=elsewhere, env=environment)
        command = folder / "venv" / "bin" / "hetero-bench"
        run(command, "list", cwd=elsewhere, env=environment)
        run(command, "grade", "runs", cwd=elsewhere, env=environment)
    print("wheel check passed")


def check_contents(wheel: Path) -> None:
    """Raises AssertionError if something is missing, superfluous or too large."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    missing = REQUIRED - names
    assert not missing, f"the wheel lacks {sorted(missing)}"
    stray = [name for name in names if name.startswith(FORBIDDEN_PREFIXES)]
    assert not stray, f"the wheel should not hold {stray[:5]}"
    manifests = {path.name for path in (ROOT / "registry").glob("*.toml")}
    packed = {Path(name).name for name in names if "_registry/" in name and name.endswith(".toml")}
    assert manifests == packed, f"manifests differ: {manifests ^ packed}"
    size = wheel.stat().st_size / 1e6
    assert size < LARGEST_MB, f"the wheel has {size:.0f} MB; expected less than {LARGEST_MB}"
    print(f"{wheel.name}: {len(names)} files, {size:.1f} MB")


def run(*command: object, **options: object) -> None:
    """Runs a command and fails with it."""
    subprocess.run([str(part) for part in command], check=True, **options)


if __name__ == "__main__":
    main()
