"""What bfloat16 does to the advantages of PROJ's candidates, and what fp32 costs.

For every member of trained runs of SPAR-PROJ, one batch's candidates are generated and then judged
in both precisions: in bf16 once against base actions judged in fp32, once against base actions
judged in bf16 as well. ``baselines.parts.residual_anchor.Judge.exactly`` follows from the result.

    OMP_NUM_THREADS=1 python benchmarks/spar_precision.py RUNS

Runs come from ``python -m baselines train --method spar --config.variant proj``, with
``--precision bf16`` or not.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from baselines import spar
from baselines.engine import trained_runs
from baselines.engine.precision import MatmulPrecision
from baselines.engine.random import MemberRandom
from baselines.parts.residual_guidance import Projector
from baselines.parts.residual_losses import normalised_advantages


@dataclass(frozen=True)
class Arguments:
    """Compare advantages in both precisions."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of trained runs; those without PROJ are passed over."""
    batch: int = 256
    """States."""
    rounds: int = 7
    """Measurements of time, in turn; the median of their ratios is shown."""


def seconds(projector: Projector, observations: Tensor, actions: Tensor) -> dict[str, float]:
    """Returns the processor time that judging actions takes, by precision."""
    found = {}
    for precision in ("bf16", "fp32"):
        with MatmulPrecision(precision, observations.device):
            begun = time.process_time()
            projector.judge(observations, actions)
            found[precision] = time.process_time() - begun
    return found


@torch.no_grad()
def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    table = Table(title="Errors of Ã = (Q_rob(s,a) - Q_rob(s,a_base)) / σ_Q", title_justify="left")
    for name in ("runs", "members", "std in a state", "bf16 - fp32", "bf16 - bf16", "fp32's time"):
        table.add_column(name, justify="left" if name == "runs" else "right")
    populations = {each.population.path: each for each in trained_runs(arguments.runs)}
    for run in populations.values():
        trainer = run.population.trainer
        if not isinstance(trainer.agent, spar.Agent):
            continue
        random = MemberRandom([0] * trainer.data.num_members, "rows", trainer.data.device)
        batch = trainer.data.sample(random, arguments.batch)
        for kind, rectifiers in trainer.agent.rectifiers.items():
            projector = rectifiers.residual
            if not isinstance(projector, Projector):
                continue
            seen = rectifiers.see(batch, trainer.agent.rows)
            samples = projector.draw(seen, projector.guide_numbers(arguments.batch)[0])
            actions = seen.act(samples.residuals)
            with MatmulPrecision("bf16", trainer.data.device):
                values = projector.judge(seen.observations, actions)
                base_values = projector.judge(seen.observations, seen.base_actions)
            errors = [
                normalised_advantages(values, base, seen.base_std) - samples.advantages
                for base in (seen.base_values, base_values)
            ]
            times = [
                seconds(projector, seen.observations, actions) for _ in range(arguments.rounds + 1)
            ][1:]
            table.add_row(
                f"{run.run.dataset.id}, {kind}",
                str(len(rectifiers.index)),
                f"{samples.advantages.var(-1).mean().sqrt().item():.2f}",
                *(f"{each.square().mean().sqrt().item():.2f}" for each in errors),
                f"{statistics.median(each['fp32'] / each['bf16'] for each in times):.2f}x",
            )
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
