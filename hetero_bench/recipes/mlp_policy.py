"""A small trained network as NumPy arrays: observation normaliser, tanh layers, Gaussian actions.

Stored as safetensors: ``layers.<i>.weight`` (out, in), ``layers.<i>.bias`` (out,),
``normaliser.mean`` and ``normaliser.std`` (in,), ``log_std`` (act,), all float32.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

NORMALISED_LIMIT = 10.0
"""Normalised inputs are clipped to plus or minus this."""


@dataclass(frozen=True, eq=False)
class TanhMLP:
    """Means of a Gaussian policy: tanh after every layer but the last, float32.

    Attributes:
        weights: One (out, in) matrix per layer.
        biases: One (out,) vector per layer.
        mean: (in,) of the inputs, subtracted.
        std: (in,) of the inputs, divided by.
        log_std: (act,) log standard deviation that the policy was trained with.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    mean: np.ndarray
    std: np.ndarray
    log_std: np.ndarray

    @property
    def num_inputs(self) -> int:
        """Length of an input."""
        return len(self.mean)

    @property
    def num_outputs(self) -> int:
        """Length of an action."""
        return len(self.log_std)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Returns unclipped action means (n, act) for inputs (n, in), both float32."""
        hidden = (inputs.astype(np.float32, copy=False) - self.mean) / self.std
        np.clip(hidden, -NORMALISED_LIMIT, NORMALISED_LIMIT, out=hidden)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.tanh(hidden @ weight.T + bias)
        return hidden @ self.weights[-1].T + self.biases[-1]

    def save(self, path: str | os.PathLike[str], about: dict[str, Any] | None = None) -> str:
        """Writes the safetensors file and returns its sha256; equal content gives equal bytes.

        Args:
            path: The file.
            about: JSON facts, kept in the file's metadata under ``about``. One entry, because the
                order of several is not fixed.
        """
        extra = {"normaliser.mean": self.mean, "normaliser.std": self.std, "log_std": self.log_std}
        return save_layers(path, self.weights, self.biases, extra, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str], sha256: str | None = None) -> TanhMLP:
        """Reads a safetensors file.

        Args:
            path: The file.
            sha256: Hex digest that the file must have, None to take it as it is.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file has another digest, is no safetensors file, or its tensors are
                no such network.
        """
        names = ("normaliser.mean", "normaliser.std", "log_std")
        weights, biases, extra = load_layers(Path(path), sha256, names)
        policy = cls(weights, biases, *(extra[name] for name in names))
        if (
            policy.mean.shape != weights[0].shape[1:]
            or policy.std.shape != policy.mean.shape
            or policy.log_std.shape != policy.biases[-1].shape
        ):
            raise ValueError(f"{path} holds a normaliser or log_std that does not fit its layers")
        return policy


def save_layers(
    path: str | os.PathLike[str],
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    extra: Mapping[str, np.ndarray],
    about: dict[str, Any] | None = None,
) -> str:
    """Writes a network's layers as safetensors; equal content gives equal bytes.

    Args:
        path: The file.
        weights: One (out, in) matrix per layer.
        biases: One (out,) vector per layer.
        extra: Further tensors by name.
        about: JSON facts, kept in the file's metadata under ``about``. One entry, because the
            order of several is not fixed.

    Returns:
        The file's sha256.
    """
    tensors = dict(extra)
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        tensors[f"layers.{index}.weight"] = weight
        tensors[f"layers.{index}.bias"] = bias
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    metadata = {"about": json.dumps(about or {}, sort_keys=True)}
    data = safetensors.numpy.save(contiguous, metadata)
    Path(path).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def load_layers(
    path: Path, sha256: str | None, extra: Sequence[str]
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """Reads what ``save_layers`` wrote.

    Args:
        path: The file.
        sha256: Hex digest that the file must have, None to take it as it is.
        extra: Names of the further tensors it must have.

    Returns:
        The layers' weights, their biases, and the further tensors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another digest, is no safetensors file, or its tensors are no
            layers of finite float32 that fit together.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no policy weights at {path}; they come with the registry: reinstall hetero-bench "
            "or restore the file"
        )
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise ValueError(
            f"the policy weights {path} have sha256 {found}; expected {sha256}. The file is "
            "damaged or of another version: reinstall hetero-bench or restore it"
        )
    try:
        tensors = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    depth = sum(name.startswith("layers.") for name in tensors) // 2
    names = [f"layers.{i}.{part}" for i in range(depth) for part in ("weight", "bias")]
    expected = sorted([*names, *extra])
    if depth == 0 or sorted(tensors) != expected:
        raise ValueError(f"{path} holds {sorted(tensors)}; expected {expected}")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} is not finite float32")
    weights = tuple(tensors[f"layers.{i}.weight"] for i in range(depth))
    biases = tuple(tensors[f"layers.{i}.bias"] for i in range(depth))
    shapes = [weight.shape for weight in weights]
    sizes = [shapes[0][-1], *(len(bias) for bias in biases)]
    if shapes != list(zip(sizes[1:], sizes[:-1], strict=True)):
        raise ValueError(f"{path} holds layers of shapes {shapes} that do not fit together")
    return weights, biases, {name: tensors[name] for name in extra}
