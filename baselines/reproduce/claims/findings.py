"""What diagnostics have found on claims that are not about a table's scores.

A diagnostic leaves a JSON file below ``docs/results``; a function here reads it, or returns None
where it is not there. Several statements in one claim: it is held if all are held, and not held if
one is not held.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import TypeAdapter

from baselines.reproduce.c4_covariance.observation import Study
from baselines.reproduce.c4_covariance.page import claim_rows
from baselines.reproduce.fine_tuning.page import VALUES, gains
from baselines.reproduce.verdicts import Verdict, decide
from baselines.reproduce.welch import contrast
from hetero_bench.bootstrap import Interval, enough_runs
from hetero_bench.formatting import estimate, number
from hetero_bench.runs import read_run_file

CAR_POLICIES = "claims/car-policies.json"
GRADIENT_CONFLICT = "claims/gradient-conflict.json"
RESIDUALS = "claims/residuals"


@dataclass(frozen=True)
class Finding:
    """What was measured, in words and numbers, and the verdict."""

    measured: str
    verdict: Verdict


Reader = Callable[[Path], Finding | None]
"""From the folder ``docs/results`` to what lies there."""


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[Interval, Verdict]:
    """Returns the difference of two means with Welch's interval, and whether it is more than 0.

    Args:
        first: (R,) values of one arm, one per run.
        second: (R,) values of the other.
    """
    found = contrast([[first]], [[second]])
    return found, decide("more", found, enough=enough_runs([first], [second]))


def joint(verdicts: Sequence[Verdict]) -> Verdict:
    """Returns the verdict on a claim that says several things."""
    if "not held" in verdicts:
        return "not held"
    return "undecided" if "undecided" in verdicts else "held"


def mixed_reference(folder: Path) -> Finding | None:
    """CAR, Table 3: the scores of the mixed reference and of the behaviour model as policies."""
    found = _json(folder / CAR_POLICIES)
    if found is None:
        return None
    mix, behaviour = ([each["scores"][name] for each in found] for name in ("mix", "behaviour"))
    gain, verdict = difference(mix, behaviour)
    means = f"mixed reference {_mean(mix)}, behaviour model {_mean(behaviour)}"
    return Finding(f"{means}: {estimate(gain)}; {len(mix)} runs", verdict)


def fine_tuned(title: str) -> Reader:
    """CAR, Table 5: offline and fine-tuned scores of a method, by its title."""

    def read(folder: Path) -> Finding | None:
        path = folder / "fine-tuning" / VALUES
        if not path.exists():
            return None
        for each in gains(read_run_file(path)):
            if each.title == title:
                offline, tuned = (_mean(values) for values in (each.offline, each.tuned))
                text = f"offline {offline}, after {each.steps:,} steps {tuned}"
                return Finding(
                    f"{text}: {estimate(each.gain)}; {len(each.tuned)} runs", each.verdict
                )
        return None

    return read


def gradient_conflict(folder: Path) -> Finding | None:
    """SPAR, Table 3: an order of magnitude, or more, between PROJ's conflict and the others'."""
    found = _json(folder / GRADIENT_CONFLICT)
    if found is None:
        return None
    texts, verdicts = [], []
    for measure in ("dd", "vsd"):
        sizes = {
            each["variant"]: np.log10(np.maximum(np.abs(each[measure]), np.finfo(float).tiny))
            for each in found
            if each["moments"] == "second"
        }
        proj = sizes["proj-literal"]
        verdicts += [difference(sizes[other] - 1.0, proj)[1] for other in ("mlp", "plas")]
        means = [f"{kind} {10 ** values.mean():.1e}" for kind, values in sizes.items()]
        texts.append(f"|{measure.upper()}| {', '.join(means)}")
    return Finding(f"{'; '.join(texts)} (geometric means of {len(proj)} seeds)", joint(verdicts))


def residual_modes(folder: Path) -> Finding | None:
    """SPAR, Figure 2: medium-replay asks for MLP and medium-expert for PROJ."""
    found = [_json(path) for path in sorted((folder / RESIDUALS).glob("*.json"))]
    if not found:
        return None
    texts, verdicts = [], []
    for each in found:
        expected = "mlp" if "medium-replay" in each["dataset"] else "proj"
        verdicts.append("held" if each["recommendation"] == expected else "not held")
        texts.append(
            f"`{each['dataset']}`: {each['clusters']} cluster(s), largest eigenvalue "
            f"{each['top_share']:.0%}, tail {each['tail']:.1f}, so {each['recommendation'].upper()}"
        )
    return Finding(f"{'; '.join(texts)} (one seed)", joint(verdicts))


def covariance_trace(folder: Path) -> Finding | None:
    """C4, Figure 11: the trace under C4 and under the others, from the page on it."""
    path = folder / "c4-covariance" / "values.json"
    if not path.exists():
        return None
    studies = TypeAdapter(list[Study]).validate_json(path.read_bytes())
    said = [
        verdict
        for study in studies
        for claim, _, verdict in claim_rows(study)
        if claim.endswith("(Figure 11)")
    ]
    verdicts: list[Verdict] = [one for each in said for one in get_args(Verdict) if one == each]
    counts = [f"{verdicts.count(one)} {one}" for one in get_args(Verdict) if one in verdicts]
    seeds = min(len(study.seeds) for study in studies)
    text = f"against the backbone, LN and DR3: {', '.join(counts)} ({seeds} seeds)"
    return Finding(f"{text}; [the page](c4-covariance.md)", joint(verdicts))


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.exists() else None


def _mean(values: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    return number(float(np.mean(values)), digits)
