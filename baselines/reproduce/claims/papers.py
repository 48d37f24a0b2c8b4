"""The claims of the four papers: those that scores decide, and where others are measured."""

from __future__ import annotations

from typing import Any

from baselines.reproduce.claims import findings
from baselines.reproduce.claims.claims import Arm, Claim, Elsewhere, Paper

SMALL = ("halfcheetah-medium-replay-hb-10k",)
LOCOMOTION = ("{hopper,walker2d}-{medium-replay,medium,medium-expert}-hb-10k",)
BOTH = {"cpu": SMALL, "gpu": LOCOMOTION}
"""Datasets of 10,000 transitions, by tier."""

CQL, REDS = Arm("CQL", "cql"), Arm("CQL (ReDS)", "reds")
TD3_BC, IQL = Arm("TD3+BC", "td3_bc"), Arm("IQL", "iql")
C4, C4_TD3_BC = Arm("C4 on CQL", "c4"), Arm("C4 on TD3+BC", "c4_td3_bc")
CAR, CAR_G, SPOT = Arm("CAR", "car"), Arm("CAR-G", "car_g"), Arm("SPOT", "spot")


def _on_both(text: str, source: str, first: Arm, second: Arm) -> tuple[Claim, ...]:
    return tuple(
        Claim(text, source, tier, first, second, datasets) for tier, datasets in BOTH.items()
    )


def _clusters(clusters: int, penalty: float = 0.3) -> Arm:
    setting = {"clusters": clusters, "penalty_weight": penalty}
    return Arm(f"K = {clusters}, λ = {penalty:g}", "c4_td3_bc", setting)


def _tau(tau: float) -> Arm:
    return Arm(f"τ = {tau:g}", "reds", {"tau": tau})


def _spar(variant: str, **setting: Any) -> Arm:
    gate = {"gate_absolute": 1e-4, "gate_relative": 0.01}
    title = f"SPAR-{variant.upper()}" if not setting else f"SPAR-{variant.upper()} without gate"
    return Arm(title, "spar", {"variant": variant, **gate, **setting})


def _weighting(title: str, **setting: Any) -> Arm:
    return Arm(title, "spar", setting)


BASE, MLP, PROJ = _spar("base"), _spar("mlp"), _spar("proj")
ACCEPTING = Arm("ε at 90% of the data", "car", {"threshold": None, "threshold_quantile": 0.9})
UNGATED = _spar("mlp", gate_absolute=-1e9, gate_relative=-1e9)

ANT_MAZES = "Table 5 (ant mazes)"
FINE_TUNING = "python -m baselines reproduce fine-tuning"
CONFLICT = (
    "python -m baselines diagnose gradient-conflict "
    f"runs/table/cpu/spar/halfcheetah-medium-replay-hb-10k-v0 "
    f"--out docs/results/{findings.GRADIENT_CONFLICT}"
)

PAPERS = (
    Paper(
        "C4",
        (
            *_on_both("C4 improves CQL at 10,000 transitions", "Table 1, Fig. 5", C4, CQL),
            *_on_both("C4 improves TD3+BC at 10,000 transitions", "Fig. 6", C4_TD3_BC, TD3_BC),
            *_on_both(
                "C4 improves IQL at 10,000 transitions", "ours", Arm("C4 on IQL", "c4_iql"), IQL
            ),
            *_on_both("C4 on CQL exceeds LN", "Fig. 5", C4, Arm("LN on CQL", "ln_cql")),
            *_on_both("C4 on CQL exceeds DR3", "Fig. 5", C4, Arm("DR3 on CQL", "dr3_cql")),
            *_on_both(
                "C4 on TD3+BC exceeds LN", "Fig. 6", C4_TD3_BC, Arm("LN on TD3+BC", "ln_td3_bc")
            ),
            *_on_both(
                "C4 on TD3+BC exceeds DR3", "Fig. 6", C4_TD3_BC, Arm("DR3 on TD3+BC", "dr3_td3_bc")
            ),
            Claim(
                "Five clusters are better than one (there on CQL)",
                "Table 10",
                "ablations",
                _clusters(5),
                _clusters(1),
                SMALL,
            ),
            Claim(
                "From five clusters on there is a plateau (there on CQL: 85 at 5, 73 at 20)",
                "Table 10",
                "ablations",
                _clusters(20),
                _clusters(5),
                SMALL,
                direction="equal",
            ),
            Claim(
                "The penalty pays, beside clusters (there on CQL)",
                "Table 12",
                "ablations",
                _clusters(5),
                _clusters(5, 0.0),
                SMALL,
            ),
        ),
        (
            Elsewhere(
                "The trace of the cross covariance falls under C4",
                "Fig. 11",
                findings.covariance_trace,
                "python -m baselines reproduce c4-covariance",
            ),
        ),
    ),
    Paper(
        "CQL (ReDS)",
        (
            Claim(
                "ReDS improves CQL on heteroskedastic data",
                "3.1, Fig. 1",
                "gridworld",
                REDS,
                CQL,
                ("gridworld-hetero",),
            ),
            Claim(
                "ReDS improves CQL on heteroskedastic data",
                "Table 2",
                "cpu",
                REDS,
                CQL,
                ("antmaze-medium-noisy-10k",),
            ),
            Claim(
                "ReDS improves CQL on heteroskedastic data",
                "Table 2",
                "gpu",
                REDS,
                CQL,
                ("antmaze-{medium,large}-noisy",),
            ),
            Claim(
                "by more where the data is more heteroskedastic",
                "4.1, Fig. 2",
                "gridworld",
                REDS,
                CQL,
                ("gridworld-skewed",),
                ("gridworld-uniform",),
            ),
            Claim(
                "by more on noisy than on biased data",
                "Tables 2 and 3",
                "gpu",
                REDS,
                CQL,
                ("antmaze-{medium,large}-noisy",),
                ("antmaze-{medium,large}-biased",),
            ),
            Claim(
                "by more along the axis of severity (s4 against s0)",
                "5.2",
                "gpu",
                REDS,
                CQL,
                ("antmaze-medium-noisy-s4",),
                ("antmaze-medium-noisy-s0",),
            ),
            Claim(
                "ReDS equals CQL on homoscedastic data",
                "5",
                "gridworld",
                REDS,
                CQL,
                ("gridworld-uniform",),
                direction="equal",
            ),
            Claim(
                "ReDS equals CQL on homoscedastic data",
                "5",
                "gpu",
                REDS,
                CQL,
                ("antmaze-medium-noisy-s0",),
                direction="equal",
            ),
            Claim(
                "An intermediate τ is better than a small one (there 5 than 2, on Atari)",
                "Fig. 14",
                "ablations",
                _tau(1.0),
                _tau(0.1),
                SMALL,
            ),
            Claim(
                "An intermediate τ is better than a large one (there 5 than 7, on Atari)",
                "Fig. 14",
                "ablations",
                _tau(1.0),
                _tau(10.0),
                SMALL,
            ),
        ),
    ),
    Paper(
        "CAR",
        (
            *_on_both("CAR improves SPOT", "Table 1", CAR, SPOT),
            Claim(
                "by more on data of low quality",
                "5.1",
                "gpu",
                CAR,
                SPOT,
                ("{hopper,walker2d}-random-hb-10k",),
                ("{hopper,walker2d}-expert-hb-10k",),
            ),
            *_on_both("CAR exceeds CAR-G", "5.4, Fig. 2d", CAR, CAR_G),
            Claim(
                "Accepted pairs help, all else equal",
                "ours",
                "ablations",
                ACCEPTING,
                Arm("nothing accepted", "car", {"threshold": -1.0}),
                SMALL,
            ),
            Claim(
                "A threshold is better than none",
                "ours",
                "ablations",
                ACCEPTING,
                Arm("ε = ∞", "car", {"threshold": 1e9}),
                SMALL,
            ),
        ),
        (
            Elsewhere(
                "The mixed reference is a better policy than the behaviour model",
                "Table 3",
                findings.mixed_reference,
                "python -m baselines diagnose car-policies runs/table/cpu/car "
                f"--out docs/results/{findings.CAR_POLICIES}",
            ),
            *(
                Elsewhere(
                    f"Steps in the environment improve {title}",
                    source,
                    findings.fine_tuned(title),
                    FINE_TUNING,
                )
                for title, source in (
                    ("CAR", ANT_MAZES),
                    ("SPOT", ANT_MAZES),
                    ("IQL", "ours"),
                )
            ),
            Elsewhere(
                "CAR exceeds SPOT after steps in the environment",
                ANT_MAZES,
                findings.better_fine_tuned("CAR", "SPOT"),
                FINE_TUNING,
            ),
        ),
    ),
    Paper(
        "SPAR",
        (
            Claim("PROJ improves its base policy", "Table 1", "cpu", PROJ, BASE, SMALL),
            Claim("MLP exceeds PROJ on unimodal residuals", "4.2", "cpu", MLP, PROJ, SMALL),
            Claim(
                "PROJ exceeds MLP on multimodal residuals",
                "4.2",
                "cpu",
                PROJ,
                MLP,
                ("hopper-medium-expert-hb-10k",),
            ),
            Claim("The gate pays", "Tables 2 and 10", "cpu", MLP, UNGATED, SMALL),
            Claim(
                "Hard and soft filters do alike on dense data",
                "Table 5",
                "ablations",
                _weighting(
                    "hard, T = 1", filtering="hard", temperature=1.0, weighting="exponential"
                ),
                _weighting(
                    "soft, T = 1", filtering="soft", temperature=1.0, weighting="exponential"
                ),
                SMALL,
                direction="equal",
            ),
        ),
        (
            Elsewhere(
                "Guidance damages MLP's and PLAS's fits ten times more than PROJ's, or more, by DD",
                "Table 3",
                findings.conflict("dd", 10.0),
                CONFLICT,
            ),
            Elsewhere(
                "and more than PROJ's by VSD (there 2.5 to 280 times)",
                "Table 3",
                findings.conflict("vsd", 1.0),
                CONFLICT,
            ),
            Elsewhere(
                "Residuals have one mode on medium-replay and several on medium-expert data",
                "Fig. 2",
                findings.residual_modes,
                "python -m baselines diagnose spar --dataset ID "
                f"--out docs/results/{findings.RESIDUALS}",
            ),
        ),
    ),
)
