"""Where a loaded dataset came from, and whether it is bit for bit the release's."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hetero_bench.errors import DigestError
from hetero_bench.registry import get_spec
from hetero_bench.spec import WHOLE, DatasetSpec

Status = Literal["verified", "rebuilt", "unpinned"]


class Provenance(BaseModel):
    """Recorded in every report and run.

    Attributes:
        status: ``verified``: the digest equals the registry's, or it was drawn by the registry's
            rule from a parent of which that holds. ``rebuilt``: same recipe and seed, other bits
            (simulators differ between CPU classes). ``unpinned``: the registry pins no digest, as
            for a user's own data.
        source: Which source answered: ``bundled``, ``build``, ``subset``, ``d4rl``,
            ``minari``.
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


def judge(provenance: Provenance, spec: DatasetSpec, artefact: str) -> Provenance:
    """Returns a provenance with the status that its digest has by today's registry.

    Args:
        provenance: Of the data as it was made; status and expected digest are set anew, those of
            its parent too.
        spec: The dataset's specification.
        artefact: The data's name in the manifest's ``sha256``.

    Raises:
        DigestError: If the registry pins another digest, and the data is not made by a simulator.
    """
    parent, digest = provenance.parent, provenance.digest
    if parent is not None:
        parent = judge(parent, get_spec(spec.subset.parent) if spec.subset else spec, WHOLE)
    expected = spec.sha256.get(artefact)
    if expected is None:
        status: Status = "unpinned" if parent is None else parent.status
    elif digest == expected:
        status = "verified"
    elif _simulated(provenance.source, spec):
        status = "rebuilt"
    else:
        raise DigestError(f"its digest is {digest}; the registry pins {expected}")
    return provenance.model_copy(
        update={"status": status, "expected_digest": expected, "parent": parent}
    )


def _simulated(source: str, spec: DatasetSpec) -> bool:
    return importlib.import_module(f"hetero_bench.sources.{source}").simulated(spec)
