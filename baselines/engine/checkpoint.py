"""Checkpoints of a population: tensors and facts in one safetensors file, whole or not at all.

Facts are JSON text in a tensor of bytes: the file's header may not exceed 100 MB, which a large
population's training curves do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hetero_bench.atomic import write_file

_FACTS = "facts"  # name of the tensor of JSON text


def flatten(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of nested mappings by dotted names, for example ``optimiser.steps``."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def write_checkpoint(path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes a checkpoint; a process killed meanwhile leaves the previous one.

    Args:
        path: The file, replaced if it exists.
        state: Nested mappings of tensors.
        facts: Anything else, as JSON values.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in flatten(state)}
    text = bytearray(json.dumps(facts, allow_nan=False).encode())
    write_file(
        path, safetensors.torch.save({**tensors, _FACTS: torch.frombuffer(text, dtype=torch.uint8)})
    )


def remove_partial_writes(path: Path) -> None:
    """Deletes the temporary files that killed processes left beside a checkpoint.

    Args:
        path: The checkpoint. The caller holds the lock under which it is written.
    """
    for temporary in path.parent.glob(f".{path.name}.*"):
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the tensors, by dotted names, and the facts of a checkpoint.

    Raises:
        ValueError: If the file is damaged or not a checkpoint.
    """
    with _open(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, _facts(tensors.pop(_FACTS))


def read_facts(path: Path) -> dict[str, Any]:
    """Reads the facts of a checkpoint alone: tensors may be large.

    Raises:
        ValueError: If the file is damaged or not a checkpoint.
    """
    with _open(path) as file:
        return _facts(file.get_tensor(_FACTS))


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Opens a checkpoint; says of which file it is if something is wrong with its contents."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or not a checkpoint ({error!r}); delete it to start over"
        ) from error


def _facts(text: Tensor) -> dict[str, Any]:
    return json.loads(text.numpy().tobytes())


@torch.no_grad()
def restore(state: Mapping[str, Any], saved: Mapping[str, Tensor]) -> None:
    """Copies saved tensors into live ones, in place: whoever holds them sees the new values.

    Args:
        state: Nested mappings of live tensors.
        saved: Tensors by dotted names, as :func:`read_checkpoint` gives them.

    Raises:
        ValueError: If names, shapes or dtypes differ.
    """
    live = dict(flatten(state))
    if live.keys() != saved.keys():
        raise ValueError(
            f"the checkpoint holds other tensors than this version trains: "
            f"{sorted(live.keys() ^ saved.keys())} are on one side only"
        )
    for name, tensor in live.items():
        if (tensor.shape, tensor.dtype) != (saved[name].shape, saved[name].dtype):
            raise ValueError(
                f"checkpoint tensor {name} is {tuple(saved[name].shape)} {saved[name].dtype}; "
                f"expected {tuple(tensor.shape)} {tensor.dtype}"
            )
        tensor.copy_(saved[name])
