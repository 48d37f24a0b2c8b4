"""Policies stored as ONNX: what trained baselines are exported to and submissions consist of.

A file may come from anybody. It is read once, is limited in size, and may not refer to other files;
what is left to run are operators of the ONNX standard, without loops. They may still ask for much
memory and time: what strangers send belongs into a process that has limits.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hetero_bench.errors import PolicyError

MOST_BYTES = 256 * 2**20
"""Largest file that is read."""
MOST_NOISE = 2**20
"""Most numbers of noise per observation."""
DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
"""Domains of the standard's operators. The runtime brings others of its own."""
LOOPS = {"Loop", "Scan"}
"""Operators that may go on for ever, where no signal reaches them."""

_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_ACTIONS = {*_FLOATS, "tensor(int64)", "tensor(int32)"}


class OnnxPolicy:
    """A policy stored as ONNX: input ``observation``, optional input ``noise``, output ``action``.

    ``noise`` is filled with standard normal numbers of the input's shape.

    Args:
        path: The ``.onnx`` file.

    Attributes:
        metadata: What the file says about itself, such as method, seed and step.
        dataset: Id of the dataset that the file says it was trained on, or None.

    Raises:
        ImportError: If onnx or onnxruntime is not installed.
        ValueError: If the file is damaged, too large, refers to other files or has loops or
            operators beyond the standard, or an input or the output has another name, type or
            shape than described.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._session = _open_session(Path(path))
        inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        outputs = {tensor.name: tensor for tensor in self._session.get_outputs()}
        if "observation" not in inputs or set(inputs) - {"observation", "noise"}:
            raise ValueError(
                f"{path} has inputs {sorted(inputs)}; expected observation and optionally noise"
            )
        if "action" not in outputs:
            raise ValueError(f"{path} has outputs {sorted(outputs)}; expected action")
        for tensor in inputs.values():
            _check_tensor(path, "input", tensor, set(_FLOATS))
        _check_tensor(path, "output", outputs["action"], _ACTIONS)
        self._dtype = _FLOATS[inputs["observation"].type]
        self._noise = None
        if "noise" in inputs:
            noise = inputs["noise"]
            sizes = noise.shape[1:]
            if not all(isinstance(size, int) for size in sizes) or math.prod(sizes) > MOST_NOISE:
                raise ValueError(
                    f"{path}: input noise has shape {noise.shape}; expected fixed sizes after the "
                    f"first axis, at most {MOST_NOISE} numbers per observation"
                )
            self._noise = (tuple(sizes), _FLOATS[noise.type])
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.dataset = self.metadata.get("dataset")

    def __call__(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns (n, *act) actions for (n, *obs) observations.

        Raises:
            PolicyError: If the model cannot take these observations.
        """
        noise = None
        if self._noise is not None:
            sizes, dtype = self._noise
            noise = rng.standard_normal((len(observations), *sizes), dtype=dtype)
        return self.act(observations, noise)

    def act(self, observations: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Returns (n, *act) actions for (n, *obs) observations and given noise.

        Args:
            observations: Of the environment.
            noise: (n, *noise) numbers; None for a policy without noise.

        Raises:
            PolicyError: If the model cannot take them.
        """
        feed = {"observation": observations.astype(self._dtype, copy=False)}
        if noise is not None:
            feed["noise"] = noise
        try:
            return np.asarray(self._session.run(["action"], feed)[0])
        except Exception as error:  # onnxruntime's own errors share no public base class
            raise PolicyError(
                f"the ONNX policy failed on observations of shape {observations.shape}: {error}"
            ) from error


def _check_tensor(path: object, role: str, tensor: Any, types: set[str]) -> None:
    """Raises an error if an input or output is not a batch of numbers of one of the types."""
    if tensor.type not in types or not tensor.shape or isinstance(tensor.shape[0], int):
        raise ValueError(
            f"{path}: {role} {tensor.name} is {tensor.type} of shape {tensor.shape}; expected "
            f"{' or '.join(sorted(types))} with a symbolic first axis"
        )


def _open_session(path: Path) -> Any:
    """Returns the onnxruntime session of a file that stands by itself."""
    try:
        import onnx
        import onnxruntime
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImportError(
            "an ONNX policy needs onnx and onnxruntime: pip install 'hetero-bench[baselines]'"
        ) from error
    content = _read(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # not even errors, which are raised anyway
    # The runtime's other format is told by its first bytes; what is checked here is ONNX.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ValueError(f"{path} is not a readable ONNX model: {error}") from error
    for tensor in _messages(model, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ValueError(
                f"{path}: tensor {tensor.name!r} lies in another file; expected all data inside"
            )
    own = {(function.domain, function.name) for function in model.functions}
    for node in _messages(model, onnx.NodeProto):
        known = node.domain in DOMAINS or (node.domain, node.op_type) in own
        if not known or node.op_type in LOOPS:
            raise ValueError(
                f"{path}: operator {node.domain or 'ai.onnx'}.{node.op_type}; expected those of "
                "the ONNX standard, without loops"
            )
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no public base class
        raise ValueError(f"{path} is not a readable ONNX model: {error}") from error


def _read(path: Path) -> bytes:
    """Returns a regular file's bytes; what a pipe or a device would send has no end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is no regular file; expected an ONNX model")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES:,} bytes; expected at most so many")
    return content


def _messages(message: Any, kind: type) -> Iterator[Any]:
    """Yields the messages of a kind anywhere in a message: graphs nest in attributes of nodes."""
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(each, kind)
