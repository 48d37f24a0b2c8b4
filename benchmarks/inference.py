"""Latency and memory of every method's policy, one observation at a time (SPAR, Table 11).

Times the actor as evaluation calls it, in torch, and its ONNX export in onnxruntime, on one thread.
Networks have their full size and are hardly trained: neither time nor memory depends on what they
have learned. Rounds of all policies alternate; medians of rounds are shown, and ratios to BC's in
the same run. ``resident`` is the largest memory of a process that runs the export and nothing else.

    python benchmarks/inference.py --dataset hopper-medium-expert-hb-10k
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines import spar
from baselines.engine import Actor, Method, list_methods
from baselines.engine.members import Member
from baselines.engine.preparation import action_kind
from baselines.engine.trainer import Trainer
from baselines.export import to_onnx
from hetero_bench.onnx_policy import OnnxPolicy

WARM_UP = 50
VARIANTS = ("mlp", "plas", "proj")
"""Of SPAR; the base policy alone is BC's, and CVAE's is PROJ's."""

# A process that loads a file, acts, and prints its largest memory in MB.
ALONE = r"""
import pathlib, re, resource, sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
feed = {each.name: np.zeros((1, *each.shape[1:]), np.float32) for each in session.get_inputs()}
for _ in range(200):
    session.run(["action"], feed)
status = pathlib.Path("/proc/self/status")
if status.exists():  # Linux counts a parent's memory in ru_maxrss
    print(int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) / 2**10)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@dataclass(frozen=True)
class Arguments:
    """Compare the policies of all methods for a dataset's kind of action."""

    dataset: str = "hopper-medium-expert-hb-10k"
    """Dataset id."""
    methods: tuple[str, ...] = ()
    """Only these, besides BC; by default all."""
    calls: int = 500
    """Calls per round; three rounds are as many steps as in the paper."""
    rounds: int = 3
    """Repetitions."""


def actors(arguments: Arguments, dataset: hetero_bench.Dataset) -> dict[str, Actor]:
    """Returns policies by what the table calls them, BC first."""
    kind = action_kind(dataset)
    methods = [each for each in list_methods() if each.actions == kind]
    names = [each.name for each in methods]
    unknown = [name for name in arguments.methods if name not in names]
    if unknown:
        raise ValueError(f"no methods {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = {"bc", *(arguments.methods or names)}
    found: dict[str, Actor] = {}
    for method in sorted(methods, key=lambda each: each.name != "bc"):
        if method.name in wanted:
            config = method.config_for(dataset.spec)
            if method is spar.METHOD:
                stages = dataclasses.replace(config, stage1_steps=1, generator_steps=1)
                for variant in VARIANTS:
                    config = dataclasses.replace(stages, variant=variant)
                    found[f"{method.title}-{variant.upper()}"] = actor(method, config, dataset, 3)
            else:
                found[method.title] = actor(method, config, dataset, 0)
    return found


def actor(method: Method, config: Any, dataset: hetero_bench.Dataset, updates: int) -> Actor:
    """Returns a policy after a few updates; one with stages needs them."""
    trainer = Trainer(method, [Member(dataset, config, 0)], "cpu")
    trainer.advance(updates)
    return trainer.agent.actor(0)


def held(policy: Any) -> int:
    """Returns the bytes of the tensors that an actor holds."""
    values = [getattr(policy, field.name) for field in dataclasses.fields(policy)]
    return sum(each.nbytes for each in values if isinstance(each, torch.Tensor))


def in_torch(policy: Actor) -> Callable[[np.ndarray], object]:
    noise = torch.randn(1, policy.noise_size)
    return lambda row: policy(torch.from_numpy(row), noise).numpy()


def in_onnx(policy: Actor, path: Path, dataset: hetero_bench.Dataset):
    model = to_onnx(policy, dataset.transitions.observations.shape[1:], {})
    path.write_bytes(model.SerializeToString())
    exported, rng = OnnxPolicy(path), np.random.default_rng(0)
    return lambda row: exported(row, rng)


def microseconds(call: Callable[[np.ndarray], object], observations: np.ndarray) -> float:
    """Returns the mean time of a call with one observation."""
    with torch.inference_mode():
        for each in observations[:WARM_UP]:
            call(each[None])
        begun = time.perf_counter()
        for each in observations:
            call(each[None])
        return (time.perf_counter() - begun) / len(observations) * 1e6


def resident(path: Path) -> float:
    """Returns the MB of a process that runs an exported policy."""
    answer = subprocess.run(
        [sys.executable, "-c", ALONE, str(path)], check=True, capture_output=True, text=True
    )
    return float(answer.stdout)


def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    dataset = hetero_bench.load(arguments.dataset)
    rows = np.arange(arguments.calls) % len(dataset)
    observations = np.asarray(dataset.transitions.observations[rows], np.float32)
    policies = actors(arguments, dataset)
    with_onnx = find_spec("onnxruntime") is not None
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        calls: dict[tuple[str, str], Callable[[np.ndarray], object]] = {}
        for number, (name, policy) in enumerate(policies.items()):
            calls[name, "torch"] = in_torch(policy)
            if with_onnx:
                path = Path(folder) / f"{number}.onnx"
                calls[name, "ONNX"] = in_onnx(policy, path, dataset)
                memory[name] = resident(path)
        for _ in range(arguments.rounds):
            for key, call in calls.items():
                times[key].append(microseconds(call, observations))
    show(arguments, policies, {key: statistics.median(each) for key, each in times.items()}, memory)


def show(
    arguments: Arguments,
    policies: dict[str, Actor],
    times: dict[tuple[str, str], float],
    memory: dict[str, float],
) -> None:
    table = Table(title=f"one action, {arguments.dataset}, one thread, CPU", title_justify="left")
    kinds = list(dict.fromkeys(kind for _, kind in times))
    headings = [heading for kind in kinds for heading in (f"{kind} µs", "/ BC")]
    for name in ("policy", *headings, "noise", "parameters MB", "resident MB"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for name, policy in policies.items():
        cells = []
        for kind in kinds:
            cells += [f"{times[name, kind]:.0f}", f"{times[name, kind] / times['BC', kind]:.2f}"]
        size = f"{held(policy) / 1e6:.2f}"
        process = f"{memory[name]:.0f}" if name in memory else ""
        table.add_row(name, *cells, str(policy.noise_size), size, process)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
