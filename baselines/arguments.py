"""The arguments of ``python -m baselines train``, which depend on the method and the dataset."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

import hetero_bench
from baselines.engine import Method, list_methods, method_forms
from baselines.engine.members import product
from baselines.engine.method import pick_form
from baselines.engine.precision import Precision
from baselines.engine.preparation import ActionKind, action_kind

PROGRAM = "python -m baselines train"
_CONFIG = "--config."


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
    precision: Precision | None = None
    """Of the networks' matrix products; by default fp32 on a CPU, tf32 on a GPU."""
    threads: int | None = None
    """CPU threads; all by default."""
    log_every: int = 500
    """Steps between two points of the training curves."""
    eval_every: int | None = None
    """Steps between two evaluations; by default only the final policy is evaluated."""
    evaluation_episodes: int | None = None
    """Episodes per evaluation; the dataset's number by default."""
    evaluation_workers: int | None = None
    """Processes that evaluate while training goes on; 0 trains and evaluates in turn. By default 1
    on a GPU; 0 on a CPU, whose cores the training has already. Results are equal."""
    tensorboard: bool = False
    """Write training curves for TensorBoard beside the run records, too."""
    overwrite: bool = False
    """Replace finished results."""
    dry_run: bool = False
    """Only say how many members there are, what memory they take and how long it will take."""
    debug: bool = False
    """Show where an error comes from."""


@dataclass(frozen=True)
class TrainRequest:
    """What a command line asks for.

    Attributes:
        options: Everything that does not depend on the method.
        method: The method, in the form for the datasets' kind of action.
        config: The config for the first dataset, before a sweep.
        changes: Fields of the config that were given.
        sweep: Values of the fields that are swept.
    """

    options: TrainArguments
    method: Method
    config: Any
    changes: Mapping[str, Any]
    sweep: Mapping[str, Sequence[Any]]

    def configs(self, dataset: hetero_bench.Dataset) -> list[Any]:
        """Returns the configs for a dataset: the method's defaults for it, changed and swept."""
        default = self.method.config_for(dataset.spec)
        return product(dataclasses.replace(default, **self.changes), self.sweep)


def parse_train(arguments: Sequence[str]) -> TrainRequest:
    """Parses the arguments of ``train``; registers datasets of one's own on the way.

    Raises:
        ValueError: If the method is missing, unknown, or not for the dataset's kind of action.
        UnknownDatasetError: If no dataset has an id.
        SystemExit: If an argument is wrong, after saying so, or help was asked for.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--method")
    finder.add_argument("--dataset", nargs="+", default=[])
    finder.add_argument("--register", action="append", default=[])
    asked = finder.parse_known_args(arguments)[0]
    if asked.method is None:
        if {"-h", "--help"} & set(arguments):
            tyro.cli(TrainArguments, prog=PROGRAM, args=["--help"])
        names = ", ".join(dict.fromkeys(method.name for method in list_methods()))
        raise ValueError(f"--method is missing; there are: {names}")
    forms = method_forms(asked.method)
    for path in asked.register:
        hetero_bench.register(path)
    specs = [hetero_bench.get_spec(name) for name in asked.dataset]
    method = pick_form(forms, _kind(specs[0])) if specs else next(iter(forms.values()))
    default = method.config_for(specs[0]) if specs else method.config()
    with_config = dataclasses.make_dataclass(
        "WithConfig",
        [("config", method.config, dataclasses.field(default=default))],
        bases=(TrainArguments,),
        frozen=True,
    )
    with_config.__doc__ = (
        f"{TrainArguments.__doc__}\n\n    The config is that of {method.title} for "
        f"{method.actions} actions{f' on {specs[0].id}' if specs else ''}."
    )
    options = tyro.cli(with_config, prog=PROGRAM, args=list(arguments))
    config = options.config
    return TrainRequest(
        options=options,
        method=method,
        config=config,
        changes={name: getattr(config, name) for name in _given(method.config, arguments)},
        sweep=parse_sweep(method.config, options.sweep),
    )


def _kind(spec: hetero_bench.DatasetSpec) -> ActionKind:
    """Returns a dataset's kind of action; looks at the data if the specification does not say."""
    if spec.action is None:
        return action_kind(hetero_bench.load(spec.id))
    return "continuous" if spec.action.n is None else "discrete"


def _given(config: type, arguments: Sequence[str]) -> list[str]:
    """Returns the fields of a config that are among the arguments, whatever their values."""
    flags = [word.partition("=")[0] for word in arguments if word.startswith(_CONFIG)]
    names = {flag.removeprefix(_CONFIG).replace("-", "_") for flag in flags}
    return [
        field.name
        for field in dataclasses.fields(config)
        if names & {field.name, f"no_{field.name}"}
    ]


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
        prog=f"{PROGRAM} --sweep",
        args=[f"--{name.replace('_', '-')}", *word.split()],
        config=(tyro.conf.FlagConversionOff,),
    )
    return getattr(parsed, name)
