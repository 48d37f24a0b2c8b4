"""Commands about datasets: list, show, path, verify, build."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from hetero_bench.cli.arguments import (
    CacheDir,
    Draw,
    Name,
    Register,
    Size,
    SourceKind,
    find_artefact,
    register_all,
)

if TYPE_CHECKING:
    from hetero_bench.spec import DatasetSpec


def list_(
    family: Annotated[str | None, arg(help="Only this family.")] = None,
    contains: Annotated[str, arg(help="Only names that contain this text.")] = "",
    kind: Annotated[
        Literal["all", "whole", "reduced"],
        arg(help="Whole datasets only, or only reduced-size subsets."),
    ] = "all",
    cached: Annotated[bool, arg(help="Only those in the cache.")] = False,
    register: Register = (),
    cache_dir: CacheDir = None,
) -> int:
    """Lists the datasets that exist."""
    from hetero_bench.cache import cache_folder
    from hetero_bench.formatting import NONE
    from hetero_bench.registry import list_datasets
    from hetero_bench.verification import cached_artefacts

    register_all(register)
    root = cache_folder(cache_dir)
    reduced = None if kind == "all" else kind == "reduced"
    rows = []
    for spec in list_datasets(family=family, reduced=reduced, contains=contains):
        artefacts = ", ".join(folder.name for folder in cached_artefacts(root, [spec.id]))
        if artefacts or not cached:
            counts = [f"{n:,}" if n else NONE for n in (spec.transitions, spec.episodes)]
            rows.append([spec.id, spec.family, *counts, _draws(spec), artefacts or NONE])
    if not rows:
        print("no dataset is like that", file=sys.stderr)
        return 1
    _print_table(["dataset", "family", "transitions", "episodes", "draws", "cached"], rows)
    return 0


def show(
    dataset: Name,
    size: Size = None,
    draw: Draw = None,
    source: SourceKind = None,
    build: Annotated[bool, arg(help="Make it if it is not in the cache.")] = False,
    register: Register = (),
    cache_dir: CacheDir = None,
) -> int:
    """Shows a dataset's card; of one that is not in the cache, what its manifest says."""
    from rich.console import Console
    from rich.markdown import Markdown

    from hetero_bench.cache import cache_folder
    from hetero_bench.cards import manifest_card

    artefact = find_artefact(dataset, size, draw, source, register)
    root = cache_folder(cache_dir)
    if build or artefact.entry(root).exists():
        text = artefact.load(root).card()
    else:
        text = manifest_card(artefact.spec)
        text += f"\nNot in the cache; `hetero-bench build {dataset}` makes it.\n"
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text, end="")
    return 0


def path(
    dataset: Name,
    size: Size = None,
    draw: Draw = None,
    source: SourceKind = None,
    register: Register = (),
    cache_dir: CacheDir = None,
) -> int:
    """Prints the folder in which a cached dataset's arrays lie."""
    from hetero_bench.cache import cache_folder

    artefact = find_artefact(dataset, size, draw, source, register)
    entry = artefact.entry(cache_folder(cache_dir))
    if not entry.exists():
        raise FileNotFoundError(
            f"{artefact.spec.id} ({artefact.name}) is not in the cache; make it with "
            f"`hetero-bench build {dataset}`"
        )
    print(entry.folder)
    return 0


def verify(
    datasets: Annotated[
        Positional[tuple[str, ...]], arg(metavar="DATASET", help="Only these; all by default.")
    ] = (),
    register: Register = (),
    cache_dir: CacheDir = None,
) -> int:
    """Checks every byte of what is cached, against its own digests and the registry's.

    The exit status is 1 if anything is damaged. Nothing is changed: the next load of a damaged
    dataset sets it aside and makes it again.
    """
    from hetero_bench import verification
    from hetero_bench.cache import cache_folder
    from hetero_bench.registry import get_spec

    register_all(register)
    root = cache_folder(cache_dir)
    ids = [get_spec(name).id for name in datasets]
    missing = [name for name in ids if not any(verification.cached_artefacts(root, [name]))]
    if missing:
        raise FileNotFoundError(f"not in the cache {root}: {', '.join(missing)}")
    damaged = 0
    for verdict in verification.verify(root, ids or None):
        damaged += verdict.state == "damaged"
        reason = f": {verdict.reason}" if verdict.reason else ""
        print(f"{verdict.state:9} {verdict.dataset_id} ({verdict.artefact}){reason}", flush=True)
    return int(damaged > 0)


def build(
    dataset: Name,
    size: Size = None,
    draw: Draw = None,
    source: SourceKind = None,
    register: Register = (),
    cache_dir: CacheDir = None,
) -> int:
    """Makes a dataset and stores it in the cache; one that is there already is left as it is."""
    from hetero_bench.cache import cache_folder

    artefact = find_artefact(dataset, size, draw, source, register)
    made = artefact.load(cache_folder(cache_dir))
    print(f"{made!r}\n{made.folder}")
    return 0


def _draws(spec: DatasetSpec) -> str:
    from hetero_bench.formatting import NONE, integers
    from hetero_bench.sources.subset import OFFICIAL_DRAWS

    return integers(range(OFFICIAL_DRAWS)) if spec.subset else NONE


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        # Piped into another program, every cell stays on one line.
        console = Console(
            width=sum(max(map(len, column)) + 3 for column in zip(header, *rows, strict=True))
        )
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for name in header:
        numeric = name in ("transitions", "episodes")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
