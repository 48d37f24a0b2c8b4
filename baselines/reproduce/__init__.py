"""Published results, reproduced: each a package with a ``Reproduction``, run by one command.

    python -m baselines reproduce reds-gridworld

trains what is missing, analyses it, and writes a page with its figures below ``docs/results``.
"""

from __future__ import annotations

import importlib
from typing import Any

REPRODUCTIONS = {"reds-gridworld": "baselines.reproduce.reds_gridworld"}
"""Module of each reproduction, by name."""


def get_reproduction(name: str) -> type[Any]:
    """Returns the ``Reproduction`` of a name: a dataclass of options with ``run()``.

    Raises:
        ValueError: If there is none.
    """
    if name not in REPRODUCTIONS:
        raise ValueError(f"no reproduction {name!r}; there are: {', '.join(REPRODUCTIONS)}")
    return importlib.import_module(REPRODUCTIONS[name]).Reproduction
