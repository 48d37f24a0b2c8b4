"""Arguments that several commands take, and what they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

if TYPE_CHECKING:
    from hetero_bench.loading import Artefact

CacheDir = Annotated[Path | None, arg(metavar="FOLDER", help="The cache folder.")]
Register = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(metavar="PATH", help="A manifest, D4RL-layout file or Minari folder of your own to add."),
]
Name = Annotated[Positional[str], arg(metavar="DATASET", help="Id or name of a dataset.")]
Size = Annotated[int | None, arg(help="Draw this many transitions as whole trajectories.")]
Draw = Annotated[int | None, arg(help="Which official draw of a subset, 0 to 4.")]
SourceKind = Annotated[
    str | None, arg(metavar="KIND", help="Only this source: build, subset, d4rl, minari.")
]


def register_all(paths: Sequence[str]) -> None:
    """Registers a user's own datasets."""
    if paths:
        from hetero_bench.importing import register

        for path in paths:
            register(path)


def find_artefact(
    dataset: str, size: int | None, draw: int | None, source: str | None, register: Sequence[str]
) -> Artefact:
    """Registers, then looks up what ``load`` would load."""
    from hetero_bench.loading import Artefact
    from hetero_bench.registry import get_spec

    register_all(register)
    return Artefact.of(get_spec(dataset), size=size, draw=draw, source=source)
