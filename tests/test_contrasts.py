"""Intervals of differences: by hand, against SciPy, and their coverage with few runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from baselines.reproduce.contrasts import contrast, paired_contrast
from hetero_bench.bootstrap import Interval


def test_two_samples_have_scipys_interval():
    ours, theirs = [3.0, 5.0, 4.0, 8.0], [1.0, 2.0, 2.5]
    expected = scipy.stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    found = contrast([[ours]], [[theirs]])
    assert found.estimate == pytest.approx(5.0 - 5.5 / 3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_difference_of_differences_by_hand():
    # Task means; every task has variance 2 and two runs, so 1 of the mean, and 1/4 of it counts
    # where there are two tasks: 2 x 2/4 + 2 x 1 = 3. Freedom: 9 / (4/16 + 2) = 4.
    first, second = [[1.0, 3.0], [5.0, 7.0]], [[0.0, 2.0], [3.0, 5.0]]
    third, fourth = [[9.0, 11.0]], [[8.0, 10.0]]
    found = contrast([first, fourth], [second, third])
    half = scipy.stats.t.ppf(0.975, 4) * math.sqrt(3)
    assert found.estimate == pytest.approx((4 - 2.5) - (10 - 9))
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))


def test_a_wider_level_gives_a_wider_interval():
    narrow, wide = (contrast([[[1.0, 2.0]]], [[[1.0, 4.0]]], level) for level in (0.5, 0.9))
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high


def test_runs_that_do_not_vary_differ_exactly():
    assert contrast([[[2.0, 2.0]]], [[[1.0, 1.0]]]) == Interval(1.0, 1.0, 1.0)


def test_one_run_gives_no_interval():
    found = contrast([[[2.0]]], [[[1.0, 3.0]]])
    assert found.estimate == 0.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_no_run_is_refused():
    with pytest.raises(ValueError, match="task 0"):
        contrast([[[]]], [[[1.0]]])


def test_five_runs_cover_what_they_say():
    """Of 2,000 comparisons of equal methods about 100 are to be told apart, and not 240."""
    rng = np.random.default_rng(0)
    told = 0
    for x, y in rng.normal(size=(2_000, 2, 5)):
        told += contrast([[x]], [[y]]).excludes(0.0)
    assert 60 < told < 130


def test_paired_differences_by_hand():
    # Differences 1, 2, 3: mean 2, standard error 1/√3, and 4.303 of it on two degrees of freedom.
    found = paired_contrast([11.0, 52.0, 103.0], [10.0, 50.0, 100.0])
    assert found.estimate == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx(
        (2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3
    )
    assert math.isnan(paired_contrast([1.0], [0.0]).low)


def test_the_paired_interval_covers_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        level = rng.normal(0.0, 50.0, size=5)
        found = paired_contrast(level + rng.normal(1.0, 2.0, size=5), level)
        hits += found.low <= 1.0 <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)
