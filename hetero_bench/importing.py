"""``register``: a user's own manifest, D4RL-layout file or Minari folder, for this process."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from hetero_bench.errors import ManifestError, describe_validation_error
from hetero_bench.registry import add_specs, read_manifest
from hetero_bench.spec import (
    D4RLSource,
    DatasetSpec,
    EnvironmentSpec,
    MinariSource,
    ReferenceSpec,
    RewardSpec,
)

FAMILY = "user"


def register(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    version: int | None = None,
    summary: str | None = None,
    environment: str | None = None,
    environment_kwargs: Mapping[str, Any] | None = None,
    max_episode_steps: int | None = None,
    random: float | None = None,
    expert: float | None = None,
    reference_source: str | None = None,
    licence: str | None = None,
    citation: str | None = None,
    rewards: str | None = None,
    evaluation_episodes: int | None = None,
) -> list[DatasetSpec]:
    """Adds datasets of your own for this process, so that ``load`` and ``evaluate`` know them.

    A manifest (``.toml``) says everything itself; the other arguments describe a data file. What
    a Minari dataset records about environment, reference scores, licence and citation is taken
    where an argument is not given. Registering the same thing again changes nothing.

    Args:
        path: A TOML manifest, an HDF5 file in D4RL's layout (``.hdf5``, ``.h5``), or the folder of
            a Minari dataset (the one that holds ``data/``).
        name: Name to load it by; made from the file's name or Minari's id by default.
        version: Version; by default what that name ends in (``-v2``), else 0.
        summary: One sentence about the data.
        environment: Gymnasium id of the evaluation environment. It is made once, to see that it
            fits the data. Without one the dataset can be loaded but not evaluated on.
        environment_kwargs: Arguments it is made with.
        max_episode_steps: Its time limit; the environment's own by default.
        random: Undiscounted return that scores 0.
        expert: Undiscounted return that scores 100.
        reference_source: Where these two returns are from.
        licence: Licence of the data; ``unknown`` by default.
        citation: What to cite; nothing by default.
        rewards: What a reward means; ``as recorded in the file`` by default.
        evaluation_episodes: How many episodes ``evaluate`` runs, 100 by default.

    Returns:
        The specifications added.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        SourceError: If the data is not in the layout that its suffix promises.
        ManifestError: If the manifest or an argument is not valid, or a name is taken.
        ValueError: If the environment does not exist or does not fit the data.
    """
    arguments = {
        "name": name,
        "version": version,
        "summary": summary,
        "environment": environment,
        "environment_kwargs": environment_kwargs,
        "max_episode_steps": max_episode_steps,
        "random": random,
        "expert": expert,
        "reference_source": reference_source,
        "licence": licence,
        "citation": citation,
        "rewards": rewards,
        "evaluation_episodes": evaluation_episodes,
    }
    given = {key: value for key, value in arguments.items() if value is not None}
    path = Path(path).expanduser().resolve()
    if not path.exists():
        raise FileNotFoundError(f"{path}: nothing there to register")
    if path.suffix == ".toml":
        if given:
            raise ValueError(f"{path} is a manifest and states {', '.join(given)} itself")
        specs = _manifest_specs(path)
    else:
        spec = _data_spec(path, given)
        specs = {spec.name: spec}
    add_specs(specs, path)
    return list(specs.values())


def _manifest_specs(path: Path) -> dict[str, DatasetSpec]:
    """Reads a manifest; relative paths in it start at its own folder."""
    from hetero_bench.sources import build

    specs = read_manifest(path)
    for name, spec in specs.items():
        if spec.recipe is not None and spec.environment is not None:
            try:
                build.check(spec)
            except ManifestError as error:
                raise ManifestError(f"{path}: [datasets.{name}]: {error}") from error
        sources = tuple(
            source.model_copy(update={"path": str(path.parent / Path(source.path).expanduser())})
            if isinstance(source, D4RLSource | MinariSource) and source.path is not None
            else source
            for source in spec.sources
        )
        specs[name] = spec.model_copy(update={"sources": sources})
    return specs


def _data_spec(path: Path, given: dict[str, Any]) -> DatasetSpec:
    """Describes a data file or folder from its own words and the user's, which go first."""
    from hetero_bench.sources import d4rl, minari

    if path.is_dir():
        folder = path.parent if (path / minari.METADATA).is_file() else path
        dataset = minari.open_folder(folder)
        source = MinariSource(path=str(folder))
        contents = minari.inspect(folder)
        title, origin = dataset.id, "Minari dataset"
        recorded = _recorded(dataset.storage.metadata, given)
    elif path.suffix in d4rl.SUFFIXES:
        source = D4RLSource(path=str(path))
        contents = d4rl.inspect(path)
        title, origin, recorded = path.stem, "file in D4RL's layout", {}
    else:
        raise ValueError(
            f"{path}: cannot tell what this is; expected a manifest (.toml), an HDF5 file in "
            f"D4RL's layout ({', '.join(d4rl.SUFFIXES)}) or the folder of a Minari dataset"
        )
    name, version = _split_version(title)
    defaults = {
        "name": name,
        "version": version,
        "summary": f"Read from the {origin} {title}.",
        "licence": "unknown",
        "citation": "",
        "rewards": "as recorded in the file",
        "evaluation_episodes": 100,
    }
    facts = {**defaults, **recorded, **given}
    observation, action = contents.observation, contents.action
    try:
        environment = _environment(facts)
        if environment is not None and "environment" in given:
            from hetero_bench.fitting import fit_spaces

            observation, action = fit_spaces(observation, action, environment, str(path))
        return DatasetSpec(
            **{key: facts[key] for key in defaults if key != "rewards"},
            family=FAMILY,
            sources=(source,),
            environment=environment,
            observation=observation,
            action=action,
            transitions=contents.transitions,
            episodes=contents.episodes,
            rewards=RewardSpec(semantics=facts["rewards"]),
            reference=_reference(facts),
        )
    except pydantic.ValidationError as error:
        raise ManifestError(f"{path}: {describe_validation_error(error)}") from error


def _split_version(title: str) -> tuple[str, int]:
    """Makes a name and a version of what data calls itself, such as ``D4RL/pen/human-v2``."""
    match = re.fullmatch(r"(.+?)-v(\d+)", title)
    stem, version = (match[1], int(match[2])) if match else (title, 0)
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "dataset", version


def _recorded(metadata: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Returns what Minari's metadata says that ``register`` may also be told."""
    facts = {key: metadata[key] for key in ("licence", "citation") if metadata.get(key)}
    random, expert = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if random is not None and expert is not None and not {"random", "expert"} & set(given):
        facts |= {"random": random, "expert": expert, "reference_source": "the Minari dataset"}
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    if text and "environment" not in given:
        recorded = json.loads(text)
        facts["environment"] = recorded["id"]
        facts["environment_kwargs"] = recorded.get("kwargs") or {}
        if recorded.get("max_episode_steps"):
            facts["max_episode_steps"] = recorded["max_episode_steps"]
    return facts


def _environment(facts: dict[str, Any]) -> EnvironmentSpec | None:
    """Returns the environment to evaluate in; one without a time limit asks Gymnasium for it."""
    if "environment" not in facts:
        for key in ("environment_kwargs", "max_episode_steps"):
            if key in facts:
                raise ValueError(f"{key} is given without an environment; give environment=... too")
        return None
    if "max_episode_steps" not in facts:
        from hetero_bench.fitting import time_limit

        facts["max_episode_steps"] = time_limit(facts["environment"])
    return EnvironmentSpec(
        id=facts["environment"],
        kwargs=dict(facts.get("environment_kwargs", {})),
        max_episode_steps=facts["max_episode_steps"],
    )


def _reference(facts: dict[str, Any]) -> ReferenceSpec | None:
    given = [key for key in ("random", "expert") if key in facts]
    if not given:
        return None
    if len(given) == 1:
        raise ValueError(f"{given[0]} is given alone; a normalised score needs random and expert")
    return ReferenceSpec(
        random=facts["random"],
        expert=facts["expert"],
        source=facts.get("reference_source", "given when it was registered"),
    )
