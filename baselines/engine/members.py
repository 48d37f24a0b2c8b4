"""Members of a population: one dataset, one seed and one setting of the hyperparameters each."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hetero_bench import Dataset


@dataclass(frozen=True)
class Member:
    """One training run inside a population.

    Attributes:
        dataset: What it is trained and evaluated on.
        config: Its hyperparameters, an instance of the method's ``Config``.
        seed: Everything random about it follows from this number.
        label: How its config differs from its neighbours', e.g. ``alpha=0.1``; empty if it does
            not.
    """

    dataset: Dataset
    config: Any
    seed: int
    label: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.dataset.id, self.label, f"seed {self.seed}"]))


def make_members(
    datasets: Sequence[Dataset],
    configs: Sequence[Any] | Callable[[Dataset], Sequence[Any]],
    seeds: Sequence[int],
) -> list[Member]:
    """Returns datasets × configs × seeds, seeds varying fastest.

    Args:
        datasets: The datasets.
        configs: The configs for every dataset, or a function that returns those for one.
        seeds: The seeds.

    Raises:
        ValueError: If one of the three is empty or has repetitions, or a seed is not a
            non-negative integer.
    """
    for seed in seeds:
        if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seed {seed!r} is not a non-negative integer")
    seeds = [int(seed) for seed in seeds]
    which = [(dataset.id, dataset.size, dataset.draw) for dataset in datasets]
    _check_distinct("dataset", which)
    _check_distinct("seed", seeds)
    members = []
    for dataset in datasets:
        own = configs(dataset) if callable(configs) else configs
        _check_distinct("config", own)
        members += [
            Member(dataset, config, seed, label)
            for config, label in zip(own, differences(own), strict=True)
            for seed in seeds
        ]
    return members


def _check_distinct(name: str, values: Sequence[Any]) -> None:
    if not values:
        raise ValueError(f"a population needs at least one {name}; got none")
    if len(set(values)) != len(values):
        raise ValueError(f"each {name} may occur once in a population; got {list(values)}")


def product(config: Any, sweep: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Returns one config per combination of the swept fields' values.

    Args:
        config: Gives the value of every other field.
        sweep: Values by field name.

    Raises:
        ValueError: If the config has no such field.
    """
    known = [field.name for field in dataclasses.fields(config)]
    for name in sweep:
        if name not in known:
            raise ValueError(f"cannot sweep {name!r}; expected one of {', '.join(known)}")
    return [
        dataclasses.replace(config, **dict(zip(sweep, values, strict=True)))
        for values in itertools.product(*sweep.values())
    ]


def differences(configs: Sequence[Any]) -> list[str]:
    """Returns for each config the fields in which the configs differ, e.g. ``alpha=0.1``."""
    names = [field.name for field in dataclasses.fields(configs[0])]
    swept = [name for name in names if len({getattr(each, name) for each in configs}) > 1]
    return [",".join(f"{name}={_short(getattr(each, name))}" for name in swept) for each in configs]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def per_member(configs: Sequence[Any], name: str, device: torch.device | str) -> Tensor:
    """Returns the (P,) float32 values of a numeric hyperparameter, which members may differ in.

    Raises:
        ValueError: If it is None for some members and a number for others.
    """
    values = [getattr(config, name) for config in configs]
    if None in values:
        shared(configs, name)
    return torch.tensor(values, dtype=torch.float32, device=device)


def shared(configs: Sequence[Any], name: str) -> Any:
    """Returns the value of a hyperparameter that has to be the same for all members.

    Raises:
        ValueError: If members differ in it, such as in the shape of their networks.
    """
    values = list(dict.fromkeys(getattr(config, name) for config in configs))
    if len(values) > 1:
        raise ValueError(
            f"the members of a population must agree in {name!r}; got {values}. Train one "
            "population per value."
        )
    return values[0]


def opening_steps(configs: Sequence[Any], name: str, steps: int | None) -> int:
    """Returns how many updates a run opens with before its main part begins.

    Args:
        configs: With a field of that name, the same for all; None is a tenth of the run.
        name: The field.
        steps: Of the whole run; None, where nothing is said about it, counts as a million.

    Raises:
        ValueError: If the main part would not begin.
    """
    given: int | None = shared(configs, name)
    opening = (1_000_000 if steps is None else steps) // 10 if given is None else given
    if steps is not None and steps <= opening:
        raise ValueError(
            f"{name} is {opening:,} and the run has {steps:,} updates; take more, or lower it"
        )
    return opening
