"""The two policies that are compared, π and β, as Gaussians by row of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import numpy as np

from hetero_bench.dataset import Dataset
from hetero_bench.heteroskedasticity.likelihood import CensoredActions, KnownGaussians, Target
from hetero_bench.heteroskedasticity.marginal_fit import (
    FitReport,
    FitSettings,
    choose_rows,
    fit_gaussians,
)
from hetero_bench.registry import whole_spec
from hetero_bench.spec import DatasetSpec

CONTROLLER_STD = 0.1
"""Standard deviation of the default π around the noise-free controller."""
RECORDED = {"controller_means": 2, "noise_means": 1, "noise_stds": 1}
"""Extras that make the behaviour exact, with their dimensions: (N, A), (N,) and (N,)."""
RECORDED_SQUASHED = {"behaviour_means": 2, "behaviour_stds": 2}
"""Those that do where actions are squashed by tanh: (N, A) each."""
WAYPOINTS = "waypoints"
TANH_BOUND = 0.999
"""Actions at ±this or beyond count as at the bound where β is fitted under a tanh."""
_ROUNDING = 1e-6
"""Actions this close to their bounds, relatively, were clipped."""

Squash = Literal["clip", "tanh"]


class Gaussians(NamedTuple):
    """Independent Gaussians: (n, A) means and (n, A) standard deviations."""

    means: np.ndarray
    stds: np.ndarray


class GaussianPolicy(Protocol):
    """A policy as its Gaussian before clipping or tanh."""

    def __call__(
        self, observations: np.ndarray, waypoints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns means (n, A) and standard deviations (n, A).

        Args:
            observations: (n, obs).
            waypoints: (n, 2) that the behaviour followed, None where the dataset stores none. A
                policy that a learner could have learned ignores them.
        """
        ...


PolicyPair = Callable[[slice], tuple[Gaussians, Gaussians]]
"""From rows to π and β."""


def has_exact_behaviour(dataset: Dataset, squash: Squash = "clip") -> bool:
    """Whether a dataset stores the Gaussians before ``squash`` that its actions came from."""
    return _unknown(dataset, squash) is None


def collecting_policies(spec: DatasetSpec) -> int | None:
    """Returns how many policies the recipe of a dataset names; None where it names none.

    What several of them record is a component of their mixture, and the mixture is β.
    """
    recipe = whole_spec(spec).recipe
    policies = None if recipe is None else recipe.parameters.get("policies")
    return None if policies is None else len(policies)


def _unknown(dataset: Dataset, squash: Squash) -> str | None:
    """Returns why the Gaussians before ``squash`` are not known exactly, None where they are."""
    dimensions = RECORDED if squash == "clip" else RECORDED_SQUASHED
    missing = [name for name in dimensions if name not in dataset.extras]
    if missing:
        return f"{dataset.id} does not record {', '.join(missing)}"
    for name, count in dimensions.items():
        expected, extra = dataset.arrays.actions.shape[:count], dataset.extras[name]
        if extra.shape != expected:
            return f"{name} of {dataset.id} has shape {extra.shape} and not {expected}"
        if name.endswith("stds") and not (extra > 0.0).all():
            return f"{name} of {dataset.id} is not positive in every row"
    return None


def exact_pair(dataset: Dataset, policy: GaussianPolicy | None, squash: Squash) -> PolicyPair:
    """Returns π and the recorded β, both given the waypoint where there is one.

    Args:
        dataset: With the extras ``RECORDED`` or ``RECORDED_SQUASHED``.
        policy: π; by default the controller without the added noise, if one was recorded.
        squash: As the recorded behaviour acts: ``tanh`` with ``RECORDED_SQUASHED``, else ``clip``.

    Raises:
        ValueError: If the extras are missing, are those of another ``squash``, have another shape
            or are no standard deviations; π's answers are checked when they are asked for.
    """
    reason = _unknown(dataset, squash)
    if reason and has_exact_behaviour(dataset, "tanh" if squash == "clip" else "clip"):
        raise ValueError(
            f"the recorded behaviour of {dataset.id} is Gaussian before "
            + (
                "a tanh and not before clipping; give squash='tanh' and a tanh-Gaussian policy"
                if squash == "clip"
                else "clipping and not before a tanh; compare a tanh-Gaussian policy with "
                "behaviour='fitted'"
            )
        )
    if reason:
        raise ValueError(f"{reason}, so its behaviour is not known exactly; use behaviour='fitted'")
    if squash == "tanh":
        return _squashed_pair(dataset, policy)
    means, shifts, stds = (dataset.extras[name] for name in RECORDED)

    def at(rows: slice) -> tuple[Gaussians, Gaussians]:
        controller = np.asarray(means[rows], dtype=np.float64)
        beta = Gaussians(
            controller + shifts[rows, None],
            np.broadcast_to(stds[rows, None], controller.shape),
        )
        if policy is not None:
            return _policy_at(dataset, policy, rows), beta
        return Gaussians(controller, np.full_like(controller, CONTROLLER_STD)), beta

    return at


def _squashed_pair(dataset: Dataset, policy: GaussianPolicy | None) -> PolicyPair:
    assert policy is not None, "there is no default policy under a tanh"
    means, stds = (dataset.extras[name] for name in RECORDED_SQUASHED)

    def at(rows: slice) -> tuple[Gaussians, Gaussians]:
        beta = Gaussians(
            np.asarray(means[rows], dtype=np.float64), np.asarray(stds[rows], dtype=np.float64)
        )
        return _policy_at(dataset, policy, rows), beta

    return at


def fitted_pair(
    dataset: Dataset,
    policy: GaussianPolicy | None,
    squash: Squash,
    seed: int,
    settings: FitSettings,
) -> tuple[PolicyPair, FitReport]:
    """Fits β to the actions and returns π and β, functions of the observation, and a report.

    Args:
        dataset: With at least ten rows.
        policy: π; by default the mixture, over waypoints, of the controller without the added
            noise, as one Gaussian with the mixture's mean and variance.
        squash: ``clip`` fits the Gaussian before clipping, ``tanh`` that before a tanh.
        seed: Of the fit.
        settings: Of the fit.

    Raises:
        ValueError: If there is no policy and no recorded controller, or actions lie outside the
            manifest's bounds; π's answers are checked when they are asked for.
    """
    if policy is None and "controller_means" not in dataset.extras:
        raise ValueError(
            f"{dataset.id} does not record controller_means, so there is no default policy; give "
            "policy=, a function (observations, waypoints) -> (means, standard deviations)"
        )
    arrays = dataset.arrays
    trained, held_out = choose_rows(arrays, settings, seed)
    chosen = np.concatenate([trained, held_out])
    centre, half = _action_interval(dataset)
    actions = (np.asarray(arrays.actions[chosen], dtype=np.float64) - centre) / half
    targets: list[Target] = [_actions_target(actions, squash)]
    if policy is None:
        controller = (dataset.extras["controller_means"][chosen] - centre) / half
        targets.append(KnownGaussians(controller, CONTROLLER_STD / half))
    fitted, report = fit_gaussians(
        np.asarray(arrays.observations[chosen]),
        targets,
        actions.shape[1],
        len(held_out),
        settings,
        seed,
    )

    def at(rows: slice) -> tuple[Gaussians, Gaussians]:
        means, stds = fitted(arrays.observations[rows])
        if squash == "clip":
            means, stds = centre + half * means, half * stds
        beta = Gaussians(means[:, 0], stds[:, 0])
        if policy is not None:
            return _policy_at(dataset, policy, rows), beta
        return Gaussians(means[:, 1], stds[:, 1]), beta

    return at, report


def _actions_target(actions: np.ndarray, squash: Squash) -> CensoredActions:
    """Returns what β is fitted to for (R, A) actions scaled to ±1."""
    if squash == "clip":
        return CensoredActions(actions, 1.0 - _ROUNDING)
    unsquashed = np.arctanh(np.clip(actions, -TANH_BOUND, TANH_BOUND))
    return CensoredActions(unsquashed, float(np.arctanh(TANH_BOUND)))


def _policy_at(dataset: Dataset, policy: GaussianPolicy, rows: slice) -> Gaussians:
    arrays = dataset.arrays
    waypoints = dataset.extras.get(WAYPOINTS)
    answer = policy(arrays.observations[rows], None if waypoints is None else waypoints[rows])
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ValueError(
            f"the policy gave a {type(answer).__name__}; expected a pair, the means and the "
            "standard deviations"
        )
    means, stds = (np.asarray(part, dtype=np.float64) for part in answer)
    expected = arrays.actions[rows].shape
    if means.shape != expected or stds.shape != expected:
        raise ValueError(
            f"the policy gave means of shape {means.shape} and standard deviations of shape "
            f"{stds.shape}; expected {expected} for both"
        )
    if not (np.isfinite(means).all() and np.isfinite(stds).all() and (stds > 0.0).all()):
        raise ValueError(
            "the policy gave means or standard deviations that are not finite, or standard "
            "deviations that are not positive; expected standard deviations, not their logarithms"
        )
    return Gaussians(means, stds)


def _action_interval(dataset: Dataset) -> tuple[float, float]:
    """Returns the middle and the half width of the action interval; ±1 if the manifest is silent.

    Raises:
        ValueError: If actions lie outside.
    """
    spec = dataset.spec.action
    low, high = -1.0, 1.0
    if spec is not None and spec.low is not None and spec.high is not None:
        low, high = spec.low, spec.high
    centre, half = (low + high) / 2.0, (high - low) / 2.0
    actions = dataset.arrays.actions
    smallest, largest = float(actions.min()), float(actions.max())
    if max(largest - centre, centre - smallest) > half * (1.0 + _ROUNDING):
        raise ValueError(
            f"the actions of {dataset.id} lie in [{smallest:g}, {largest:g}]; expected "
            f"[{low:g}, {high:g}]: give the action space's bounds in the dataset's manifest"
        )
    return centre, half
