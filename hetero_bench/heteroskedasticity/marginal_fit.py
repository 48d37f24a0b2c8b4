"""Fits Gaussians whose mean and standard deviation are functions of the observation alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.heteroskedasticity.encoding import PiecewiseLinearEncoding
from hetero_bench.heteroskedasticity.likelihood import Target
from hetero_bench.heteroskedasticity.network import Adam, GaussianNetwork
from hetero_bench.progress import progress_bar

_ROWS_STREAM, _FIT_STREAM = 0, 1
_QUIET_SECONDS = 5.0
"""A fit that takes longer shows its progress."""


@dataclass(frozen=True)
class FitSettings:
    """Budget and shape of a fit.

    Attributes:
        rows: Most rows to use; drawn at random from larger datasets.
        held_out: Share of them that is not trained on.
        pieces: That each observation entry's range is cut into, with equally many rows.
        width: Of the two hidden layers.
        steps: Most gradient steps; the learning rate falls to zero over them (half a cosine).
        passes: Most passes over the rows, so that small datasets take fewer steps.
        batch: Rows per step.
        learning_rate: Adam's, at the start.
        weight_decay: Decoupled, times the learning rate. Against standard deviations that come
            out so small in unusual states that D is infinite there.
        checks: How often the held-out loss is looked at; the parameters with the least are kept.
    """

    rows: int = 200_000
    held_out: float = 0.1
    pieces: int = 8
    width: int = 256
    steps: int = 4000
    passes: int = 40
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    checks: int = 20

    def steps_for(self, rows: int) -> int:
        """Returns the number of steps for so many rows to train on."""
        return max(1, min(self.steps, self.passes * rows // self.batch))


@dataclass(frozen=True)
class FitReport:
    """How a fit went.

    Attributes:
        rows: Rows trained on.
        held_out_rows: Rows that were not, of the same episodes.
        best_step: Gradient step whose parameters were kept.
        log_likelihood: Of the actions in the rows trained on, as they are fitted (scaled to ±1, or
            before the tanh), nats per row: of the density inside the bounds, of the probability at
            them.
        held_out_log_likelihood: The same of the rows held out.
        seed: Of the fit.
    """

    rows: int
    held_out_rows: int
    best_step: int
    log_likelihood: float
    held_out_log_likelihood: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class FittedGaussians:
    """A trained network with what it is shown of an observation.

    Attributes:
        network: Over encoded observations.
        encoding: With the moments and quantiles of the rows trained on.
    """

    network: GaussianNetwork
    encoding: PiecewiseLinearEncoding

    def __call__(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (n, K, A) float64 means and standard deviations at (n, obs) observations."""
        return self.network.predict(self.encoding(observations))


def choose_rows(
    arrays: EpisodeArrays, settings: FitSettings, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the rows to train on and those to hold out.

    Single rows are held out, not episodes: wanted is the behaviour in the dataset's own states, and
    the noise of actions is independent by row. Episodes are put in an order of their own first, by
    their first rows, so that the same episodes in another order give the same fit.

    Returns:
        Two arrays of row numbers.

    Raises:
        ValueError: If there are too few rows to hold one out.
    """
    first = arrays.episode_starts()[:-1]
    keys = np.concatenate([arrays.observations[first], arrays.actions[first]], axis=1)
    rank = np.empty(arrays.num_episodes, dtype=np.int64)
    rank[np.lexsort(keys.T[::-1])] = np.arange(arrays.num_episodes)
    order = np.argsort(rank[arrays.episode_ids], kind="stable")

    rng = np.random.default_rng([seed, _ROWS_STREAM])
    drawn = order[rng.permutation(len(order))[: settings.rows]]
    held_out = round(settings.held_out * len(drawn))
    if not 0 < held_out < len(drawn):
        raise ValueError(
            f"a fit holds out {settings.held_out:.0%} of the rows; {len(drawn)} are too few for "
            "that"
        )
    return drawn[held_out:], drawn[:held_out]


def fit_gaussians(
    observations: np.ndarray,
    targets: Sequence[Target],
    size: int,
    held_out: int,
    settings: FitSettings,
    seed: int,
) -> tuple[FittedGaussians, FitReport]:
    """Trains one network with a Gaussian per target.

    The targets share the hidden layers, so that what the network gets wrong about the observation
    is largely common to them and cancels where they are compared.

    Args:
        observations: (R, obs), the held-out rows last.
        targets: ``K`` of them, over the same rows; the report is about the first.
        size: Dimensions ``A`` of the Gaussians.
        held_out: How many of the last rows are not trained on.
        settings: Budget.
        seed: Of the initial weights and the batches.

    Returns:
        The Gaussians with the least held-out loss, and a report.
    """
    rng = np.random.default_rng([seed, _FIT_STREAM])
    trained = len(observations) - held_out
    encoding = PiecewiseLinearEncoding.of(observations[:trained], settings.pieces)
    inputs = encoding(observations)
    network = GaussianNetwork(inputs.shape[1], len(targets), size, settings.width, rng)
    fitted = FittedGaussians(network, encoding)
    seen, unseen = np.arange(trained), np.arange(trained, len(observations))
    adam = Adam(network.parameters, settings.weight_decay)
    steps = settings.steps_for(trained)
    interval = max(1, steps // settings.checks)
    best_loss, best_step, best = np.inf, 0, network.parameters.copy()
    started = time.monotonic()
    with progress_bar("fitting the behaviour policy") as advance:
        for step in range(1, steps + 1):
            rows = rng.integers(trained, size=settings.batch)
            rate = 0.5 * (1.0 + np.cos(np.pi * (step - 1) / steps))
            adam.step(_gradient(network, inputs, targets, rows), settings.learning_rate * rate)
            if step % interval == 0 or step == steps:
                loss = sum(_mean_losses(fitted, inputs, targets, unseen))
                if loss < best_loss:
                    best_loss, best_step, best = loss, step, network.parameters.copy()
                if time.monotonic() - started > _QUIET_SECONDS:
                    advance(step, steps)
    network.parameters[:] = best
    return fitted, FitReport(
        rows=trained,
        held_out_rows=held_out,
        best_step=best_step,
        log_likelihood=-_mean_losses(fitted, inputs, targets, seen)[0],
        held_out_log_likelihood=-_mean_losses(fitted, inputs, targets, unseen)[0],
        seed=seed,
    )


def _mean_losses(
    fitted: FittedGaussians, inputs: np.ndarray, targets: Sequence[Target], rows: np.ndarray
) -> list[float]:
    """Returns each target's loss in nats per row, over rows of encoded inputs."""
    means, stds = fitted.network.predict(inputs[rows])
    log_stds = np.log(stds)
    return [
        float(target.loss(rows, means[:, k], log_stds[:, k]).values.sum(axis=1).mean())
        for k, target in enumerate(targets)
    ]


def _gradient(
    network: GaussianNetwork, inputs: np.ndarray, targets: Sequence[Target], rows: np.ndarray
) -> np.ndarray:
    seen = network.forward(inputs[rows])
    means, log_stds = network.gaussians(seen)
    losses = [target.loss(rows, means[:, k], log_stds[:, k]) for k, target in enumerate(targets)]
    by_means = np.stack([loss.by_mean for loss in losses], axis=1)
    by_log_stds = np.stack([loss.by_log_std for loss in losses], axis=1)
    return network.gradient(seen, by_means / len(rows), by_log_stds / len(rows))
