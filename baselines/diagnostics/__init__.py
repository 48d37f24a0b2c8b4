"""Diagnostics of methods and trained policies: each a module, run by one command.

    python -m baselines diagnose policy runs/td3_bc

A diagnostic is a dataclass of options with ``run()``, which prints what it found.
"""

from __future__ import annotations

DIAGNOSTICS = {
    "policy": "baselines.diagnostics.policy:Diagnostic",
    "support-ratio": "baselines.diagnostics.support_ratio:SupportRatio",
    "heteroskedasticity": "baselines.diagnostics.heteroskedasticity:Diagnostic",
    "spar": "baselines.diagnostics.spar:ResidualGeometry",
    "gradient-conflict": "baselines.diagnostics.gradient_conflict:GradientConflict",
    "car-policies": "baselines.diagnostics.car_policies:CarPolicies",
}
"""Class of each diagnostic, by name."""
