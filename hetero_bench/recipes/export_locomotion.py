"""Puts the policies and the learning curve of a finished training where they are bundled.

    python -m hetero_bench.recipes.export_locomotion --run runs/hopper

writes ``registry/policies/locomotion/hopper-<steps>.safetensors`` for the final (expert) and the
medium checkpoint, and ``hopper.csv`` with the learning curve, and prints the weights' sha256, which
the manifests quote. Needs no torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from hetero_bench.atomic import write_file
from hetero_bench.recipes.locomotion_runs import LocomotionRun
from hetero_bench.recipes.locomotion_tasks import TaskName
from hetero_bench.recipes.train_locomotion import CURVE_FILE
from hetero_bench.registry import registry_folder


def policies_folder() -> Path:
    """Returns where the bundled policies lie."""
    return registry_folder() / "policies" / "locomotion"


def policy_path(env: TaskName, steps: int) -> Path:
    """Returns where the policy after ``steps`` environment steps is bundled."""
    return policies_folder() / f"{env}-{steps}.safetensors"


def export(run: Path, steps: tuple[int, ...] = (), out: Path | None = None) -> dict[str, str]:
    """Writes policies and the learning curve up to the last of them.

    Args:
        run: Output folder of a finished training.
        steps: Checkpoints to bundle. By default the last one, and the one whose evaluated return
            is nearest to a third of the last one's.
        out: Folder to write to, the bundled one by default.

    Returns:
        The sha256 of each file of weights, by name.
    """
    trained = LocomotionRun(run)
    folder = out or policies_folder()
    if not steps:
        expert_return = float(trained.stochastic_returns()[-1])
        steps = (trained.medium_steps(expert_return), trained.steps[-1])
    digests = {}
    for checkpoint in steps:
        data = trained.policy_file(checkpoint).read_bytes()
        path = write_file(folder / policy_path(trained.env, checkpoint).name, data)
        digests[path.name] = hashlib.sha256(data).hexdigest()
    header, *rows = (run / CURVE_FILE).read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if int(row.split(",", 1)[0]) <= max(steps)]
    write_file(folder / f"{trained.env}.csv", "\n".join([header, *kept, ""]))
    return digests


if __name__ == "__main__":
    import tyro

    for name, digest in tyro.cli(export).items():
        print(f"{digest}  {name}")
