"""Where a loaded dataset came from, and whether it is bit for bit the release's."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["verified", "rebuilt", "unpinned"]


class Provenance(BaseModel):
    """Recorded in every report and run.

    Attributes:
        status: ``verified``: the digest equals the registry's, or it was drawn by the registry's
            rule from a parent of which that holds. ``rebuilt``: same recipe and seed, other bits
            (simulators differ between CPU classes). ``unpinned``: the registry pins no digest, as
            for a user's own data.
        source: Which source answered: ``build``, ``subset``, ``d4rl``, ``minari``.
        digest: sha256 over the digests of all arrays.
        expected_digest: What the registry pins, if anything.
        recipe_digest: Identity of the recipe, its parameters and its environment, if built.
        parent: Provenance of the dataset that a subset was drawn from.
        versions: Releases of the packages that made the data.
        made_at: When the arrays were written to the cache (UTC, ISO 8601).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Status
    source: str
    digest: str
    expected_digest: str | None = None
    recipe_digest: str | None = None
    parent: Provenance | None = None
    versions: dict[str, str] = {}
    made_at: str


def package_versions(*names: str) -> dict[str, str]:
    """Returns the installed releases of Python, this package, NumPy and further packages.

    Args:
        *names: Distribution names; those not installed are left out.
    """
    versions = {"python": platform.python_version()}
    for name in ("hetero-bench", "numpy", *names):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
