"""What a method is to the engine, and the search for methods: one file, found by its ``METHOD``."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

import baselines
from baselines.engine.data import Batch, MemberData


class Actor(Protocol):
    """One member's policy on the CPU: a pure function of observations and noise.

    Evaluation draws the noise from the generator that it is given; an exported policy takes it as
    an input.
    """

    @property
    def noise_size(self) -> int:
        """Standard normal numbers per observation; 0 for a deterministic policy."""
        ...

    def __call__(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, *obs) float32 and (n, noise_size) float32 to (n, *act) actions."""
        ...


class Agent(Protocol):
    """All members' learners of one method: parameters, targets, optimisers.

    Attributes:
        active: (P,) bool on the device; a member that became non-finite is switched off for good.
    """

    active: Tensor

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step for every active member.

        Runs without host synchronisation and without shapes that depend on values, so that the
        engine may capture it.

        Returns:
            Metrics by name, (P,) each, on the device; ``loss`` is among them.
        """
        ...

    def actor(self, member: int) -> Actor:
        """Returns a copy of one member's policy on the CPU."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Returns the live tensors, nested, that determine all further updates."""
        ...


@dataclass(frozen=True)
class Method:
    """A reference method, as ``baselines/<name>.py`` declares it in ``METHOD``.

    Attributes:
        name: What the command line and run records call it.
        title: What tables and figures call it.
        paper: Where it was published.
        config: Frozen dataclass of hyperparameters. Every one has ``batch_size``.
        agent: Makes the learners of a population from (P,) configs, its data and (P,) seeds.
        actions: Kinds of action it is made for.
    """

    name: str
    title: str
    paper: str
    config: type
    agent: Callable[[Sequence[Any], MemberData, Sequence[int]], Agent]
    actions: tuple[Literal["discrete", "continuous"], ...]


def list_methods() -> list[Method]:
    """Returns the methods that can be imported, in the order of their names."""
    return find_methods()[0]


def find_methods() -> tuple[list[Method], dict[str, Exception]]:
    """Returns the methods in the order of their names, and why other modules do not import.

    Returns:
        The methods, and errors by module name.
    """
    methods, broken = [], {}
    for name in _module_names():
        try:
            module = importlib.import_module(f"baselines.{name}")
        except Exception as error:  # one method's mistake is not to take the others away
            broken[name] = error
        else:
            methods += [module.METHOD] if hasattr(module, "METHOD") else []
    return sorted(methods, key=lambda method: method.name), broken


def get_method(name: str) -> Method:
    """Looks a method up by name; imports its own module only, if that is called like it.

    Raises:
        ValueError: If there is none; the message suggests the nearest names.
        ImportError: If its module cannot be imported.
    """
    if name in _module_names():
        method = getattr(importlib.import_module(f"baselines.{name}"), "METHOD", None)
        if method is not None and method.name == name:
            return method
    found, broken = find_methods()
    methods = {method.name: method for method in found}
    if name in methods:
        return methods[name]
    close = difflib.get_close_matches(name, methods, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(methods)}"
    unread = f" Not importable: {', '.join(broken)}." if broken else ""
    raise ValueError(f"no method {name!r}; {hint}{unread}")


def _module_names() -> list[str]:
    return [
        module.name
        for module in pkgutil.iter_modules(baselines.__path__)
        if not module.ispkg and not module.name.startswith("_")
    ]
