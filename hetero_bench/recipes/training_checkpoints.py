"""Checkpoints as a chain of folders, each with the rows since the one before.

``checkpoints/00050000/`` holds arrays (``.npy``), tensors (``.safetensors``) and ``state.json``,
and ``SHA256SUMS`` with the digest of each. A folder appears whole or not at all; what was damaged
later is noticed when a training goes on, and set aside with all that follow.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hetero_bench.atomic import new_folder

STATE_FILE = "state.json"
_SUMS_FILE = "SHA256SUMS"


def checkpoint_folders(run: Path) -> list[Path]:
    """Returns the checkpoints of a run, oldest first."""
    folders = (run / "checkpoints").glob("[0-9]*")
    return sorted(folder for folder in folders if folder.name.isdigit())


def write_checkpoint(
    run: Path,
    steps: int,
    state: dict[str, Any],
    arrays: dict[str, np.ndarray],
    write_more: Callable[[Path], None],
) -> Path:
    """Writes one checkpoint.

    Args:
        run: The run's folder.
        steps: Environment steps so far; names the checkpoint.
        state: JSON.
        arrays: Rows since the checkpoint before, by name.
        write_more: Called with the folder, to write further files into it.

    Returns:
        The checkpoint's folder.
    """
    final = run / "checkpoints" / f"{steps:08d}"
    with new_folder(final) as folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        (folder / STATE_FILE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        write_more(folder)
        sums = [f"{_digest(file)}  {file.name}\n" for file in sorted(folder.iterdir())]
        (folder / _SUMS_FILE).write_text("".join(sums), encoding="utf-8")
    return final


def intact_checkpoints(run: Path) -> list[Path]:
    """Returns the checkpoints up to the first damaged one; sets that and all later ones aside."""
    folders = checkpoint_folders(run)
    for index, folder in enumerate(folders):
        problem = _problem(folder)
        if problem is None:
            continue
        for late in folders[index:]:
            _set_aside(late)
        before = f"going on from {folders[index - 1].name}" if index else "starting again"
        later = [late.name for late in folders[index + 1 :]]
        also = f", and so are the later {', '.join(later)}, which build on it" if later else ""
        warnings.warn(
            f"checkpoint {folder} is damaged ({problem}); it was set aside as "
            f"damaged-{folder.name}{also}; {before}",
            stacklevel=2,
        )
        return folders[:index]
    return folders


def read_state(folder: Path) -> dict[str, Any]:
    """Returns a checkpoint's JSON."""
    return json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))


def read_rows(folders: list[Path], name: str) -> np.ndarray:
    """Returns an array's rows of all checkpoints given, joined."""
    return np.concatenate(
        [np.load(folder / f"{name}.npy", allow_pickle=False) for folder in folders]
    )


def _set_aside(folder: Path) -> None:
    target = folder.with_name(f"damaged-{folder.name}")
    attempt = 1
    while target.exists():
        attempt += 1
        target = folder.with_name(f"damaged-{folder.name}-{attempt}")
    folder.rename(target)


def _problem(folder: Path) -> str | None:
    """Returns what is wrong with a checkpoint, None if nothing is."""
    try:
        lines = (folder / _SUMS_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return f"{_SUMS_FILE} cannot be read: {error}"
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if STATE_FILE not in listed:
        return f"{_SUMS_FILE} does not list {STATE_FILE}"
    for name, digest in listed.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _digest(folder / name) != digest:
            return f"{name} has another sha256 than {_SUMS_FILE} says"
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
