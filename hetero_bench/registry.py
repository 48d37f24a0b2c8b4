"""The datasets that exist: manifests read from ``registry/*.toml`` and exact look-up by id.

An id is looked up, never parsed: what a dataset is stands in its manifest table alone.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from numpy.typing import ArrayLike

from hetero_bench.errors import ManifestError, UnknownDatasetError, describe_validation_error
from hetero_bench.spec import DatasetSpec


def registry_folder() -> Path:
    """Returns the folder of manifests: inside the wheel, or beside the package in a checkout.

    Raises:
        FileNotFoundError: If neither exists; the installation is broken.
    """
    package = Path(__file__).parent
    for folder in (package / "_registry", package.parent / "registry"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"no registry beside {package}; expected _registry/ inside it or registry/ next to it. "
        "Install hetero-bench again."
    )


def read_manifest(path: str | os.PathLike[str]) -> dict[str, DatasetSpec]:
    """Reads one manifest file: optional ``[defaults]``, then one ``[datasets.<name>]`` each.

    A dataset's table overrides the defaults key by key; tables are not merged inside.

    Args:
        path: The TOML file.

    Returns:
        Specifications by name.

    Raises:
        ManifestError: If the file is not TOML or a table is not valid.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not valid TOML: {error}") from error
    unknown = set(document) - {"defaults", "datasets"}
    if unknown or not isinstance(document.get("datasets"), dict):
        raise ManifestError(
            f"{path}: expected [datasets.<name>] tables and optionally [defaults]; "
            f"found {sorted(document)}"
        )
    defaults = document.get("defaults", {})
    if not isinstance(defaults, dict):
        raise ManifestError(f"{path}: [defaults]: expected a table (got {defaults!r:.80})")
    specs = {}
    for name, table in document["datasets"].items():
        if not isinstance(table, dict):
            raise ManifestError(f"{path}: [datasets.{name}]: expected a table (got {table!r:.80})")
        try:
            specs[name] = DatasetSpec.model_validate({**defaults, "name": name, **table})
        except pydantic.ValidationError as error:
            raise ManifestError(
                f"{path}: [datasets.{name}]: {describe_validation_error(error)}"
            ) from error
    return specs


@cache
def _official() -> dict[str, DatasetSpec]:
    specs: dict[str, DatasetSpec] = {}
    for path in sorted(registry_folder().glob("*.toml")):
        _add(specs, read_manifest(path), path)
    _check_parents(specs, specs, registry_folder())
    return specs


_registered: dict[str, DatasetSpec] = {}


def _add(specs: dict[str, DatasetSpec], new: dict[str, DatasetSpec], origin: Any) -> None:
    taken = [name for name in new if name in specs]
    if taken:
        raise ManifestError(f"{origin}: {', '.join(taken)} is already registered; rename it")
    specs.update(new)


def _check_parents(new: dict[str, DatasetSpec], known: dict[str, DatasetSpec], origin: Any) -> None:
    """Checks that subsets are drawn from whole datasets that exist and are large enough."""
    for name, spec in new.items():
        if spec.subset is None:
            continue
        where = f"{origin}: [datasets.{name}]: subset"
        parent = known.get(spec.subset.parent)
        if parent is None:
            raise ManifestError(
                f"{where}.parent: there is no dataset {spec.subset.parent!r}; give the name of "
                "one, without its version"
            )
        if parent.subset is not None:
            raise ManifestError(
                f"{where}.parent: {parent.name!r} is a subset itself; give the name of a whole "
                "dataset"
            )
        if parent.transitions is not None and spec.subset.size > parent.transitions:
            raise ManifestError(
                f"{where}.size: {spec.subset.size} is more than the {parent.transitions} "
                f"transitions of {parent.name!r}"
            )


def all_specs() -> dict[str, DatasetSpec]:
    """Returns the official datasets and those registered in this process, by name."""
    return {**_official(), **_registered}


def whole_spec(spec: DatasetSpec) -> DatasetSpec:
    """Returns the specification itself, or that of the dataset that a subset is drawn from."""
    return spec if spec.subset is None else all_specs().get(spec.subset.parent, spec)


def add_specs(new: dict[str, DatasetSpec], origin: Any) -> None:
    """Adds a user's specifications for this process.

    Args:
        new: Specifications by name.
        origin: Named in the error message.

    Raises:
        ManifestError: If a name is taken by a different specification, or a subset's parent does
            not exist, is a subset itself or too small.
    """
    known = all_specs()
    _check_parents(new, {**new, **known}, origin)
    _add(known, {name: spec for name, spec in new.items() if known.get(name) != spec}, origin)
    _registered.update({name: spec for name, spec in new.items() if name not in _official()})


def get_spec(dataset_id: str) -> DatasetSpec:
    """Looks a dataset up by canonical id (``...-vN``) or by bare name.

    Args:
        dataset_id: For example ``gridworld-hetero-v0`` or ``gridworld-hetero``.

    Returns:
        Its specification.

    Raises:
        UnknownDatasetError: If there is none; the message suggests the nearest ids.
    """
    specs = all_specs()
    for spec in specs.values():
        if dataset_id in (spec.name, spec.id):
            return spec
    candidates = [key for spec in specs.values() for key in (spec.name, spec.id)]
    close = difflib.get_close_matches(str(dataset_id), candidates, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "see hetero_bench.list_datasets()"
    raise UnknownDatasetError(f"no dataset {dataset_id!r} in this release; {hint}")


def list_datasets(
    *, family: str | None = None, reduced: bool | None = None, contains: str = ""
) -> list[DatasetSpec]:
    """Lists the datasets that exist.

    Args:
        family: Only this family, for example ``gridworld``.
        reduced: Only reduced-size subsets (True) or only whole datasets (False).
        contains: Only names that contain this text.

    Returns:
        Specifications in the order of the manifests.

    Raises:
        ValueError: If no dataset has that family.
    """
    specs = list(all_specs().values())
    families = dict.fromkeys(spec.family for spec in specs)
    if family is not None and family not in families:
        raise ValueError(f"no family {family!r}; expected one of {', '.join(families)}")
    return [
        spec
        for spec in specs
        if family in (None, spec.family)
        and reduced in (None, spec.subset is not None)
        and contains in spec.name
    ]


def normalized_score(dataset_id: str, returns: ArrayLike) -> np.ndarray:
    """Returns scores in percent: 0 = random policy, 100 = reference expert.

    Args:
        dataset_id: Canonical id or bare name.
        returns: Undiscounted raw returns of any shape.

    Raises:
        UnknownDatasetError: If no dataset has that id.
        ValueError: If the dataset has no reference returns.
    """
    return get_spec(dataset_id).normalized_score(returns)
