"""What a method is to the engine, and the search for methods: one file, found by its ``METHOD``.

A method for both kinds of action is two files, ``<name>.py`` for continuous actions and
``<name>_discrete.py``; both declare the same name, and the dataset decides which one is meant. A
plug-in is a method on each of its backbones: its file declares several, in ``METHODS``.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

import baselines
from baselines.engine.data import Batch, MemberData
from baselines.engine.preparation import ActionKind, Preparation
from baselines.engine.random import MemberRandom

if TYPE_CHECKING:
    from hetero_bench import Dataset, DatasetSpec


class Actor(Protocol):
    """One member's policy on the CPU: a pure function of observations and noise.

    Evaluation draws the noise from the generator that it is given; an exported policy takes it as
    an input. One that compares values to choose between continuous actions has an attribute
    ``chooses``, which is true: where values are all but equal, rounding decides.
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


@runtime_checkable
class PhasedAgent(Protocol):
    """An agent (:class:`Agent`) whose updates are not all alike, as if the actor moves less often.

    What an update consists of depends on its number alone, which the host knows: no update has a
    branch on the device, and the engine may capture one graph per phase.
    """

    active: Tensor

    def phase(self, step: int) -> Hashable:
        """Returns what update number ``step`` (0, 1, ...) consists of; ``update`` is given it."""
        ...

    def update(self, batch: Batch, phase: Any) -> dict[str, Tensor]:
        """Takes one gradient step; see :meth:`Agent.update`.

        Returns:
            Metrics by name, (P,) each, on the device. They are averaged over the updates that
            return them.
        """
        ...

    def actor(self, member: int) -> Actor:
        """Returns a copy of one member's policy on the CPU."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Returns the live tensors, nested, that determine all further updates."""
        ...


@runtime_checkable
class SamplingAgent(Protocol):
    """An agent that chooses the transitions of its batches; others get uniform ones."""

    def sample(self, random: MemberRandom, batch_size: int) -> Batch:
        """Returns the batch of the next update, without host synchronisation.

        Args:
            random: The members' stream of batches.
            batch_size: ``B``, transitions per member.
        """
        ...


@runtime_checkable
class RefreshedAgent(Protocol):
    """An agent with a part that is computed anew every few updates, such as a clustering.

    The engine calls ``refresh`` before update number 0 and then every ``refresh_interval`` updates,
    never within a captured sequence of them. It may wait for the device, and writes what the
    updates read into tensors that stay.

    Attributes:
        refresh_interval: Updates between two calls.
    """

    refresh_interval: int

    def refresh(self, step: int) -> dict[str, Tensor]:
        """Computes the part anew before update number ``step``.

        Returns:
            Metrics by name, (P,) each, on the device.
        """
        ...


def unprepared(config: Any, dataset: Dataset) -> Preparation:
    """Returns that a method takes observations and rewards as they are."""
    return Preparation()


@dataclass(frozen=True)
class Method:
    """A reference method, as its file declares it in ``METHOD`` or among ``METHODS``.

    Attributes:
        name: What the command line and run records call it, for either kind of action.
        title: What tables and figures call it.
        paper: Where it was published.
        config: Frozen dataclass of hyperparameters. Every one has ``batch_size``.
        agent: Makes the learners of a population from (P,) configs, its data and (P,) seeds.
        actions: The kind of action it is made for.
        prepare: What is done to a dataset for a member with a config.
        overrides: Defaults that differ by dataset: fields of the config, by dataset family or by
            pattern of dataset names such as ``hopper-*``. All that match apply, later ones last.
        online_overrides: The same for what changes in a config when it goes on in the environment.
    """

    name: str
    title: str
    paper: str
    config: type
    agent: Callable[[Sequence[Any], MemberData, Sequence[int]], Agent | PhasedAgent]
    actions: ActionKind
    prepare: Callable[[Any, Dataset], Preparation] = unprepared
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    online_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def config_for(self, spec: DatasetSpec) -> Any:
        """Returns the default hyperparameters for a dataset."""
        return dataclasses.replace(self.config(), **_matching(self.overrides, spec))

    def config_online(self, config: Any, spec: DatasetSpec) -> Any:
        """Returns the hyperparameters with which a trained member goes on in the environment."""
        return dataclasses.replace(config, **_matching(self.online_overrides, spec))


def _matching(overrides: Mapping[str, Mapping[str, Any]], spec: DatasetSpec) -> dict[str, Any]:
    """Returns the fields that apply to a dataset."""
    changes: dict[str, Any] = {}
    for key, values in overrides.items():
        if key == spec.family or fnmatchcase(spec.name, key):
            changes.update(values)
    return changes


def list_methods() -> list[Method]:
    """Returns the methods that can be imported, in the order of their names."""
    return find_methods()[0]


def find_methods() -> tuple[list[Method], dict[str, Exception]]:
    """Returns the methods in the order of their names, and why other modules do not import.

    Returns:
        The methods, continuous forms before discrete ones, and errors by module name.
    """
    methods, broken = [], {}
    for name in _module_names():
        try:
            module = importlib.import_module(f"baselines.{name}")
        except Exception as error:  # one method's mistake is not to take the others away
            broken[name] = error
        else:
            methods += _declared(module)
    return sorted(methods, key=lambda method: (method.name, method.actions)), broken


def get_method(name: str, actions: ActionKind | None = None) -> Method:
    """Looks a method up; imports only modules that are called like it where there are such.

    Args:
        name: Its name.
        actions: The kind of action; may be left out if the method has one form only.

    Raises:
        ValueError: If there is none; the message suggests the nearest names, or says for which
            actions there is one.
        ImportError: If its module cannot be imported.
    """
    return pick_form(method_forms(name), actions)


def pick_form(forms: Mapping[ActionKind, Method], actions: ActionKind | None) -> Method:
    """Returns the form of a method for a kind of action; None will do if there is one form only.

    Raises:
        ValueError: If there is none, or more than one for None.
    """
    if actions is not None and actions in forms:
        return forms[actions]
    name, there_are = next(iter(forms.values())).name, " and ".join(forms)
    if actions is not None:
        raise ValueError(f"{name} is made for {there_are} actions; there is no {actions} form")
    if len(forms) > 1:
        raise ValueError(f"{name} has forms for {there_are} actions; say which is meant")
    return next(iter(forms.values()))


def method_forms(name: str) -> dict[ActionKind, Method]:
    """Returns the one or two methods of a name, by their kind of action.

    Raises:
        ValueError: If there is none; the message suggests the nearest names.
        ImportError: If a module that is called like it cannot be imported.
    """
    modules = [each for each in (name, f"{name}_discrete") if each in _module_names()]
    likely = [_declared(importlib.import_module(f"baselines.{each}")) for each in modules]
    named = [method for methods in likely for method in methods if method.name == name]
    if named:
        return {method.actions: method for method in named}
    found, broken = find_methods()
    named = [method for method in found if method.name == name]
    if named:
        return {method.actions: method for method in named}
    names = list(dict.fromkeys(method.name for method in found))
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(names)}"
    unread = f" Not importable: {', '.join(broken)}." if broken else ""
    raise ValueError(f"no method {name!r}; {hint}{unread}")


def _declared(module: ModuleType) -> list[Method]:
    """Returns the methods that a module declares."""
    one = [module.METHOD] if hasattr(module, "METHOD") else []
    return [*one, *getattr(module, "METHODS", ())]


def _module_names() -> list[str]:
    return [
        module.name
        for module in pkgutil.iter_modules(baselines.__path__)
        if not module.ispkg and not module.name.startswith("_")
    ]
