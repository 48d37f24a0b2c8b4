"""What the last layer's gradient in half precision saves, on a CPU: updates with and without.

Two populations of the same members are trained in turn, one of them with the last layer left to
automatic differentiation (``baselines.parts.networks.LastLayer``).

    OMP_NUM_THREADS=1 python benchmarks/last_layer.py
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from dataclasses import dataclass
from unittest.mock import patch

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import hetero_bench
from baselines.engine import get_method
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from baselines.parts import networks

SMALL_CQL = {"critic_sizes": (128, 128), "policy_sizes": (128, 128), "samples": 4}
CASES = (
    ("CQL", "cql", {}),
    ("CQL, as in the CPU tier", "cql", SMALL_CQL),
    ("TD3+BC", "td3_bc", {}),
    ("IQL", "iql", {}),
    ("CAR, warm-up", "car", {"warmup_steps": 5_000}),
    ("SPAR, stage I", "spar", {"variant": "mlp", "stage1_steps": 50_000}),
)
"""Title, method, and fields of the config that differ from the defaults."""


@dataclass(frozen=True)
class Arguments:
    """Time updates in bfloat16 with both kinds of last layer."""

    dataset: str = "halfcheetah-medium-replay-hb-10k"
    """Dataset id."""
    members: int = 5
    """Size of the populations."""
    updates: int = 5
    """Updates of every measurement."""
    rounds: int = 7
    """Measurements of each kind, in turn; the median of their ratios is shown."""


class ByAutograd:
    """The layer without a gradient of its own."""

    @staticmethod
    def apply(x: Tensor, widened: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Returns the outputs; see ``LastLayer.forward``."""
        return torch.baddbmm(bias, x.to(weight.dtype), weight)


def milliseconds(trainer: Trainer, updates: int) -> float:
    """Returns the processor time of an update."""
    begun = time.process_time()
    trainer.advance(updates)
    return (time.process_time() - begun) / updates * 1e3


def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    dataset = hetero_bench.load(arguments.dataset)
    table = Table(title=f"P = {arguments.members}, bf16", title_justify="left")
    for name in ("case", "by autograd", "own gradient", "ratio"):
        table.add_column(name, justify="left" if name == "case" else "right")
    for title, name, changes in CASES:
        method = get_method(name, "continuous")
        config = dataclasses.replace(method.config_for(dataset.spec), **changes)
        members = [Member(dataset, config, seed) for seed in range(arguments.members)]
        before, after = (
            Trainer(method, members, "cpu", steps=100_000, precision="bf16") for _ in range(2)
        )
        times = []
        for _ in range(arguments.rounds + 1):  # the first is a warm-up
            with patch.object(networks, "LastLayer", ByAutograd):
                slow = milliseconds(before, arguments.updates)
            times.append((slow, milliseconds(after, arguments.updates)))
        slow, fast = (statistics.median(each) for each in zip(*times[1:], strict=True))
        ratio = statistics.median(a / b for a, b in times[1:])
        table.add_row(title, f"{slow:.1f} ms", f"{fast:.1f} ms", f"{ratio:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
