"""The command line of the baselines: ``python -m baselines train|table|reproduce|list``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines.engine import (
    Estimate,
    Method,
    estimate,
    execute,
    find_methods,
    get_method,
    list_methods,
    make_plan,
)
from baselines.engine.members import product
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

{PROGRAM} train --method NAME --help shows the options and NAME's hyperparameters."""


@dataclass(frozen=True)
class TrainArguments:
    """Train datasets × swept values × seeds of one method as one population.

    The same command again continues an interrupted run, with the result it would have had.
    """

    method: str
    """Name of the method; `python -m baselines list` shows them."""
    dataset: tuple[str, ...]
    """Dataset ids, with equal observation shapes and action spaces."""
    size: int | None = None
    """Train on this many transitions of every dataset, drawn as whole trajectories."""
    draw: int | None = None
    """Which draw of a subset; 0 by default."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Manifest, HDF5 file or Minari folder of datasets of your own; may be given several times."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; each is a member of the population."""
    steps: int = 8_000
    """Gradient steps. The default suits the gridworld."""
    sweep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """FIELD=VALUE,VALUE,... of the config; several --sweep are combined in all ways."""
    out: str = "runs"
    """Folder for results."""
    device: str = "cpu"
    """cpu, or cuda."""
    threads: int | None = None
    """CPU threads; all by default."""
    log_every: int = 500
    """Steps between two points of the training curves."""
    eval_every: int | None = None
    """Steps between two evaluations; by default only the final policy is evaluated."""
    evaluation_episodes: int | None = None
    """Episodes per evaluation; the dataset's number by default."""
    tensorboard: bool = False
    """Write training curves for TensorBoard beside the run records, too."""
    overwrite: bool = False
    """Replace finished results."""
    dry_run: bool = False
    """Only say how many members there are, what memory they take and how long it will take."""
    debug: bool = False
    """Show where an error comes from."""


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
        table.add_row(method.name, method.title, ", ".join(method.actions), method.paper)
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
    options, config = parse_train(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for path in options.register:
        hetero_bench.register(path)
    plan = make_plan(
        options.method,
        [hetero_bench.load(each, size=options.size, draw=options.draw) for each in options.dataset],
        options.seeds,
        product(config, parse_sweep(type(config), options.sweep)),
        steps=options.steps,
        device=options.device,
        log_every=options.log_every,
        eval_every=options.eval_every,
        evaluation_episodes=options.evaluation_episodes,
    )
    if options.dry_run:
        _print_estimate(plan, estimate(plan))
        return 0
    runs = execute(plan, options.out, overwrite=options.overwrite, tensorboard=options.tensorboard)
    _print_results(plan, runs)
    print(f"results are in {options.out}; hetero-bench grade {options.out} compares them")
    return 0


def parse_train(arguments: Sequence[str]) -> tuple[Any, Any]:
    """Parses the arguments of ``train``, whose ``--config`` depends on its ``--method``.

    Returns:
        The :class:`TrainArguments` and the method's config.

    Raises:
        ValueError: If the method is missing or unknown.
        SystemExit: If an argument is wrong, after saying so, or help was asked for.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--method")
    name = finder.parse_known_args(arguments)[0].method
    if name is None:
        if {"-h", "--help"} & set(arguments):
            tyro.cli(TrainArguments, prog=f"{PROGRAM} train", args=["--help"])
        names = ", ".join(method.name for method in list_methods())
        raise ValueError(f"--method is missing; there are: {names}")
    method: Method = get_method(name)
    with_config = dataclasses.make_dataclass(
        "WithConfig",
        [("config", method.config, dataclasses.field(default_factory=method.config))],
        bases=(TrainArguments,),
        frozen=True,
    )
    with_config.__doc__ = TrainArguments.__doc__
    options = tyro.cli(with_config, prog=f"{PROGRAM} train", args=list(arguments))
    return options, options.config


def parse_sweep(config: type, sweep: Sequence[str]) -> dict[str, list[Any]]:
    """Parses ``FIELD=VALUE,VALUE,...`` with the types of a config's fields.

    Words of one tuple value are separated by spaces: ``hidden_sizes=64 64,128 128``.

    Raises:
        ValueError: If an entry has another form or an unknown field.
        SystemExit: If a value does not have its field's type, after saying so.
    """
    known = [field.name for field in dataclasses.fields(config)]
    values: dict[str, list[Any]] = {}
    for entry in sweep:
        name, equals, text = entry.partition("=")
        name = name.replace("-", "_")
        if not equals or not text or name not in known:
            raise ValueError(
                f"--sweep {entry!r}: expected FIELD=VALUE,VALUE,... with a field among "
                f"{', '.join(known)}"
            )
        values[name] = [_parse_value(config, name, word) for word in text.split(",")]
    return values


def _parse_value(config: type, name: str, word: str) -> Any:
    parsed = tyro.cli(
        config,
        prog=f"{PROGRAM} train --sweep",
        args=[f"--{name.replace('_', '-')}", *word.split()],
        config=(tyro.conf.FlagConversionOff,),
    )
    return getattr(parsed, name)


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
