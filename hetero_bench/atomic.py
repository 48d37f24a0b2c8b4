"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_file(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Writes a file under a temporary name, then renames it into place.

    Args:
        path: The file to write, replaced if it exists; its folder is made.
        content: Text (written as UTF-8) or bytes.

    Returns:
        The path written.
    """
    path = Path(path)
    with new_file(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yields a temporary file that becomes ``path`` if the block ends well, else vanishes.

    Args:
        path: The file to write, replaced if it exists; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        # mkstemp makes private files; results are meant to be shared like any other file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``path`` if the block ends well, else vanishes.

    Args:
        path: A folder that does not exist yet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{TEMPORARY_PREFIX}{path.name}."))
    os.chmod(temporary, 0o777 & ~_umask())
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


TEMPORARY_PREFIX = ".partial-"
"""Unfinished folders start with this; what a killed process left may be deleted under its lock."""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
