"""Commands that are a folder of named things, each a module with a dataclass that has ``run()``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def find_named(kind: str, places: Mapping[str, str], name: str) -> type[Any]:
    """Returns the dataclass of options of a named thing; its ``run()`` does the work.

    Args:
        kind: What these things are, for the message.
        places: ``module:Class`` of each, by name; only the one asked for is imported.
        name: Which one.

    Raises:
        ValueError: If there is none.
    """
    if name not in places:
        raise ValueError(f"no {kind} {name!r}; there are: {', '.join(places)}")
    module, _, attribute = places[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
