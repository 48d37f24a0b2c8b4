"""Turns a training checkpoint into the weights that are bundled.

    python -m hetero_bench.recipes.export_antmaze_controller --run runs/controller

writes ``registry/policies/antmaze-controller.safetensors`` and, beside it, the learning curve, and
prints the weights' sha256, which the manifests quote. Needs torch to read the checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hetero_bench.recipes.antmaze_controller import weights_path
from hetero_bench.recipes.mlp_policy import TanhMLP
from hetero_bench.recipes.train_antmaze_controller import CURVE_FILE

_EPSILON = 1e-8
"""Added to the variance by Stable-Baselines3's normaliser."""


def network_from_checkpoint(checkpoint: dict[str, Any]) -> TanhMLP:
    """Returns the policy of a checkpoint of ``train_antmaze_controller``; the critic is dropped."""
    state = {name: tensor.numpy() for name, tensor in checkpoint["policy"].items()}
    hidden = sorted(
        name.removesuffix(".weight")
        for name in state
        if name.startswith("mlp_extractor.policy_net.") and name.endswith(".weight")
    )
    layers = [*hidden, "action_net"]
    statistics = checkpoint["statistics"]
    variance = np.array(statistics["variance"]) + _EPSILON
    return TanhMLP(
        weights=tuple(state[f"{layer}.weight"] for layer in layers),
        biases=tuple(state[f"{layer}.bias"] for layer in layers),
        mean=np.array(statistics["mean"], dtype=np.float32),
        std=np.sqrt(variance).astype(np.float32),
        log_std=state["log_std"],
    )


def export(run: Path, out: Path | None = None) -> str:
    """Writes the weights and the learning curve up to them.

    Args:
        run: Output folder of the training.
        out: The weights' file, the bundled one by default.

    Returns:
        The weights' sha256.
    """
    import torch

    out = out or weights_path()
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    digest = network_from_checkpoint(checkpoint).save(
        out, {"training_steps": checkpoint["steps"], "last_task": checkpoint["task"]}
    )
    header, *rows = (run / CURVE_FILE).read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if int(row.split(",", 1)[0]) <= checkpoint["steps"]]
    out.with_suffix(".csv").write_text("\n".join([header, *kept, ""]), encoding="utf-8")
    return digest


if __name__ == "__main__":
    import tyro

    print(tyro.cli(export))
