"""The command line of the baselines: ``python -m baselines train|table|reproduce|list``."""

from __future__ import annotations

import sys
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines.arguments import parse_train
from baselines.engine import Estimate, estimate, execute, find_methods, make_plan
from baselines.engine.plan import Plan
from baselines.reproduce import REPRODUCTIONS, get_reproduction
from baselines.table import make_table
from hetero_bench.errors import UnknownDatasetError
from hetero_bench.runs import Run

PROGRAM = "python -m baselines"
USAGE = f"""usage: {PROGRAM} train --method NAME --dataset ID [ID ...] [options]
       {PROGRAM} table --family NAME [options]
       {PROGRAM} reproduce NAME [options]
       {PROGRAM} list

train      train seeds, datasets and hyperparameters of one method as one population
table      make the reference results of a dataset family
reproduce  train, analyse and describe a published experiment: {", ".join(REPRODUCTIONS)}
list       show the methods and their papers

{PROGRAM} train --method NAME --dataset ID --help shows the options, and NAME's
hyperparameters with their defaults for the dataset."""


@dataclass(frozen=True)
class TableArguments:
    """Train every reference method on every dataset of a family and write the results.

    The same command again continues, and takes no time for what is finished.
    """

    family: str
    """Dataset family, for example gridworld."""
    methods: tuple[str, ...] = ()
    """Only these methods; by default all."""
    work: Path = Path("runs/table")
    """Folder of checkpoints and run records."""
    out: Path | None = None
    """Folder of the results; by default registry/results."""
    workers: int | None = None
    """Worker processes; by default one per processor."""
    overwrite: bool = False
    """Train again what is finished."""
    debug: bool = False
    """Show where an error comes from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status.
    """
    command, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    commands = {"train": _train, "table": _table, "reproduce": _reproduce, "list": _list}
    if command not in commands:
        asked = command in ("-h", "--help", "help")
        print(USAGE if asked else f"no command {command!r}\n\n{USAGE}", file=sys.stderr)
        return 0 if asked else 2
    try:
        return commands[command](arguments)
    except (ValueError, OSError, ImportError, RuntimeError, UnknownDatasetError) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        if type(error) is RuntimeError and "--debug" not in arguments:
            print("add --debug to see where it comes from", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130


def _list(arguments: Sequence[str]) -> int:
    table = Table("name", "method", "actions", "paper")
    methods, broken = find_methods()
    for method in methods:
        table.add_row(method.name, method.title, method.actions, method.paper)
    Console().print(table)
    for name, error in broken.items():
        print(f"baselines.{name} cannot be imported: {error!r}", file=sys.stderr)
    return 1 if broken else 0


def _table(arguments: Sequence[str]) -> int:
    options = tyro.cli(TableArguments, prog=f"{PROGRAM} table", args=list(arguments))
    written = make_table(
        options.family,
        methods=options.methods,
        work=options.work,
        out=options.out,
        overwrite=options.overwrite,
        workers=options.workers,
    )
    print(f"wrote {len(written)} files below {written[0].parents[1]}")
    return 0


def _reproduce(arguments: Sequence[str]) -> int:
    name, *options = arguments or [""]
    reproduction = get_reproduction(name)
    tyro.cli(reproduction, prog=f"{PROGRAM} reproduce {name}", args=options).run()
    return 0


def _train(arguments: Sequence[str]) -> int:
    request = parse_train(arguments)
    options = request.options
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    plan = make_plan(
        request.method,
        [hetero_bench.load(each, size=options.size, draw=options.draw) for each in options.dataset],
        options.seeds,
        request.configs,
        steps=options.steps,
        device=options.device,
        log_every=options.log_every,
        eval_every=options.eval_every,
        evaluation_episodes=options.evaluation_episodes,
        precision=options.precision,
    )
    if options.dry_run:
        _print_estimate(plan, estimate(plan))
        return 0
    runs = execute(plan, options.out, overwrite=options.overwrite, tensorboard=options.tensorboard)
    _print_results(plan, runs)
    print(f"results are in {options.out}; hetero-bench grade {options.out} compares them")
    return 0


def _print_estimate(plan: Plan, cost: Estimate) -> None:
    datasets = list(dict.fromkeys(member.dataset.id for member in plan.members))
    labels = list(dict.fromkeys(member.label for member in plan.members if member.label))
    seeds = list(dict.fromkeys(member.seed for member in plan.members))
    print(f"method   {plan.method.title} ({plan.method.paper})")
    print(f"members  {cost.members}: {len(seeds)} seeds on {', '.join(datasets)}")
    for label in labels:
        print(f"         {label}")
    print(f"state    {_mebibytes(cost.state_bytes)} of parameters, targets and optimiser moments")
    print(f"data     {_mebibytes(cost.data_bytes)} of transitions on the device")
    print(f"speed    {cost.steps_per_second:,.0f} steps/s on {plan.device}")
    print(f"time     {cost.training_seconds:,.0f} s for {plan.steps:,} steps, without evaluations")


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _print_results(plan: Plan, runs: Sequence[Run]) -> None:
    """Shows the final scores, one row per dataset and setting."""
    groups: dict[tuple[str, str], list[tuple[hetero_bench.Dataset, Run]]] = defaultdict(list)
    for member, run in zip(plan.members, runs, strict=True):
        groups[member.dataset.id, member.label].append((member.dataset, run))
    table = Table(title=f"{plan.method.title} after {plan.steps:,} steps", title_justify="left")
    table.add_column("dataset", overflow="fold")
    if any(member.label for member in plan.members):
        table.add_column("setting", overflow="fold")
    for name in ("seeds", "score", "success", "diverged"):
        table.add_column(name, justify="right")
    for (dataset_id, label), rows in groups.items():
        finals = [(dataset, run.evaluations[-1]) for dataset, run in rows]
        scores = [dataset.spec.normalized_score(final.returns).mean() for dataset, final in finals]
        successes = [np.mean(final.successes) for _, final in finals if final.successes is not None]
        table.add_row(
            dataset_id,
            *([label] if label else []),
            str(len(rows)),
            f"{np.mean(scores).round(1) + 0.0:.1f} ± {np.std(scores):.1f}",
            f"{np.mean(successes):.0%}" if successes else "",
            str(sum(run.status == "diverged" for _, run in rows)),
        )
    Console().print(table)
