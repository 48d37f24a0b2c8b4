"""The command line of the baselines: ``python -m baselines train|export|diagnose|table|...``."""

from __future__ import annotations

import sys
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines.arguments import parse_train
from baselines.diagnostics import DIAGNOSTICS
from baselines.engine import Estimate, estimate, execute, find_methods, make_plan
from baselines.engine.plan import Plan
from baselines.engine.precision import Precision
from baselines.export import ExportArguments
from baselines.finetune import FineTuneArguments
from baselines.named import find_named
from baselines.reproduce import REPRODUCTIONS
from baselines.table import make_table
from baselines.tiers import TIERS
from hetero_bench.errors import UnknownDatasetError
from hetero_bench.formatting import mean_and_std
from hetero_bench.runs import Run

PROGRAM = "python -m baselines"
USAGE = f"""usage: {PROGRAM} train --method NAME --dataset ID [ID ...] [options]
       {PROGRAM} finetune PATH [PATH ...] [options]
       {PROGRAM} export PATH [PATH ...] [options]
       {PROGRAM} diagnose NAME [options]
       {PROGRAM} table --tier NAME [options]
       {PROGRAM} reproduce NAME [options]
       {PROGRAM} list

train      train seeds, datasets and hyperparameters of one method as one population
finetune   go on with trained runs in their environments
export     write the policies of trained runs as ONNX files, and check them
diagnose   look into methods and trained policies: {", ".join(DIAGNOSTICS)}
table      make a table of reference results: {", ".join(TIERS)}
reproduce  train, analyse and describe a published experiment: {", ".join(REPRODUCTIONS)}
list       show the methods and their papers

{PROGRAM} train --method NAME --dataset ID --help shows the options, and NAME's
hyperparameters with their defaults for the dataset."""


@dataclass(frozen=True)
class TableArguments:
    """Train the methods of a tier on its datasets and write the results.

    The same command again continues, and takes no time for what is finished.
    """

    tier: str
    """Which table; each states its methods, datasets, steps and seeds in baselines/tiers.py."""
    methods: tuple[str, ...] = ()
    """Only these methods; by default all."""
    datasets: tuple[str, ...] = ()
    """Only these datasets; by default all."""
    work: Path | None = None
    """Folder of checkpoints and run records; by default runs/table/TIER."""
    out: Path | None = None
    """Folder of the results; by default registry/results/TIER."""
    workers: int | None = None
    """Worker processes; by default one per processor on a CPU, one on a GPU."""
    device: str | None = None
    """cpu, or cuda; by default the tier's."""
    precision: Precision | None = None
    """Of the networks' matrix products; by default the tier's."""
    overwrite: bool = False
    """Train again what is finished, and replace other results."""
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
    commands = {
        "train": _train,
        "finetune": _finetune,
        "export": _export,
        "diagnose": _diagnose,
        "table": _table,
        "reproduce": _reproduce,
        "list": _list,
    }
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
        if "--overwrite" in arguments:
            print("what was finished is trained again, as --overwrite says", file=sys.stderr)
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
        options.tier,
        methods=options.methods,
        datasets=options.datasets,
        work=options.work,
        out=options.out,
        overwrite=options.overwrite,
        workers=options.workers,
        device=options.device,
        precision=options.precision,
    )
    print(f"{len(written)} files of results are below {written[0].parents[1]}")
    return 0


def _finetune(arguments: Sequence[str]) -> int:
    tyro.cli(FineTuneArguments, prog=f"{PROGRAM} finetune", args=list(arguments)).run()
    return 0


def _export(arguments: Sequence[str]) -> int:
    tyro.cli(ExportArguments, prog=f"{PROGRAM} export", args=list(arguments)).run()
    return 0


def _diagnose(arguments: Sequence[str]) -> int:
    return _run_named("diagnose", "diagnostic", DIAGNOSTICS, arguments)


def _reproduce(arguments: Sequence[str]) -> int:
    return _run_named("reproduce", "reproduction", REPRODUCTIONS, arguments)


def _run_named(command: str, kind: str, places: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Runs one of a command's named things, which comes first among the arguments."""
    name, *options = arguments or [""]
    if name in ("-h", "--help"):
        print(f"usage: {PROGRAM} {command} NAME [options]; names: {', '.join(places)}")
        return 0
    found = find_named(kind, places, name)
    tyro.cli(found, prog=f"{PROGRAM} {command} {name}", args=options).run()
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
    on_gpu = torch.device(plan.device).type == "cuda"
    workers = options.evaluation_workers
    runs = execute(
        plan,
        options.out,
        overwrite=options.overwrite,
        tensorboard=options.tensorboard,
        evaluation_workers=int(on_gpu) if workers is None else workers,
    )
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
    print(
        f"state    {_mebibytes(cost.state_bytes)} of parameters and all else that checkpoints keep"
    )
    print(f"data     {_mebibytes(cost.data_bytes)} of transitions on the device")
    for name, phase in cost.phases.items():
        which = f" for {phase.steps:,} steps of {name}" if len(cost.phases) > 1 else ""
        print(f"speed    {phase.steps_per_second:,.0f} steps/s on {plan.device}{which}")
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
            mean_and_std(scores),
            f"{np.mean(successes):.0%}" if successes else "",
            str(sum(run.status == "diverged" for _, run in rows)),
        )
    Console().print(table)
