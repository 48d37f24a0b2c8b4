"""What a manifest says about a dataset: the pydantic models behind ``registry/*.toml``."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from hetero_bench.scoring import normalized_scores

NAME_PATTERN = r"^[a-z0-9]+(?:[-_][a-z0-9]+)*$"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

OFFICIAL_DRAWS = 5
"""Draws 0 to 4 are official; which rows one gets is often the largest variance of all."""

WHOLE = "whole"
"""Name of a dataset's artefact that is not a draw of a subset."""


def draw_artefact(draw: int) -> str:
    """Returns the name under which a subset's draw is listed, e.g. ``draw-0``."""
    return f"draw-{draw}"


ArtefactName = Annotated[str, Field(pattern=rf"^({WHOLE}|draw-[0-{OFFICIAL_DRAWS - 1}])$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EnvironmentSpec(_Table):
    """The evaluation environment."""

    id: str
    kwargs: dict[str, Any] = {}
    max_episode_steps: PositiveInt


class BundledSource(_Table):
    """A file that comes with the package; draws that do not are left to the next source.

    Attributes:
        reason: Where nothing else can make the data: why that is so, and what there is instead.
    """

    kind: Literal["bundled"] = "bundled"
    reason: str | None = None


class BuildSource(_Table):
    """Made by running the dataset's recipe."""

    kind: Literal["build"] = "build"


class SubsetSource(_Table):
    """Drawn from the parent dataset, whole trajectories without replacement."""

    kind: Literal["subset"] = "subset"


class D4RLSource(_Table):
    """An HDF5 file in D4RL's layout: a local one, or where one is published."""

    kind: Literal["d4rl"] = "d4rl"
    path: str | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> D4RLSource:
        if (self.path is None) == (self.url is None):
            raise ValueError("source 'd4rl' needs a path or a url, and not both")
        return self


class MinariSource(_Table):
    """A Minari dataset in a local folder (the one that holds ``data/``)."""

    kind: Literal["minari"] = "minari"
    path: str


Source = Annotated[
    BundledSource | BuildSource | SubsetSource | D4RLSource | MinariSource,
    Field(discriminator="kind"),
]


class RecipeSpec(_Table):
    """How a dataset is made: a module of ``hetero_bench.recipes`` and what it is called with."""

    name: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    version: NonNegativeInt
    seed: NonNegativeInt
    parameters: dict[str, Any] = {}

    def digest(self, environment: EnvironmentSpec) -> str:
        """Returns the identity of what the recipe makes, whatever the simulator's last bits."""
        document = {"recipe": self.model_dump(), "environment": environment.model_dump()}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class SubsetSpec(_Table):
    """A reduced-size dataset: which parent, how many rows, and the rows of the official draws."""

    parent: str
    size: PositiveInt
    index_sha256: Annotated[tuple[Digest, ...], Field(max_length=OFFICIAL_DRAWS)] = ()


class ArraySpec(_Table):
    """Shape and dtype of one observation or action, and the action space's extent."""

    shape: tuple[PositiveInt, ...]
    dtype: str
    n: PositiveInt | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, value: str) -> str:
        try:
            dtype = np.dtype(value)
        except TypeError as error:
            raise ValueError(f"{value!r} is not a NumPy dtype") from error
        if dtype.kind not in "fiub":
            raise ValueError(f"{value!r} is no dtype of numbers")
        return dtype.name


class RewardSpec(_Table):
    """What a reward means, and the transform that methods conventionally apply to it."""

    semantics: str
    scale: FiniteFloat = 1.0
    shift: FiniteFloat = 0.0


class ReferenceSpec(_Table):
    """Undiscounted returns that score 0 and 100, and where they come from."""

    random: FiniteFloat
    expert: FiniteFloat
    source: str

    @model_validator(mode="after")
    def _ordered(self) -> ReferenceSpec:
        if self.expert <= self.random:
            raise ValueError(f"expert ({self.expert}) must exceed random ({self.random})")
        return self


class DatasetSpec(_Table):
    """One dataset version, as its manifest table describes it.

    Attributes (where the name does not say it):
        sha256: Digests that loaded data must have, by artefact: ``whole``, or ``draw-0`` to
            ``draw-4`` of a subset.
        discount: For analysis (values, occupancies); methods have discounts of their own.
        subset_seed: Seed of the draws of subsets of this dataset.
        differences: How it differs from the dataset of another benchmark that it rebuilds.
        measurements: What was measured of the release's own data, shown in the card.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: NonNegativeInt
    family: str
    summary: str
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    licence: str
    citation: str
    environment: EnvironmentSpec | None = None
    recipe: RecipeSpec | None = None
    subset: SubsetSpec | None = None
    subset_seed: NonNegativeInt = 0
    sha256: dict[ArtefactName, Digest] = {}
    observation: ArraySpec | None = None
    action: ArraySpec | None = None
    transitions: PositiveInt | None = None
    episodes: PositiveInt | None = None
    rewards: RewardSpec
    reference: ReferenceSpec | None = None
    evaluation_episodes: PositiveInt = 100
    discount: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    differences: str | None = None
    measurements: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _without_version(cls, value: str) -> str:
        if re.search(r"-v\d+$", value):
            raise ValueError("a name must not end in -vN; the version is a field of its own")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        kinds = {source.kind for source in self.sources}
        for kind, table in (("build", "recipe"), ("subset", "subset")):
            if kind in kinds and getattr(self, table) is None:
                raise ValueError(f"source {kind!r} needs a [{table}] table")
        if "build" in kinds and self.environment is None:
            raise ValueError("source 'build' needs an [environment] table")
        for name in self.sha256:
            if (name == WHOLE) != (self.subset is None):
                has = "is whole" if self.subset is None else "has draws only"
                raise ValueError(f"sha256.{name}: there is no such artefact; the dataset {has}")
        if self.subset is not None and self.transitions not in (None, self.subset.size):
            raise ValueError(
                f"transitions ({self.transitions}) must be subset.size ({self.subset.size})"
            )
        return self

    @property
    def id(self) -> str:
        """Canonical id, version included, e.g. ``gridworld-hetero-v0``."""
        return f"{self.name}-v{self.version}"

    @property
    def recipe_digest(self) -> str | None:
        """Identity of what the recipe makes; None for data that is not made by one."""
        if self.recipe is None or self.environment is None:
            return None
        return self.recipe.digest(self.environment)

    def normalized_score(self, returns: ArrayLike) -> np.ndarray:
        """Returns scores in percent: 0 = random, 100 = the reference expert.

        Args:
            returns: Undiscounted raw returns of any shape.

        Raises:
            ValueError: If the dataset has no reference returns.
        """
        if self.reference is None:
            raise ValueError(
                f"{self.id} has no reference returns; give reference={{random, expert, source}} "
                "when registering it"
            )
        return normalized_scores(
            returns, random=self.reference.random, expert=self.reference.expert
        )

    def resized(self, size: int) -> DatasetSpec:
        """Returns the specification of this dataset's subset of ``size`` transitions."""
        return self.model_copy(
            update={
                "sources": (SubsetSource(),),
                "subset": SubsetSpec(parent=self.name, size=size),
                "sha256": {},
                "transitions": size,
                "episodes": None,
            }
        )
