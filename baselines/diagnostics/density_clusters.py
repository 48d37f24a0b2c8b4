"""How many dense clusters a cloud of points has.

HDBSCAN (Campello, Moulavi and Sander, "Density-Based Clustering Based on Hierarchical Density
Estimates", PAKDD 2013) is asked for two or more clusters: asked for a single one as well,
scikit-learn's gives it no more than the few densest points. It splits smooth clouds of few
dimensions, too, so that of its clusters those are one between which there is no valley: along the
line from peak to peak, density by the distance to the k-th neighbour falls to no less than 0.4 of
the lower peak's.

What it sees: of six samples each of 1,500 and of 4,000 points in one, two, three, six and eight
dimensions, all from a normal distribution, round or stretched, a log-normal one, Student's t with
five degrees of freedom and a cube are one cluster. All from two equal normal distributions whose
means are five deviations apart are two; of a fifth of the points that far from the others that
holds up to three dimensions, and of none in six and eight. Equal ones three deviations apart are
one everywhere, and so is a narrow cloud inside a wide one. What piles up at bounds, and what bends
around a void, may be several.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

SMALLEST = 0.05
"""Least share of the points that is a cluster,"""
NEIGHBOURHOOD = 0.0125
"""and share of them that is k,"""
FEWEST_NEIGHBOURS = 50
"""both of which are at least this many."""
FEWEST_POINTS = 2 * FEWEST_NEIGHBOURS
"""Points below which there could be no two clusters."""
VALLEY = 0.4
"""Share of the lower peak's density above which there is no valley."""
PLACES = 50
"""Places on a line at which density is taken."""
FLAT = 1e-3
"""Share of the largest deviation below which points do not fill a direction."""


def density_clusters(points: np.ndarray) -> np.ndarray:
    """Returns the cluster of every point.

    Args:
        points: (n, d). Work grows with n².

    Returns:
        (n,) int64 numbers of clusters from 0, -1 of points in none. Where no two clusters are
        found, all points are one.

    Raises:
        ValueError: If there are fewer than ``FEWEST_POINTS``, or one is not finite.
    """
    from sklearn.cluster import HDBSCAN

    if len(points) < FEWEST_POINTS:
        raise ValueError(f"{len(points)} points; expected at least {FEWEST_POINTS}")
    if not np.isfinite(points).all():
        raise ValueError("some points are not finite; expected numbers only")
    least, near = (
        max(FEWEST_NEIGHBOURS, round(share * len(points))) for share in (SMALLEST, NEIGHBOURHOOD)
    )
    search = HDBSCAN(least, min_samples=near, copy=True)  # pyright: ignore[reportArgumentType]
    found = search.fit_predict(points)
    subsets = _without_valleys(points, found, near)
    if len(subsets) < 2:
        return np.zeros(len(points), dtype=np.int64)
    labels = np.full(len(points), -1, dtype=np.int64)
    for number, subset in enumerate(subsets):
        labels[np.isin(found, list(subset))] = number
    return labels


def _without_valleys(points: np.ndarray, found: np.ndarray, near: int) -> list[set[int]]:
    """Returns HDBSCAN's clusters, those between which there is no valley together.

    Args:
        points: (n, d).
        found: (n,) the cluster of each, negative if it has none.
        near: The neighbour whose distance says how dense a place is.
    """
    from scipy.cluster.hierarchy import DisjointSet
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=near).fit(points)

    def radii(places: np.ndarray) -> np.ndarray:
        return neighbours.kneighbors(places)[0][:, -1]

    radius, ways = radii(points), np.linspace(0.0, 1.0, PLACES)[:, None]
    members = [np.flatnonzero(found == cluster) for cluster in range(found.max() + 1)]
    peaks = [own[radius[own].argmin()] for own in members]
    # Density falls with the radius to the power of the dimension.
    narrowest = VALLEY ** (1.0 / _filled_dimensions(points))
    joined = DisjointSet(range(len(peaks)))
    for first, second in combinations(range(len(peaks)), 2):
        a, b = peaks[first], peaks[second]
        widest = radii((1.0 - ways) * points[a] + ways * points[b]).max()
        if max(radius[a], radius[b]) >= narrowest * widest:
            joined.merge(first, second)
    return joined.subsets()


def _filled_dimensions(points: np.ndarray) -> int:
    """Returns the number of directions that (n, d) points fill, at least 1."""
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return max(1, int((spread > FLAT * spread[0]).sum()))
