from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetero_bench import bootstrap, scoring
from hetero_bench.bootstrap import Estimate, Interval, RankInterval
from hetero_bench.scoring import Scores

RAGGED = [[0.0, 100.0, 40.0], [10.0, 20.0, 30.0, 40.0, 70.0]]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def with_distribution(distribution, runs: int = 10) -> Estimate:
    distribution = np.asarray(distribution, dtype=np.float64)
    return Estimate((Scores([np.arange(runs)]),), float(distribution.mean()), distribution)


def test_resamples_draw_every_run_of_a_task_equally_often():
    scores = Scores(RAGGED)
    weights = bootstrap.resampled_weights(scores, generator(), 20_000)
    np.testing.assert_allclose(weights[:, :3].sum(axis=1), 0.5)
    np.testing.assert_allclose(weights[:, 3:].sum(axis=1), 0.5)
    np.testing.assert_allclose(weights.mean(axis=0), scores.weights, rtol=0.03)
    # How often a run is drawn is binomial: variance m · 1/m · (1 − 1/m) for m runs.
    times = weights / scores.weights
    np.testing.assert_allclose(times.var(axis=0), [2 / 3] * 3 + [4 / 5] * 5, rtol=0.05)
    # Draws of different tasks are independent.
    assert abs(np.corrcoef(times[:, 0], times[:, 4])[0, 1]) < 0.03


def test_tasks_are_not_resampled():
    distribution = bootstrap.bootstrap(scoring.mean, [[0.0] * 5, [100.0] * 5], rng=generator())
    np.testing.assert_allclose(distribution, 50.0)


def test_the_distribution_of_two_runs_is_the_exact_one():
    distribution = bootstrap.bootstrap(
        scoring.mean, [[0.0, 100.0]], rng=generator(), resamples=40_000
    )
    values, counts = np.unique(distribution, return_counts=True)
    np.testing.assert_allclose(values, [0.0, 50.0, 100.0])
    np.testing.assert_allclose(counts / 40_000, [0.25, 0.5, 0.25], atol=0.01)


def test_the_interval_is_central_and_linear_between_resamples():
    interval = with_distribution(np.arange(101.0)).interval()
    assert interval == Interval(50.0, pytest.approx(2.5), pytest.approx(97.5))
    assert with_distribution(np.arange(101.0)).interval(0.9).low == pytest.approx(5.0)
    np.testing.assert_allclose(bootstrap.percentiles(np.arange(101.0), 0.5), [25.0, 75.0])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_levels_are_fractions(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap.percentiles(np.arange(5.0), level)


def test_resamples_must_be_positive():
    with pytest.raises(ValueError, match="resamples is 0"):
        bootstrap.bootstrap(scoring.mean, RAGGED, rng=generator(), resamples=0)


def test_a_single_run_has_no_interval():
    interval = bootstrap.estimate(scoring.mean, [[1.0, 2.0], [3.0]], rng=generator()).interval()
    assert interval.estimate == pytest.approx(2.25)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert not interval.excludes(1_000.0)


def test_an_interval_excludes_what_lies_outside_beyond_rounding():
    interval = Interval(2.0, 1.0, 3.0)
    assert interval.excludes(0.9)
    assert interval.excludes(3.1)
    assert not interval.excludes(1.0 - 1e-12)
    assert not interval.excludes(2.0)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_interval(seed):
    one, two = (
        bootstrap.bootstrap(scoring.iqm, RAGGED, rng=generator(seed), resamples=20)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
    other = bootstrap.bootstrap(scoring.iqm, RAGGED, rng=generator(seed + 1), resamples=20)
    assert not np.array_equal(one, other)


def test_successive_estimates_from_one_generator_are_independent():
    rng = generator()
    one = bootstrap.bootstrap(scoring.mean, RAGGED, rng=rng, resamples=4_000)
    two = bootstrap.bootstrap(scoring.mean, RAGGED, rng=rng, resamples=4_000)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.05


def test_the_size_of_chunks_bounds_memory_and_changes_nothing(monkeypatch):
    improvement = partial(
        bootstrap.bootstrap, scoring.probability_of_improvement, RAGGED, RAGGED, resamples=101
    )
    whole = improvement(rng=generator())
    rows = []

    def watched(scores, rng, resamples, draw=bootstrap.resampled_weights):
        rows.append(resamples * scores.values.size)
        return draw(scores, rng, resamples)

    monkeypatch.setattr(bootstrap, "CHUNK_ELEMENTS", 64)
    monkeypatch.setattr(bootstrap, "resampled_weights", watched)
    np.testing.assert_array_equal(improvement(rng=generator()), whole)
    assert max(rows) <= 64
    assert len(rows) > 10


def test_difference_subtracts_estimates_and_resamples():
    x, y = with_distribution(np.arange(11.0)), with_distribution(np.zeros(11))
    difference = bootstrap.difference(x, y)
    assert difference.value == 5.0
    np.testing.assert_array_equal(difference.distribution, np.arange(11.0))
    assert bootstrap.difference(y, x).interval().high == pytest.approx(-0.25)
    with pytest.raises(ValueError, match="same number"):
        bootstrap.difference(x, with_distribution(np.zeros(7)))


def test_difference_has_no_interval_if_either_method_has_a_single_run():
    x = with_distribution(np.ones(5), runs=50)
    y = with_distribution(np.zeros(5), runs=1)
    assert math.isnan(bootstrap.difference(x, y).interval().low)
    assert bootstrap.enough_runs(x.scores[0], y.scores[0])
    assert bootstrap.decide(x, y) == 0


@pytest.mark.parametrize(
    ("x", "y", "enough"),
    [
        ([3], [3], False),  # 20 arrangements: two-sided p >= 0.1
        ([4], [4], True),  # 70
        ([3], [4], False),  # 35
        ([1], [38], False),  # 39
        ([1], [39], True),  # 40: p = 0.05
        ([3, 3], [3, 3], True),  # 400
        ([2, 2], [2, 2], False),  # 36
    ],
)
def test_enough_runs_by_hand(x, y, enough):
    scores = ([np.zeros(runs) for runs in counts] for counts in (x, y))
    assert bootstrap.enough_runs(*scores) is enough


def test_a_decision_needs_an_interval_without_zero_and_enough_runs():
    zero = with_distribution(np.zeros(1_000))
    mostly = np.ones(1_000)
    mostly[:20] = -1.0  # 2% below zero
    assert bootstrap.decide(with_distribution(mostly), zero) == 1
    assert bootstrap.decide(zero, with_distribution(mostly)) == -1
    mostly[:30] = -1.0  # 3%
    assert bootstrap.decide(with_distribution(mostly), zero) == 0
    few = with_distribution(np.ones(1_000), runs=3), with_distribution(np.zeros(1_000), runs=3)
    assert bootstrap.decide(*few) == 0


def test_equal_scores_are_not_told_apart_by_rounding():
    equal, rounded = with_distribution(np.zeros(100)), with_distribution(np.full(100, 1e-14))
    assert bootstrap.decide(rounded, equal) == 0
    ranks = bootstrap.rank_intervals({"equal": equal, "rounded": rounded})
    assert set(ranks.values()) == {RankInterval(1, 1, 2)}
    third = 100.0 / 3.0
    x, y = (
        bootstrap.estimate(scoring.iqm, [[third] * runs, [0.1] * runs], rng=generator(runs))
        for runs in (5, 14)
    )
    assert bootstrap.decide(y, x) == 0
    assert not bootstrap.difference(x, y).interval().excludes(0.0)


def test_rank_intervals_of_separate_and_of_tied_methods():
    methods = {
        "low": [[10.0, 11.0, 12.0, 13.0, 14.0]],
        "high": [[90.0, 91.0, 92.0, 93.0, 94.0]],
        "mid": [[50.0, 51.0, 52.0, 53.0, 54.0]],
        "tied": [[50.5, 51.5, 52.5, 52.6, 54.0]],
    }
    rng = generator()
    estimates = {
        name: bootstrap.estimate(scoring.iqm, one, rng=rng) for name, one in methods.items()
    }
    assert bootstrap.rank_intervals(estimates) == {
        "low": RankInterval(4, 4, 4),
        "high": RankInterval(1, 1, 1),
        "mid": RankInterval(3, 2, 3),
        "tied": RankInterval(2, 2, 3),
    }


def test_rank_intervals_allow_for_the_number_of_methods():
    mostly = np.ones(1_000)
    mostly[:20] = -1.0  # decided at 95%, not at 97.5%
    good, bad = with_distribution(mostly), with_distribution(np.zeros(1_000))
    assert bootstrap.rank_intervals({"good": good, "bad": bad})["good"] == RankInterval(1, 1, 1)
    three = {"good": good, "bad": bad, "worst": with_distribution(np.full(1_000, -9.0))}
    assert bootstrap.rank_intervals(three)["good"] == RankInterval(1, 1, 2)
    assert bootstrap.rank_intervals(three)["worst"] == RankInterval(3, 3, 3)


def test_a_lone_method_ranks_first():
    assert bootstrap.rank_intervals({"only": with_distribution(np.ones(5))}) == {
        "only": RankInterval(1, 1, 1)
    }


@pytest.mark.slow
def test_intervals_agree_with_rliable():
    from rliable import library, metrics

    rng = np.random.default_rng(7)
    x = rng.normal([20.0, 60.0, 80.0], [15.0, 10.0, 30.0], (12, 3))
    y = rng.normal([30.0, 55.0, 60.0], [10.0, 10.0, 20.0], (9, 3))

    def aggregates(scores):
        return np.array(
            [
                metrics.aggregate_mean(scores),
                metrics.aggregate_median(scores),
                metrics.aggregate_iqm(scores),
                metrics.aggregate_optimality_gap(scores, gamma=100.0),
            ]
        )

    def improvement(one, other):
        return np.array([metrics.probability_of_improvement(one, other)])

    # rliable draws from NumPy's global state, whatever random_state it is given.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        _, theirs = library.get_interval_estimates({"x": x}, aggregates, reps=4_000)
        _, chances = library.get_interval_estimates({"xy": [x, y]}, improvement, reps=2_000)
    finally:
        np.random.set_state(state)  # noqa: NPY002

    statistics = (scoring.mean, scoring.median, scoring.iqm, scoring.optimality_gap)
    for index, statistic in enumerate(statistics):
        ours = bootstrap.estimate(statistic, x, rng=generator()).interval()
        width = ours.high - ours.low
        np.testing.assert_allclose([ours.low, ours.high], theirs["x"][:, index], atol=0.06 * width)
    ours = bootstrap.estimate(
        scoring.probability_of_improvement, x, y, rng=generator(), resamples=4_000
    ).interval()
    np.testing.assert_allclose([ours.low, ours.high], chances["xy"][:, 0], atol=0.015)


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        sample = rng.normal([0.0, 10.0], [1.0, 5.0], (15, 2))
        interval = bootstrap.estimate(scoring.mean, sample, rng=rng, resamples=500).interval()
        covered += interval.low <= 5.0 <= interval.high
    assert 0.88 <= covered / 400 <= 0.98
