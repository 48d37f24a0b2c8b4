"""Data made here, by running the dataset's recipe."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

from hetero_bench.errors import ManifestError, SourceError
from hetero_bench.sources import Answer, Request
from hetero_bench.spec import BuildSource, DatasetSpec


def simulated(spec: DatasetSpec) -> bool:
    """Whether another CPU may give other bits: the recipe's ``SIMULATED``, true if not said."""
    return getattr(recipe_module(spec), "SIMULATED", True)


def identity(spec: DatasetSpec, source: BuildSource) -> str | None:
    """Returns the recipe's digest: version, parameters, seed and environment."""
    return spec.recipe_digest


def fetch(spec: DatasetSpec, source: BuildSource, request: Request) -> Answer:
    """Runs the recipe.

    Raises:
        SourceError: If there is no such recipe here, or one of another version than the manifest's.
        ManifestError: If the recipe does not take the parameters or the environment.
    """
    recipe = spec.recipe
    assert recipe is not None, "the manifest's validation asks for a recipe"
    module = recipe_module(spec)
    if recipe.version != module.VERSION:
        raise SourceError(
            f"recipe {recipe.name!r} is at version {module.VERSION}; the manifest of {spec.id} "
            f"asks for version {recipe.version}"
        )
    kept = {"keep": request.keep} if "keep" in inspect.signature(module.build).parameters else {}
    arrays = module.build(
        recipe.parameters,
        recipe.seed,
        environment=spec.environment,
        progress=request.progress,
        **kept,
    )
    return Answer(arrays)


def check(spec: DatasetSpec) -> None:
    """Checks what can be said of a recipe's table without running it.

    Raises:
        ManifestError: If there is no such recipe, or it does not take the parameters or the
            environment; the message names the field.
    """
    recipe = spec.recipe
    assert recipe is not None, "the manifest's validation asks for a recipe"
    try:
        module = recipe_module(spec)
    except SourceError as error:
        raise ManifestError(f"recipe.name: {error}") from error
    except ModuleNotFoundError:
        return  # needs a package that is not installed; loading says so, reading a manifest can do
    if hasattr(module, "check"):
        module.check(recipe.parameters, spec.environment)


def recipe_module(spec: DatasetSpec) -> ModuleType:
    """Returns the module of a dataset's recipe.

    Raises:
        SourceError: If there is no such recipe in this release.
    """
    assert spec.recipe is not None, "the manifest's validation asks for a recipe"
    name = f"hetero_bench.recipes.{spec.recipe.name}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        module = None
    if module is None or not (hasattr(module, "VERSION") and hasattr(module, "build")):
        raise SourceError(f"there is no recipe {spec.recipe.name!r} in this release")
    return module
