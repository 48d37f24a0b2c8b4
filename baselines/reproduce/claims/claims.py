"""What a claim is: a statement on the scores of two arms that a tier of reference results has."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from baselines.reproduce.claims.findings import Reader
from baselines.reproduce.verdicts import Direction


@dataclass(frozen=True)
class Arm:
    """A method, with one of its settings where the tier has several.

    Attributes:
        title: What the page calls it.
        method: Its name.
        setting: Fields that its config has; those that tell it from the file's other configs do.
    """

    title: str
    method: str
    setting: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A statement on the difference of two arms' mean scores, first minus second.

    Attributes:
        text: What is claimed.
        source: Where in the paper.
        tier: Whose results decide.
        first: One arm.
        second: The other.
        datasets: Names of the datasets, or patterns as for :func:`expand`; the difference is the
            mean over them.
        against: With these, the quantity is the difference on ``datasets`` minus that on
            ``against``, of which there are as many.
        direction: Whether the quantity is said to be more than nothing, or nothing.
    """

    text: str
    source: str
    tier: str
    first: Arm
    second: Arm
    datasets: tuple[str, ...]
    against: tuple[str, ...] = ()
    direction: Direction = "more"


def expand(patterns: Iterable[str]) -> tuple[str, ...]:
    """Returns what a shell makes of words with braces: ``a-{b,c}`` is ``a-b`` and ``a-c``."""
    parts = [re.split(r"\{([^}]*)\}", pattern) for pattern in patterns]
    choices = (
        [part.split(",") if index % 2 else [part] for index, part in enumerate(each)]
        for each in parts
    )
    return tuple("".join(chosen) for each in choices for chosen in itertools.product(*each))


@dataclass(frozen=True)
class Elsewhere:
    """A claim that a table's scores do not decide.

    Attributes:
        text: What is claimed.
        source: Where in the paper.
        read: What its measurement found, from the folder ``docs/results``.
        command: What measures it.
    """

    text: str
    source: str
    read: Reader
    command: str


@dataclass(frozen=True)
class Paper:
    """A paper's claims.

    Attributes:
        title: Heading.
        claims: Decided by scores of a table.
        elsewhere: Decided by other measurements.
    """

    title: str
    claims: tuple[Claim, ...]
    elsewhere: tuple[Elsewhere, ...] = ()
