"""A dataset's statistics as plain JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hetero_bench.spec import ArraySpec

if TYPE_CHECKING:
    from hetero_bench.dataset import Dataset

BEHAVIOUR_PROBABILITIES = "behaviour_probabilities"
_BLOCK_ROWS = 1 << 16
_BINS = 10
_MOST_DIMENSIONS = 512
_COMPONENTS = 5
_NEAR = 0.01
"""An action entry is near a bound within this share of half the interval."""
SUMMARY = ("mean", "std", "min", "q25", "median", "q75", "max")


def statistics(dataset: Dataset) -> dict[str, Any]:
    """Summarises a dataset; reads every row once, block by block where it is wide.

    Args:
        dataset: Memory-mapped or in memory.

    Returns:
        JSON values: ``transitions``, ``episodes``, ``terminations``, ``truncations``; summaries
        (mean, population std, min, quartiles, max) of ``returns`` (undiscounted, raw), ``lengths``
        and ``rewards``; ``return_histogram`` and ``length_histogram``; ``normalized_scores``
        (percent) where there are reference returns; ``actions``: ``counts`` and ``frequencies`` of
        discrete actions, or mean, std, min and max per dimension and, where the bounds are known,
        the share of entries near them; ``coverage`` of vector observations by principal
        components; ``behaviour_entropy`` (nats) where the behaviour's probabilities are stored;
        ``notes`` on how the data came about, and ``parent_notes``: what a draw of a subset has
        from the dataset it was drawn from, and what is true of that one.
    """
    arrays = dataset.arrays
    returns = dataset.returns()
    lengths = np.diff(arrays.episode_starts())
    result: dict[str, Any] = {
        "transitions": arrays.num_transitions,
        "episodes": arrays.num_episodes,
        "terminations": int(arrays.terminations.sum()),
        "truncations": int(arrays.truncations.sum()),
        "returns": _summary(returns),
        "return_histogram": _histogram(returns),
        "lengths": _summary(lengths),
        "length_histogram": _histogram(lengths),
        "rewards": _summary(arrays.rewards),
        "actions": _action_statistics(arrays.actions, dataset.spec.action),
        "notes": arrays.notes if dataset.draw is None else {},
        "parent_notes": {} if dataset.draw is None else arrays.notes,
    }
    if dataset.spec.reference is not None:
        result["normalized_scores"] = _summary(dataset.spec.normalized_score(returns))
    if arrays.observations.ndim == 2 and arrays.observations.shape[1] <= _MOST_DIMENSIONS:
        result["coverage"] = state_coverage(arrays.observations)
    probabilities = dataset.extras.get(BEHAVIOUR_PROBABILITIES)
    if probabilities is not None:
        entropy = _entropy(probabilities)
        result["behaviour_entropy"] = {
            **_summary(entropy),
            "uniform": float(np.log(probabilities.shape[1])),
            "deterministic": float(np.mean(entropy < 1e-6)),
        }
    return result


def _summary(values: np.ndarray) -> dict[str, float]:
    quantiles = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    moments = [float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))]
    return dict(zip(SUMMARY, moments + quantiles, strict=True))


def _action_statistics(actions: np.ndarray, spec: ArraySpec | None) -> dict[str, Any]:
    if actions.dtype.kind in "iu" and actions.ndim == 1:
        counts = np.bincount(actions, minlength=(spec.n if spec else None) or 0)
        return {"counts": counts.tolist(), "frequencies": (counts / len(actions)).tolist()}
    flat = actions.reshape(len(actions), -1)
    mean = flat.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(flat), _BLOCK_ROWS):
        squares += np.square(flat[start : start + _BLOCK_ROWS] - mean).sum(axis=0)
    result: dict[str, Any] = {
        "mean": mean.tolist(),
        "std": np.sqrt(squares / len(flat)).tolist(),
        "min": flat.min(axis=0).astype(float).tolist(),
        "max": flat.max(axis=0).astype(float).tolist(),
    }
    if spec is not None and spec.low is not None and spec.high is not None:
        margin = _NEAR * (spec.high - spec.low) / 2
        near = (flat <= spec.low + margin) | (flat >= spec.high - margin)
        result["near_bounds"] = float(near.mean())
    return result


def state_coverage(observations: np.ndarray) -> dict[str, Any]:
    """Principal components of observations, each dimension divided by its standard deviation.

    Args:
        observations: (N, D).

    Returns:
        ``dimensions`` that vary; ``shares`` of the variance of the first five components;
        ``for_90_percent`` and ``for_99_percent``: how many components hold that much of it;
        ``total_variance``: the sum of the dimensions' variances, in their own units.
    """
    mean = observations.mean(axis=0, dtype=np.float64)
    products = np.zeros((len(mean), len(mean)))
    for start in range(0, len(observations), _BLOCK_ROWS):
        centred = observations[start : start + _BLOCK_ROWS] - mean
        products += centred.T @ centred
    covariance = products / len(observations)
    variances = np.diag(covariance)
    varies = variances > 0
    stds = np.sqrt(variances[varies])
    correlation = covariance[np.ix_(varies, varies)] / np.outer(stds, stds)
    shares = np.linalg.eigvalsh(correlation)[::-1] / max(len(stds), 1)
    reached = np.cumsum(shares)
    return {
        "dimensions": len(stds),
        "shares": shares[:_COMPONENTS].tolist(),
        "for_90_percent": int((reached < 0.9 - 1e-9).sum()) + 1 if len(stds) else 0,
        "for_99_percent": int((reached < 0.99 - 1e-9).sum()) + 1 if len(stds) else 0,
        "total_variance": float(variances.sum()),
    }


def _histogram(values: np.ndarray) -> dict[str, Any]:
    """Returns ten bins of equal width, or one where all values are equal."""
    low, high = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, bins=_BINS if high > low else 1, range=(low, high))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Returns (N,) float64 entropies in nats of (N, A) distributions."""
    result = np.empty(len(probabilities))
    for start in range(0, len(probabilities), _BLOCK_ROWS):
        block = probabilities[start : start + _BLOCK_ROWS].astype(np.float64)
        logs = np.log(np.where(block > 0, block, 1.0))
        result[start : start + len(block)] = -(block * logs).sum(axis=1)
    return result
