"""What every method's ``Config`` checks about its fields when it is made."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any


def check_range(
    config: Any,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    whole: bool = False,
) -> None:
    """Checks that a numeric hyperparameter is finite and within its range.

    Args:
        config: A config.
        name: Name of the field.
        low: Smallest value.
        high: Largest value.
        open_low: Whether ``low`` itself is excluded.
        whole: Whether only integers are allowed.

    Raises:
        ValueError: If it is not; the message has field, value and what was expected.
    """
    value = getattr(config, name)
    kind: Any = Integral if whole else Real
    number = isinstance(value, kind) and not isinstance(value, bool)
    if number and math.isfinite(value) and low <= value <= high and not (open_low and value == low):
        return
    bounds = [
        f"{'above' if open_low else 'at least'} {low:g}" if math.isfinite(low) else "",
        f"at most {high:g}" if math.isfinite(high) else "",
    ]
    noun = "an integer" if whole else "a finite number"
    _refuse(config, name, " ".join([noun, " and ".join(filter(None, bounds))]).strip())


def check_choice(config: Any, name: str, choices: Collection[Any]) -> None:
    """Checks that a hyperparameter is one of a few values.

    Raises:
        ValueError: If it is not; the message has field, value and what was expected.
    """
    if getattr(config, name) not in choices:
        _refuse(config, name, f"one of {', '.join(map(repr, choices))}")


def check_sizes(config: Any, name: str = "hidden_sizes") -> None:
    """Checks the widths of hidden layers.

    Raises:
        ValueError: If they are wrong; the message has field, value and what was expected.
    """
    sizes = getattr(config, name)
    if not isinstance(sizes, tuple) or not all(
        isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes
    ):
        _refuse(config, name, "a tuple of positive integers")


def check_network(config: Any) -> None:
    """Checks ``hidden_sizes``, ``batch_size``, ``learning_rate`` and ``greedy``.

    Raises:
        ValueError: If one is wrong; the message has field, value and what was expected.
    """
    check_sizes(config)
    check_range(config, "batch_size", 1, whole=True)
    check_range(config, "learning_rate", 0.0, open_low=True)
    check_choice(config, "greedy", (False, True))


def check_preparation(config: Any) -> None:
    """Checks ``batch_size``, ``normalise_observations``, ``reward_scale`` and ``reward_shift``.

    Raises:
        ValueError: If one is wrong; the message has field, value and what was expected.
    """
    check_range(config, "batch_size", 1, whole=True)
    check_choice(config, "normalise_observations", (False, True))
    check_range(config, "reward_scale")
    check_range(config, "reward_shift")


def _refuse(config: Any, name: str, expected: str) -> None:
    where = f"{type(config).__module__}.{type(config).__qualname__}"
    raise ValueError(f"{where}: {name} is {getattr(config, name)!r}; expected {expected}")
