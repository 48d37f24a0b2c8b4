"""What other measurements than a table's scores have found on claims.

A diagnostic or a study leaves a file below ``docs/results``; a function here reads it, or returns
None where it is not there. Runs are compared in pairs where both values are of the same run, as
before and after fine-tuning, or of runs with a common beginning. Several statements in one claim:
it is held if all are, and not held if one is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from baselines.diagnostics import car_policies, gradient_conflict, spar
from baselines.reproduce.c4_covariance.figures import backbone_arm
from baselines.reproduce.c4_covariance.observation import C4, Study
from baselines.reproduce.c4_covariance.page import GRADIENTS, late_values
from baselines.reproduce.fine_tuning.page import VALUES, Gain, gains
from baselines.reproduce.verdicts import FEWEST_PAIRS, Verdict, all_of, more_in_pairs
from hetero_bench.formatting import estimate, number
from hetero_bench.runs import read_run_file

CAR_POLICIES = "claims/car-policies.json"
GRADIENT_CONFLICT = "claims/gradient-conflict.json"
RESIDUALS = "claims/residuals"
MODES: dict[str, Callable[[int], bool]] = {
    "medium-replay": lambda clusters: clusters == 1,
    "medium-expert": lambda clusters: clusters > 1,
}
"""What the paper says of the number of clusters, by the quality of the data."""

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """What was measured, in words and numbers, and the verdict."""

    measured: str
    verdict: Verdict


Reader = Callable[[Path], Finding | None]
"""From the folder ``docs/results`` to what lies there.

Raises ``ValueError`` if a file is damaged, or its runs are not of one kind."""


def mixed_reference(folder: Path) -> Finding | None:
    """CAR, Table 3: the scores of the mixed reference and of the behaviour model as policies."""
    path = folder / CAR_POLICIES
    found = _read(path, list[car_policies.Measurement])
    if not found:
        return None
    dataset, method = _only(path, ((each.dataset, each.method) for each in found))
    if method != "car":
        raise ValueError(f"{path} is of {method}; expected runs of car")
    if len({each.seed for each in found}) < len(found):
        raise ValueError(f"{path} has several runs of one seed; expected those of one setting")
    names = ("mix", "behaviour")
    mix, behaviour = zip(*(_picked(path, each.scores, names) for each in found), strict=True)
    gain, verdict = more_in_pairs(mix, behaviour)
    means = f"mixed reference {_mean(mix)}, behaviour model {_mean(behaviour)}"
    return Finding(f"`{dataset}`: {means}: {estimate(gain)}; {len(mix)} runs", verdict)


def fine_tuned(title: str) -> Reader:
    """CAR, Table 5: what steps in the environment add to a method, by its title."""

    def read(folder: Path) -> Finding | None:
        found = _gains(folder).get(title)
        if found is None:
            return None
        text = f"offline {_mean(found.offline)}, after {found.steps:,} steps {_mean(found.tuned)}"
        return Finding(_of_runs(found, f"{text}: {estimate(found.gain)}"), found.verdict)

    return read


def better_fine_tuned(first: str, second: str) -> Reader:
    """CAR, Table 5: one method's scores after fine-tuning against another's, by their titles."""

    def read(folder: Path) -> Finding | None:
        found = _gains(folder)
        if not {first, second} <= found.keys():
            return None
        ours, theirs = found[first].tuned, found[second].tuned
        difference, verdict = more_in_pairs(ours, theirs)
        text = f"{first} {_mean(ours)}, {second} {_mean(theirs)}: {estimate(difference)}"
        return Finding(_of_runs(found[first], text), verdict)

    return read


def conflict(measure: Literal["dd", "vsd"], factor: float) -> Reader:
    """SPAR, Table 3: the damage to the fits of MLP and PLAS exceeds so many times PROJ's.

    Args:
        measure: DD or VSD.
        factor: How many times the size of PROJ's.
    """

    def read(folder: Path) -> Finding | None:
        path = folder / GRADIENT_CONFLICT
        found = _read(path, list[gradient_conflict.Measurement])
        if not found:
            return None
        dataset, method, steps = _only(path, ((e.dataset, e.method, str(e.steps)) for e in found))
        if method != "spar":
            raise ValueError(f"{path} is of {method}; expected runs of spar")
        # Members that differ in the gate alone are trained alike: a seed has one value of a kind.
        values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for each in found:
            if each.moments == "second":
                values[each.kind][each.seed].append(getattr(each, measure))
        kinds = ("proj-literal", "mlp", "plas")
        seeds, *others = (sorted(of_seeds) for of_seeds in _picked(path, values, kinds))
        if any(each != seeds for each in others):
            raise ValueError(f"{path} has not the same seeds of {', '.join(kinds)}")
        proj, mlp, plas = (
            np.array([np.mean(values[kind][seed]) for seed in seeds]) for kind in kinds
        )
        bound = factor * np.abs(proj)
        of_mlp, of_plas = more_in_pairs(mlp, bound)[1], more_in_pairs(plas, bound)[1]
        means = (
            f"mlp {mlp.mean():.1e} ({of_mlp}), plas {plas.mean():.1e} ({of_plas}), "
            f"proj {proj.mean():.1e}"
        )
        about = f"{int(steps):,} steps, {len(seeds)} seeds"
        verdict = all_of((of_mlp, of_plas))
        return Finding(f"`{dataset}`: {measure.upper()} {means}; {about}", verdict)

    return read


def residual_modes(folder: Path) -> Finding | None:
    """SPAR, Figure 2: residuals have one cluster on medium-replay, several on medium-expert data.

    On each dataset it holds if all of several seeds say so, and does not if none does.
    """
    place = folder / RESIDUALS
    found: dict[str, list[spar.Measurement]] = defaultdict(list)
    for path in sorted(place.glob("*.json")):
        one = _read(path, spar.Measurement)
        assert one is not None
        if not any(f"-{quality}-" in one.dataset for quality in MODES):
            raise ValueError(f"{path} is of {one.dataset}; expected one of {', '.join(MODES)}")
        if any(each.seed == one.seed for each in found[one.dataset]):
            raise ValueError(
                f"{place} has seed {one.seed} of {one.dataset} twice; expected it once"
            )
        found[one.dataset].append(one)
    if not found:
        return None
    steps = {one.steps for each in found.values() for one in each}
    if len(steps) > 1:
        raise ValueError(f"{place} has files of {sorted(steps)} steps; expected one number of them")
    verdicts: list[Verdict] = []
    for quality, agrees in MODES.items():
        of_quality: list[Verdict] = [
            _unanimous([agrees(one.geometry.clusters) for one in each])
            for dataset, each in found.items()
            if f"-{quality}-" in dataset
        ]
        verdicts.append(all_of(of_quality) if of_quality else "undecided")
    texts = [_of_residuals(dataset, each) for dataset, each in found.items()]
    return Finding("; ".join(texts), all_of(verdicts))


def _of_residuals(dataset: str, found: Sequence[spar.Measurement]) -> str:
    clusters = sorted({each.geometry.clusters for each in found})
    share, tail, longest = (
        np.mean([getattr(each.geometry, name) for each in found])
        for name in ("top_share", "tail", "normal_tail")
    )
    outside = [each.geometry.noise for each in found if each.geometry.clusters > 1]
    between = f"{np.mean(outside):.0%} of residuals between them, " if outside else ""
    for_mlp = sum(each.recommendation == "mlp" for each in found)
    return (
        f"`{dataset}`, {len(found)} seeds: {' or '.join(map(str, clusters))} cluster(s), "
        f"{between}largest eigenvalue {share:.0%}, "
        f"tail {tail:.1f} (of a normal cloud {longest:.1f}), which asks "
        f"for MLP in {for_mlp} of {len(found)}"
    )


def _unanimous(agreeing: Sequence[bool]) -> Verdict:
    """Returns the verdict of seeds that agree with a statement, or do not."""
    if len(agreeing) < FEWEST_PAIRS or len(set(agreeing)) > 1:
        return "undecided"
    return "held" if agreeing[0] else "not held"


def covariance_trace(folder: Path) -> Finding | None:
    """C4, Figure 11: the trace under C4 and under the others, late in training."""
    studies = _read(folder / "c4-covariance" / "values.json", list[Study])
    if not studies:
        return None
    texts, verdicts = [], []
    for study in studies:
        for kind, words in GRADIENTS.items():
            late = {arm: late_values(study, arm, f"trace_{kind}") for arm in study.arms}
            verdicts += [more_in_pairs(late[arm], late[C4])[1] for arm in late if arm != C4]
            means = ", ".join(f"{arm} {values.mean():.2g}" for arm, values in late.items())
            texts.append(f"{words}: {means}")
        about = f"on {backbone_arm(study)}, `{study.dataset}`, {len(study.seeds)} seeds"
        texts[-1] += f" ({about}; [page](c4-covariance.md))"
    return Finding("; ".join(texts), all_of(verdicts))


def _gains(folder: Path) -> dict[str, Gain]:
    path = folder / "fine-tuning" / VALUES
    found = gains(read_run_file(path)) if path.exists() else []
    return {each.title: each for each in found}


def _of_runs(gain: Gain, text: str) -> str:
    diverged = f"; {gain.diverged} diverged" if gain.diverged else ""
    return f"`{gain.dataset}`: {text}; {len(gain.tuned)} runs{diverged}"


def _read(path: Path, kind: type[T]) -> T | None:
    """Returns a file's content, None if there is no file.

    Raises:
        ValueError: If it is not what is written there.
    """
    if not path.exists():
        return None
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path} is damaged, or of another version; make it again by the command that the "
            f"page of claims names. {error}"
        ) from error


def _only(path: Path, kinds: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns what all runs of a file share.

    Raises:
        ValueError: If they do not.
    """
    found = sorted(set(kinds))
    if len(found) > 1:
        raise ValueError(f"{path} has runs of {found}; expected those of one dataset and method")
    return found[0]


def _picked(path: Path, values: Mapping[str, T], names: Sequence[str]) -> list[T]:
    """Returns some of a file's values.

    Raises:
        ValueError: If it lacks one.
    """
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(values)}")
    return [values[name] for name in names]


def _mean(values: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    return number(float(np.mean(values)), digits)
