"""Published results, reproduced: each a package with a dataclass, run by one command.

    python -m baselines reproduce reds-gridworld

trains what is missing, analyses it, and writes a page with its figures below ``docs/results``.
"""

from __future__ import annotations

REPRODUCTIONS = {
    "c4-covariance": "baselines.reproduce.c4_covariance:Reproduction",
    "claims": "baselines.reproduce.claims:Reproduction",
    "fine-tuning": "baselines.reproduce.fine_tuning:Reproduction",
    "reds-gridworld": "baselines.reproduce.reds_gridworld:Reproduction",
}
"""Class of each reproduction, by name."""
