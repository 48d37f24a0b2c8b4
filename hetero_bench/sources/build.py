"""Data made here, by running the dataset's recipe."""

from __future__ import annotations

import importlib

from hetero_bench.errors import SourceError
from hetero_bench.sources import Answer, Request
from hetero_bench.spec import BuildSource, DatasetSpec

SIMULATED = True


def identity(spec: DatasetSpec, source: BuildSource) -> str | None:
    """Returns the recipe's digest: version, parameters, seed and environment."""
    return spec.recipe_digest


def fetch(spec: DatasetSpec, source: BuildSource, request: Request) -> Answer:
    """Runs the recipe.

    Raises:
        SourceError: If there is no such recipe here, or one of another version than the manifest's.
    """
    recipe = spec.recipe
    assert recipe is not None, "the manifest's validation asks for a recipe"
    name = f"hetero_bench.recipes.{recipe.name}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise SourceError(f"there is no recipe {recipe.name!r} in this release") from error
    if recipe.version != module.VERSION:
        raise SourceError(
            f"recipe {recipe.name!r} is at version {module.VERSION}; the manifest of {spec.id} "
            f"asks for version {recipe.version}"
        )
    arrays = module.build(
        recipe.parameters, recipe.seed, environment=spec.environment, progress=request.progress
    )
    return Answer(arrays)
