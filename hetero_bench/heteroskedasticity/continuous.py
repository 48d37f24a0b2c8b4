"""D(π, β)(s) and its relatives where actions are continuous and policies are Gaussian.

Actions are clipped to the action space before they are executed and stored. Everything here is
about Gaussians *before* that: clipping is not invertible, so it would change the divergences, and
the density of a clipped action has mass on the bounds.

``exact``: collections of this suite store, for every row, the Gaussian that its action was drawn
from, which depends on the observation *and* the waypoint that was followed. Both policies are taken
given the waypoint then:

    β(a|s, w) = N(controller_means + noise_means, noise_stds²),
    π(a|s, w) = N(controller_means, 0.1²) by default: the controller without the added noise.

Their D depends on the noise alone, so a dataset of constant noise measures std 0. Other collections
store ``behaviour_means`` and ``behaviour_stds`` of a Gaussian that is squashed by tanh; there is no
default π for these.

``fitted``: a learner does not see the waypoint; its policies are functions of the observation.
β(a|s) is fitted to the actions (:mod:`~hetero_bench.heteroskedasticity.likelihood`). The default π
is the mixture of π(a|s, w) over the waypoints that go with s, fitted by the same network. Against
one π(a|s, w) at a time β(a|s) would show above all how much the waypoint says about the action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hetero_bench.dataset import Dataset
from hetero_bench.heteroskedasticity.divergences import (
    kullback_leibler,
    log_one_plus_chi_square,
)
from hetero_bench.heteroskedasticity.marginal_fit import FitReport, FitSettings
from hetero_bench.heteroskedasticity.measures import (
    BehaviourSource,
    Heteroskedasticity,
    Summary,
    summarise,
)
from hetero_bench.heteroskedasticity.policies import (
    GaussianPolicy,
    Squash,
    exact_pair,
    fitted_pair,
    has_exact_behaviour,
)

LARGEST_LOG = 20.0
"""log(1 + D) is clamped to this in means, standard deviations and maxima."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, eq=False, kw_only=True)
class ContinuousHeteroskedasticity(Heteroskedasticity):
    """Measures of one dataset with continuous actions against one Gaussian policy.

    Attributes:
        log_divergence: (N,) log(1 + D(π, β)(s)) by row, infinite where D is.
        kl: (N,) KL(π ‖ β) by row, nats.
        infinite: Share of rows with infinite D: 2 σβ² ≤ σπ² in some dimension.
        clamped: Share of rows whose log(1 + D) was clamped to 20, the infinite ones included.
        kl_summary: Of ``kl``.
        log_summary: Of log(1 + D), clamped: the robust variant.
        squash: ``clip`` or ``tanh``: what turns the Gaussians into actions.
        default_policy: Whether π was the noise-free controller.
        fit: How β was fitted, None where it is exact.
    """

    log_divergence: np.ndarray
    kl: np.ndarray
    infinite: float
    clamped: float
    kl_summary: Summary
    log_summary: Summary
    squash: Squash
    default_policy: bool
    fit: FitReport | None

    @property
    def divergence(self) -> np.ndarray:
        """(N,) D(π, β)(s) by row, clamped so that log(1 + D) is at most 20."""
        return np.expm1(np.minimum(self.log_divergence, LARGEST_LOG))

    def to_dict(self) -> dict[str, Any]:
        """Returns the scalar measures as plain JSON values."""
        return {
            **super().to_dict(),
            "infinite": self.infinite,
            "clamped": self.clamped,
            "kl": self.kl_summary.to_dict(),
            "log_one_plus_divergence": self.log_summary.to_dict(),
            "squash": self.squash,
            "default_policy": self.default_policy,
            "fit": None if self.fit is None else self.fit.to_dict(),
        }


def continuous_heteroskedasticity(
    dataset: Dataset,
    policy: GaussianPolicy | None = None,
    *,
    behaviour: BehaviourSource | None = None,
    squash: Squash = "clip",
    seed: int = 0,
    settings: FitSettings | None = None,
) -> ContinuousHeteroskedasticity:
    """Measures how unevenly the behaviour of a dataset with continuous actions varies.

    Args:
        dataset: Has vector observations and vector actions.
        policy: π as the parameters of its Gaussians; by default the noise-free controller with
            standard deviation 0.1, see the module.
        behaviour: ``exact`` or ``fitted``, see the module; by default exact if recorded.
        squash: What turns the policy's Gaussian into an action. A tanh-Gaussian policy, as CQL's,
            gives the parameters before the tanh; β is then fitted to atanh of the actions, and
            the tanh cancels in all divergences.
        seed: Of the fit; an equal seed gives equal results on one machine.
        settings: Of the fit.

    Returns:
        Per-row divergences and their summaries over all rows.

    Raises:
        ValueError: If what ``behaviour`` or the default policy needs is not recorded, the recorded
            behaviour is compared with a tanh-Gaussian policy, or the policy gives other shapes or
            standard deviations that are not positive.
    """
    _check_arguments(dataset, policy, squash)
    recorded = has_exact_behaviour(dataset, "clip") or has_exact_behaviour(dataset, "tanh")
    behaviour = behaviour or ("exact" if recorded else "fitted")
    fit = None
    if behaviour == "exact":
        pair = exact_pair(dataset, policy, squash)
    else:
        pair, fit = fitted_pair(dataset, policy, squash, seed, settings or FitSettings())
    log_divergence, kl = np.empty(len(dataset)), np.empty(len(dataset))
    for start in range(0, len(dataset), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(dataset)))
        pi, beta = pair(rows)
        log_divergence[rows] = log_one_plus_chi_square(*pi, *beta)
        kl[rows] = kullback_leibler(*pi, *beta)
    clamped = np.minimum(log_divergence, LARGEST_LOG)
    return ContinuousHeteroskedasticity(
        dataset_id=dataset.id,
        behaviour=behaviour,
        **summarise(np.expm1(clamped), QUANTILES),
        log_divergence=log_divergence,
        kl=kl,
        infinite=float(np.isinf(log_divergence).mean()),
        clamped=float((log_divergence >= LARGEST_LOG).mean()),
        kl_summary=Summary.of(kl, QUANTILES),
        log_summary=Summary.of(clamped, QUANTILES),
        squash=squash,
        default_policy=policy is None,
        fit=fit,
    )


def _check_arguments(dataset: Dataset, policy: GaussianPolicy | None, squash: str) -> None:
    arrays = dataset.arrays
    if arrays.actions.ndim != 2 or arrays.observations.ndim != 2:
        raise ValueError(
            f"{dataset.id} has observations of shape {arrays.observations.shape[1:]} and actions "
            f"of shape {arrays.actions.shape[1:]}; expected vectors"
        )
    if squash not in ("clip", "tanh"):
        raise ValueError(f"squash is {squash!r}; expected 'clip' or 'tanh'")
    if squash == "tanh" and policy is None:
        raise ValueError(
            "squash='tanh' is for a tanh-Gaussian policy of your own; the default policy's "
            "actions are clipped: give policy=, or leave squash at 'clip'"
        )
