from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hetero_bench import scoring
from hetero_bench.scoring import Scores

THREE_TASKS = [[0.0, 10.0, 20.0, 90.0], [50.0, 60.0, 70.0, 80.0], [1.0, 2.0, 3.0, 4.0]]
RAGGED = [[0.0, 100.0], [10.0, 20.0, 30.0, 40.0]]

score = st.floats(-200.0, 300.0)
matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    elements=score,
)
ragged = st.lists(st.lists(score, min_size=1, max_size=6), min_size=1, max_size=4)


def test_normalized_scores_are_percent_between_the_references():
    scores = scoring.normalized_scores([[-10.0, 10.0], [30.0, 50.0]], random=-10.0, expert=30.0)
    np.testing.assert_array_equal(scores, [[0.0, 50.0], [100.0, 150.0]])
    assert scores.dtype == np.float64


@pytest.mark.parametrize(("random", "expert"), [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf)])
def test_normalized_scores_refuse_bad_references(random, expert):
    with pytest.raises(ValueError, match="expert above random"):
        scoring.normalized_scores([0.5], random, expert)


def test_point_estimates_by_hand():
    # Task means 30, 65 and 2.5; the middle six of twelve runs are 3, 4, 10, 20, 50, 60.
    assert scoring.mean(THREE_TASKS) == pytest.approx(32.5)
    np.testing.assert_allclose(scoring.task_means(THREE_TASKS), [30.0, 65.0, 2.5])
    assert scoring.median(THREE_TASKS) == pytest.approx(30.0)
    assert scoring.iqm(THREE_TASKS) == pytest.approx(24.5)
    assert scoring.optimality_gap(THREE_TASKS) == pytest.approx(67.5)


def test_optimality_gap_counts_scores_above_gamma_as_gamma():
    assert scoring.optimality_gap([[120.0, 80.0]]) == pytest.approx(10.0)
    assert scoring.optimality_gap([[120.0, 80.0]], gamma=90.0) == pytest.approx(5.0)


def test_iqm_cuts_whole_runs_when_their_number_is_not_a_multiple_of_four():
    assert scoring.iqm([[0.0, 1.0, 5.0, 9.0, 100.0]]) == pytest.approx(5.0)
    assert scoring.iqm([[0.0, 3.0, 90.0]]) == pytest.approx(31.0)


def test_tasks_weigh_the_same_whatever_their_number_of_runs():
    assert scoring.mean(RAGGED) == pytest.approx((50.0 + 25.0) / 2)
    # Weights 1/4, 1/4 and four times 1/8; a sixth is cut at each end, which leaves a third of the
    # outer runs' weight: (0/12 + (10+20+30+40)/8 + 100/12) / (2/3).
    assert scoring.iqm(RAGGED) == pytest.approx((12.5 + 100.0 / 12.0) * 1.5)
    np.testing.assert_allclose(
        scoring.performance_profile(RAGGED, thresholds=[0.0, 25.0, 100.0]), [0.75, 0.5, 0.0]
    )


def test_performance_profile_is_strictly_above():
    profile = scoring.performance_profile([[0.0, 10.0], [10.0, 30.0]], thresholds=[-1, 0, 10, 30])
    np.testing.assert_allclose(profile, [1.0, 0.75, 0.25, 0.0])


def test_probability_of_improvement_counts_ties_half():
    # 3 beats 1, ties 3, loses to 4; 5 beats all: (1 + 1/2 + 3) of 6 pairs.
    assert scoring.probability_of_improvement([[3, 5]], [[1, 3, 4]]) == pytest.approx(4.5 / 6)
    # Second task: 2 of 2; the mean over tasks.
    x, y = [[3, 5], [9]], [[1, 3, 4], [7, 8]]
    assert scoring.probability_of_improvement(x, y) == pytest.approx((0.75 + 1.0) / 2)


def test_comparing_different_numbers_of_tasks_is_refused():
    with pytest.raises(ValueError, match="1 tasks with scores on 2"):
        scoring.probability_of_improvement([[1.0]], [[1.0], [2.0]])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "at least one task"),
        ([[1.0], []], "task 1 have shape"),
        ([[[1.0]]], r"shape \(1, 1\)"),
        ([[1.0, 2.0, np.nan]], "run 2 of task 0 scored nan"),
        (np.zeros(3), "expected \\(runs, tasks\\)"),
    ],
)
def test_bad_scores_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        scoring.mean(bad)


def test_a_matrix_has_runs_in_rows_and_tasks_in_columns():
    scores = Scores.of(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    np.testing.assert_array_equal(scores.values, [1, 4, 2, 5, 3, 6])
    np.testing.assert_array_equal(scores.counts, [2, 2, 2])
    np.testing.assert_array_equal(scores.starts, [0, 2, 4])
    np.testing.assert_allclose(scores.weights, 1.0 / 6.0)
    assert Scores.of(scores) is scores


@settings(deadline=None)
@given(ragged, st.randoms(use_true_random=False))
def test_the_order_of_tasks_and_runs_does_not_matter(tasks, shuffler):
    shuffled = [shuffler.sample(task, len(task)) for task in shuffler.sample(tasks, len(tasks))]
    for statistic in (scoring.mean, scoring.median, scoring.iqm, scoring.optimality_gap):
        assert statistic(shuffled) == pytest.approx(statistic(tasks), abs=1e-8)


@settings(deadline=None)
@given(ragged)
def test_aggregates_lie_between_the_extremes(tasks):
    low, high = min(map(min, tasks)), max(map(max, tasks))
    for statistic in (scoring.mean, scoring.median, scoring.iqm):
        assert low - 1e-9 <= statistic(tasks) <= high + 1e-9
    assert scoring.optimality_gap(tasks, gamma=high) == pytest.approx(
        high - scoring.mean(tasks), abs=1e-8
    )


@settings(deadline=None)
@given(ragged, st.data())
def test_probabilities_of_improvement_are_complementary(x, data):
    y = [data.draw(st.lists(score, min_size=1, max_size=6)) for _ in x]
    forward = scoring.probability_of_improvement(x, y)
    assert 0.0 <= forward <= 1.0 + 1e-12
    assert forward + scoring.probability_of_improvement(y, x) == pytest.approx(1.0)
    assert scoring.probability_of_improvement(x, x) == pytest.approx(0.5)


@settings(deadline=None)
@given(ragged)
def test_profiles_fall_from_one_to_zero(tasks):
    thresholds = np.linspace(-201.0, 300.0, 50)
    profile = scoring.performance_profile(tasks, thresholds=thresholds)
    assert profile[0] == pytest.approx(1.0)
    assert profile[-1] == pytest.approx(0.0)
    assert (np.diff(profile) <= 1e-12).all()


@settings(deadline=None)
@given(ragged, st.integers(0, 2**32))
def test_a_resample_as_weights_equals_a_resample_as_values(tasks, seed):
    rng = np.random.default_rng(seed)
    scores = Scores(tasks)
    draws = [rng.integers(0, len(task), (3, len(task))) for task in tasks]
    weights = np.concatenate(
        [
            np.stack([np.bincount(row, minlength=len(task)) for row in drawn])
            for task, drawn in zip(tasks, draws, strict=True)
        ],
        axis=1,
    )
    weights = weights * scores.weights
    resampled = [
        [np.asarray(task)[drawn[row]] for task, drawn in zip(tasks, draws, strict=True)]
        for row in range(3)
    ]
    profile = partial(scoring.performance_profile, thresholds=[0.0, 50.0])
    for statistic in (
        scoring.mean,
        scoring.median,
        scoring.iqm,
        scoring.optimality_gap,
        profile,
    ):
        expected = [statistic(Scores(one)) for one in resampled]
        np.testing.assert_allclose(statistic(scores, weights), expected, atol=1e-8)
    other = Scores([[0.0, 50.0]] * len(tasks))
    other_weights = np.tile(other.weights, (3, 1))
    np.testing.assert_allclose(
        scoring.probability_of_improvement(scores, other, weights, other_weights),
        [scoring.probability_of_improvement(Scores(one), other) for one in resampled],
        atol=1e-12,
    )


@settings(deadline=None)
@given(matrices, st.integers(0, 2**32))
def test_point_estimates_equal_rliable(matrix, seed):
    from rliable import metrics

    assert scoring.mean(matrix) == pytest.approx(metrics.aggregate_mean(matrix), abs=1e-8)
    assert scoring.median(matrix) == pytest.approx(metrics.aggregate_median(matrix), abs=1e-8)
    assert scoring.iqm(matrix) == pytest.approx(metrics.aggregate_iqm(matrix), abs=1e-8)
    assert scoring.optimality_gap(matrix) == pytest.approx(
        metrics.aggregate_optimality_gap(matrix, gamma=100.0), abs=1e-8
    )
    rng = np.random.default_rng(seed)
    other = rng.choice(matrix.ravel(), (rng.integers(1, 9), matrix.shape[1]))
    assert scoring.probability_of_improvement(matrix, other) == pytest.approx(
        metrics.probability_of_improvement(matrix, other), abs=1e-12
    )


def test_profiles_equal_rliable():
    from rliable import library

    matrix = np.random.default_rng(0).normal(50.0, 30.0, (7, 4))
    thresholds = np.linspace(0.0, 100.0, 21)
    np.testing.assert_allclose(
        scoring.performance_profile(matrix, thresholds=thresholds),
        library.score_distributions(matrix, thresholds),
    )
