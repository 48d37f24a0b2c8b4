"""Intervals of differences: by hand, against SciPy, and their coverage with few runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from baselines.reproduce.welch import contrast
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
