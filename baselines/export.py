"""Trained policies as ONNX files, each compared with the policy that it was made from.

    python -m baselines export runs/td3_bc

writes ``policy.onnx`` beside every ``run.json`` there. Inputs are ``observation`` (n, *obs) and,
for a policy that samples, ``noise`` (n, noise_size) of standard normal numbers; the output is
``action`` (n, *act). Both ends are in the environment's units: normalisation and scaling are
inside. ``hetero_bench.evaluate("policy.onnx")`` runs it without torch.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import tyro
from torch import Tensor, nn

import hetero_bench
from baselines.engine import Actor, TrainedRun, trained_runs
from baselines.engine.preparation import Preparation, frame_of
from hetero_bench.atomic import new_file
from hetero_bench.onnx_policy import OnnxPolicy

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
"""Version of ONNX's operators."""
PARITY_ROWS = 2_048
"""Most observations of the dataset that both policies are asked about."""
TOLERANCE = 1e-4
"""Largest difference of a continuous action, as a share of the range between its bounds."""
SHARE_TOLERANCE = 2e-3
"""Largest share of observations with another action, where one is chosen: a sample, or values that
are compared, may fall either way on an edge."""


@dataclass(frozen=True)
class ExportArguments:
    """Write trained policies as ONNX, beside the records of their runs, and check them."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files run.json that training wrote, or folders that are searched for them."""
    name: str = "policy.onnx"
    """Name of the files; each lies beside its run.json."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own that the runs were trained on, as for train."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Writes the files and says how well each agrees."""
        for path in self.register:
            hetero_bench.register(path)
        for trained in trained_runs(self.runs):
            path = trained.path.with_name(self.name)
            difference = export_run(trained, path)
            print(f"{path}: {difference}", flush=True)


@dataclass(frozen=True)
class Difference:
    """How far an exported policy is from the one that it was made from.

    Attributes:
        value: Largest absolute difference of an action; or the share of observations with another
            one, if actions are discrete or chosen between.
        tolerance: What it may be.
        counted: Whether it is the latter.
        rows: Observations asked about.
    """

    value: float
    tolerance: float
    counted: bool
    rows: int

    def __str__(self) -> str:
        what = "share of other actions" if self.counted else "largest difference of an action"
        return (
            f"{what} {self.value:.1e} on {self.rows:,} observations (at most {self.tolerance:.1e})"
        )


def export_run(trained: TrainedRun, path: Path) -> Difference:
    """Writes a run's final policy as an ONNX file that says where it comes from.

    Args:
        trained: The run.
        path: The file, replaced if it exists.

    Returns:
        How far its actions on the dataset's observations are from the policy's own.

    Raises:
        ValueError: If they differ by more than the tolerance; nothing is written then.
    """
    final, run = trained.run.evaluations[-1], trained.run
    metadata = {
        "method": run.method,
        "dataset": run.dataset.id,
        "dataset_digest": run.dataset.digest,
        "seed": str(run.seed),
        "step": str(final.step),
        "commit": run.commit or "unknown",
        "hetero-bench": run.versions.get("hetero-bench", "unknown"),
    }
    return write_policy(trained.actor(), trained.member.dataset, path, metadata)


def write_policy(
    actor: Actor, dataset: hetero_bench.Dataset, path: Path, metadata: Mapping[str, str]
) -> Difference:
    """Writes an actor as an ONNX file, if it agrees with the actor.

    Args:
        actor: The policy.
        dataset: Gives shapes, and observations to compare on.
        path: The file, replaced if it exists.
        metadata: What the file says about itself.

    Raises:
        ValueError: If the file's actions differ by more than the tolerance; it is not written then.
    """
    model = to_onnx(actor, dataset.transitions.observations.shape[1:], metadata)
    with new_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        difference = compare(OnnxPolicy(temporary), actor, dataset)
        if not difference.value <= difference.tolerance:  # NaN is no agreement
            raise ValueError(
                f"{path} was not written: exported policy and original disagree, {difference}"
            )
    return difference


class _Policy(nn.Module):
    """An actor as a module: a deterministic one has no second input."""

    def __init__(self, actor: Actor):
        super().__init__()
        self._actor = actor

    def forward(self, observation: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            noise = observation.new_empty(observation.shape[0], 0)
        return self._actor(observation, noise)


def to_onnx(
    actor: Actor, observation_shape: Sequence[int], metadata: Mapping[str, str]
) -> ModelProto:
    """Returns an actor as an ONNX model with a symbolic first axis.

    Args:
        actor: The policy.
        observation_shape: Of one observation.
        metadata: What the model says about itself.

    Raises:
        ImportError: If onnx or onnxscript is not installed.
    """
    examples = {"observation": torch.zeros(2, *observation_shape)}
    if actor.noise_size:
        examples["noise"] = torch.zeros(2, actor.noise_size)
    rows = torch.export.Dim("n")
    with _quiet():
        program = torch.onnx.export(
            _Policy(actor).eval(),
            tuple(examples.values()),
            input_names=list(examples),
            output_names=["action"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple({0: rows} for _ in examples),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_source(model)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what the exporter says about packages and internals that do not matter."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _forget_source(model: ModelProto) -> None:
    """Removes stack traces: they hold file names of the machine that exported."""
    for holder in (model.graph, *model.functions):
        for each in (holder, *holder.node, *holder.value_info):
            del each.metadata_props[:]
            each.doc_string = ""


def compare(policy: OnnxPolicy, actor: Actor, dataset: hetero_bench.Dataset) -> Difference:
    """Returns how far an ONNX policy is from an actor, on a dataset's observations.

    Both are asked about up to ``PARITY_ROWS`` rows, spread over the dataset, with equal noise: all
    at once, and the first one by itself.
    """
    observations = dataset.transitions.observations
    rows = np.unique(np.linspace(0, len(observations) - 1, PARITY_ROWS).astype(np.int64))
    chosen = np.asarray(observations[rows], np.float32)
    noise = np.random.default_rng(0).standard_normal((len(rows), actor.noise_size), np.float32)
    with torch.inference_mode():
        expected = actor(torch.from_numpy(chosen), torch.from_numpy(noise)).numpy()
    given = noise if actor.noise_size else None
    actions = policy.act(chosen, given)
    alone = policy.act(chosen[:1], None if given is None else given[:1])
    if (actions.shape, actions.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"the exported policy gives {actions.dtype} actions of shape {actions.shape}; "
            f"expected {expected.dtype} of shape {expected.shape}"
        )
    actions, expected = np.concatenate([actions, alone]), np.concatenate([expected, expected[:1]])
    if expected.dtype.kind == "i":
        return Difference(float((actions != expected).mean()), SHARE_TOLERANCE, True, len(rows))
    frame = frame_of(dataset, Preparation())
    largest = TOLERANCE * (frame.high - frame.low)
    differences = np.abs(actions - expected)
    if getattr(actor, "chooses", False):
        other = ~(differences <= largest).all(tuple(range(1, differences.ndim)))  # NaN is another
        return Difference(float(other.mean()), SHARE_TOLERANCE, True, len(rows))
    return Difference(float(differences.max()), largest, False, len(rows))
