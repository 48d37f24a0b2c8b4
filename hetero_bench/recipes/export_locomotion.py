"""Puts the policies and the learning curve of a finished training where they are bundled.

    python -m hetero_bench.recipes.export_locomotion --run runs/hopper

writes ``registry/policies/locomotion/hopper-<steps>.safetensors`` for the final (expert) and the
medium checkpoint (see ``LocomotionRun.medium_steps``), and ``hopper.csv`` with the learning curve,
and prints the weights' sha256, which the manifests quote. Needs no torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from hetero_bench.atomic import write_file
from hetero_bench.recipes.locomotion_policies import policies_folder, policy_name, policy_path
from hetero_bench.recipes.locomotion_runs import LocomotionRun
from hetero_bench.recipes.train_locomotion import CURVE_FILE


def export(run: Path, last: int | None = None, out: Path | None = None) -> dict[str, str]:
    """Writes the policies and the learning curve up to the last of them.

    Args:
        run: Output folder of a finished training.
        last: Checkpoint to take for the final policy, in environment steps; the last by default.
        out: Folder to write to, the bundled one by default.

    Returns:
        The sha256 of each file of weights, by name.
    """
    trained = LocomotionRun(run, last)
    folder = out or policies_folder()
    steps = (trained.medium_steps(), trained.steps[-1])
    digests = {}
    for checkpoint in steps:
        data = trained.policy_file(checkpoint).read_bytes()
        path = write_file(folder / policy_path(policy_name(trained.env, checkpoint)).name, data)
        digests[path.name] = hashlib.sha256(data).hexdigest()
    header, *rows = (run / CURVE_FILE).read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if int(row.split(",", 1)[0]) <= max(steps)]
    write_file(folder / f"{trained.env}.csv", "\n".join([header, *kept, ""]))
    return digests


if __name__ == "__main__":
    import tyro

    for name, digest in tyro.cli(export).items():
        print(f"{digest}  {name}")
