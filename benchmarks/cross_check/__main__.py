"""Cross-check of TD3+BC, IQL and CQL with d3rlpy, in steps that each continue where they stopped.

    python -m venv ../d3rlpy && ../d3rlpy/bin/pip install "d3rlpy>=2.8,<2.9"
    python -m benchmarks.cross_check all --d3rlpy ../d3rlpy/bin/python --dataset ID

d3rlpy pins other versions of packages, so it has an environment of its own, which needs nothing of
this repository. ``prepare`` exports the transitions, ``train`` trains both libraries, ``score``
evaluates d3rlpy's policies as ours are and collects the returns in docs/cross_check/, ``table``
writes the tables of docs/cross_check.md; ``all`` does all of that. ``weights`` compares single
updates from equal weights, in a minute.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

import hetero_bench
from hetero_bench.atomic import write_file

from .cases import CASES
from .cells import Comparison
from .page import SCORES, weights_table, write_scores
from .weights import CHECKS, replay

Command = Literal["prepare", "train", "score", "table", "all", "weights"]


@dataclass(frozen=True)
class Arguments:
    """Compare the baselines with d3rlpy."""

    command: tyro.conf.Positional[Command]
    """What to do."""
    dataset: tuple[str, ...] = ("hopper-medium-hb-10k",)
    """Datasets."""
    cases: tuple[str, ...] = ("td3_bc", "iql", "cql")
    """Comparisons; there is cql_max_backup, too."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of training and of evaluation."""
    d3rlpy: str | None = None
    """The Python of d3rlpy's environment; without it only our side is trained."""
    work: Path = Path("runs/cross_check")
    """Folder of data, policies and run records."""


def comparisons(arguments: Arguments) -> Iterator[Comparison]:
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        raise SystemExit(f"no case {', '.join(sorted(unknown))}; there are: {', '.join(CASES)}")
    for name in arguments.dataset:
        dataset = hetero_bench.load(name)
        for case in arguments.cases:
            yield Comparison(case, CASES[case], dataset, arguments.work)


def train(comparison: Comparison, arguments: Arguments) -> None:
    comparison.train_ours(arguments.seeds)
    if arguments.d3rlpy is not None:
        for seed in arguments.seeds:
            comparison.train_theirs(seed, arguments.d3rlpy)


def score(comparison: Comparison, arguments: Arguments) -> None:
    for seed in arguments.seeds:
        comparison.score_theirs(seed)
    document = comparison.document(arguments.seeds)
    if document is not None:
        write_scores(document, SCORES)


def compare_weights(arguments: Arguments) -> None:
    if arguments.d3rlpy is None:
        raise SystemExit("the comparison of weights needs --d3rlpy, the Python of its environment")
    dataset = hetero_bench.load(arguments.dataset[0])
    found = [entry for each in CHECKS for entry in replay(each, dataset, arguments.d3rlpy)]
    write_file(SCORES / "equal_weights.json", json.dumps(found, indent=1) + "\n")
    print(weights_table())


def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    if arguments.command == "weights":
        compare_weights(arguments)
        return
    for comparison in comparisons(arguments):
        print(f"{comparison.dataset.id} {comparison.name}", flush=True)
        if arguments.command in ("prepare", "all"):
            comparison.prepare()
        if arguments.command in ("train", "all"):
            train(comparison, arguments)
        if arguments.command in ("score", "all"):
            score(comparison, arguments)
    if arguments.command in ("table", "all"):
        make_tables = SCORES.with_name("make_tables.py")
        subprocess.run([sys.executable, str(make_tables)], check=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
