"""The measures of datasets with continuous actions."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

import hetero_bench
from hetero_bench.heteroskedasticity import continuous_heteroskedasticity
from hetero_bench.heteroskedasticity.continuous import LARGEST_LOG
from hetero_bench.heteroskedasticity.marginal_fit import FitSettings
from tests.gaussian_data import NARROW, WIDE, controller, gaussian_dataset, noise
from tests.helpers import dataset_of, random_arrays

QUICK = FitSettings(width=64, steps=800, passes=100, weight_decay=0.1)


def closed_form(std, policy_std=0.1, shift=0.0, dimensions=2):
    gap = 2 * std**2 - policy_std**2
    factor = std**2 / (policy_std * math.sqrt(gap)) * math.exp(shift**2 / gap)
    return factor**dimensions - 1


@pytest.fixture(scope="module")
def large():
    return gaussian_dataset(20_000)


def test_the_exact_measure_depends_on_noise_and_bias_alone():
    stds, shifts = np.array([0.1, 0.15, 0.2]), np.array([0.0, 0.05, -0.1])
    kinds = np.arange(1000) % 3
    dataset = gaussian_dataset(stds=stds[kinds], shifts=shifts[kinds])
    measured = hetero_bench.heteroskedasticity(dataset)
    expected = np.array(
        [closed_form(std, shift=shift) for std, shift in zip(stds, shifts, strict=True)]
    )[kinds]
    np.testing.assert_allclose(measured.divergence, expected, rtol=1e-4, atol=1e-6)
    assert measured.behaviour == "exact"
    assert measured.fit is None
    assert measured.mean == pytest.approx(expected.mean(), rel=1e-4)
    assert measured.std == pytest.approx(expected.std(), rel=1e-4)
    assert measured.maximum == pytest.approx(expected.max(), rel=1e-4)
    assert measured.quantiles[0.5] == pytest.approx(np.median(expected), rel=1e-4)
    assert measured.log_summary.std == pytest.approx(np.log1p(expected).std(), rel=1e-4)
    ratios = stds / 0.1
    kl = 2 * (np.log(ratios) + (1 + (shifts / 0.1) ** 2) / (2 * ratios**2) - 0.5)
    np.testing.assert_allclose(measured.kl, kl[kinds], rtol=1e-4, atol=1e-6)
    assert measured.kl_summary.mean == pytest.approx(kl[kinds].mean(), rel=1e-4)


def test_a_homoscedastic_dataset_measures_no_spread():
    for std, level in ((0.1, 0.0), (0.2, closed_form(0.2))):
        measured = continuous_heteroskedasticity(gaussian_dataset(stds=std))
        assert measured.mean == pytest.approx(level, abs=1e-5)
        assert measured.std == pytest.approx(0.0, abs=1e-5)


def test_infinite_divergences_are_counted_and_clamped():
    stds = np.where(np.arange(1000) < 300, 0.07, 0.2)
    shifts = np.where(np.arange(1000) >= 900, 2.0, 0.0)
    measured = continuous_heteroskedasticity(gaussian_dataset(stds=stds, shifts=shifts))
    assert measured.infinite == pytest.approx(0.3)
    assert measured.clamped == pytest.approx(0.4)
    assert np.isinf(measured.log_divergence).sum() == 300
    assert measured.maximum == pytest.approx(math.expm1(LARGEST_LOG))
    assert measured.log_summary.maximum == LARGEST_LOG
    assert np.isfinite(measured.kl).all()
    expected = [0.4 * LARGEST_LOG + 0.6 * math.log1p(closed_form(0.2)), measured.log_summary.mean]
    assert expected[0] == pytest.approx(expected[1], rel=1e-4)


def test_the_behaviour_itself_diverges_from_nothing():
    dataset = gaussian_dataset(shifts=0.2)

    def same(observations, waypoints):
        means = controller(observations) + 0.2
        return means, np.broadcast_to(noise(observations)[:, None], means.shape)

    measured = hetero_bench.heteroskedasticity(dataset, same)
    np.testing.assert_allclose(measured.divergence, 0.0, atol=1e-5)
    np.testing.assert_allclose(measured.kl, 0.0, atol=1e-5)
    assert not measured.default_policy


def test_a_policy_is_told_the_waypoints_if_there_are_any():
    for stored in (True, False):
        dataset, seen = gaussian_dataset(waypoint_extras=stored), []

        def policy(observations, waypoints, seen=seen):
            seen.append(waypoints)
            return np.zeros((len(observations), 2)), np.full((len(observations), 2), 0.1)

        hetero_bench.heteroskedasticity(dataset, policy)
        expected = dataset.extras["waypoints"] if stored else None
        np.testing.assert_array_equal(seen[0], expected)


def test_the_fit_finds_what_is_recorded(large):
    exact = continuous_heteroskedasticity(large)
    fitted = continuous_heteroskedasticity(large, behaviour="fitted", settings=QUICK)
    x = large.arrays.observations[:, 0]
    for side, std in ((x < -0.2, NARROW), (x > 0.2, WIDE)):
        assert np.median(fitted.divergence[side]) == pytest.approx(closed_form(std), rel=0.15)
    assert fitted.mean == pytest.approx(exact.mean, rel=0.1)
    assert fitted.std == pytest.approx(exact.std, rel=0.15)
    assert np.median(fitted.kl[x > 0.2]) == pytest.approx(np.median(exact.kl[x > 0.2]), rel=0.1)
    assert fitted.infinite == 0.0
    report = fitted.fit
    assert (report.rows, report.held_out_rows) == (18_000, 2_000)
    entropy = np.log(noise(large.arrays.observations)).mean() + 0.5 * math.log(2 * math.pi * math.e)
    assert report.held_out_log_likelihood == pytest.approx(-2 * entropy, abs=0.05)
    assert report.log_likelihood == pytest.approx(report.held_out_log_likelihood, abs=0.05)


def test_a_policy_of_ones_own_against_the_fit(large):
    def policy(observations, waypoints):
        means = controller(observations)
        return means, np.full(means.shape, 0.12)

    dataset = dataclasses.replace(large, arrays=dataclasses.replace(large.arrays, extras={}))
    measured = continuous_heteroskedasticity(dataset, policy, settings=QUICK)
    assert measured.behaviour == "fitted"
    x = large.arrays.observations[:, 0]
    for side, std in ((x < -0.2, NARROW), (x > 0.2, WIDE)):
        expected = closed_form(std, policy_std=0.12)
        assert np.median(measured.divergence[side]) == pytest.approx(expected, rel=0.15)


def test_clipped_actions_do_not_narrow_the_fit():
    """A controller at the bound: half of the actions are clipped."""
    dataset = gaussian_dataset(10_000, stds=0.2)
    arrays = dataset.arrays
    rng = np.random.default_rng(0)
    actions = np.clip(1.0 + 0.2 * rng.standard_normal((10_000, 2)), -1, 1).astype(np.float32)
    extras = {"controller_means": np.ones((10_000, 2), np.float32)}
    dataset = dataset_of(dataclasses.replace(arrays, actions=actions, extras=extras))
    measured = continuous_heteroskedasticity(dataset, settings=QUICK)
    assert measured.quantiles[0.5] == pytest.approx(closed_form(0.2), rel=0.1)


def test_a_tanh_gaussian_policy_is_compared_before_the_tanh():
    rng = np.random.default_rng(3)
    dataset = gaussian_dataset(20_000)
    means = 2.0 * controller(dataset.arrays.observations)
    actions = np.tanh(means + 0.4 * rng.standard_normal(means.shape)).astype(np.float32)
    dataset = dataset_of(dataclasses.replace(dataset.arrays, actions=actions, extras={}))
    for std in (0.4, 0.3):

        def policy(observations, waypoints, std=std):
            means = 2.0 * controller(observations)
            return means, np.full(means.shape, std)

        measured = continuous_heteroskedasticity(dataset, policy, squash="tanh", settings=QUICK)
        expected = closed_form(0.4, policy_std=std)
        assert measured.quantiles[0.5] == pytest.approx(expected, rel=0.15, abs=0.03)
        assert measured.squash == "tanh"


def test_the_order_of_episodes_does_not_matter():
    dataset = gaussian_dataset(2000)
    order = np.random.default_rng(1).permutation(dataset.arrays.num_episodes)
    arrays, rows = dataset.arrays.take_episodes(order, len(dataset))
    assert not np.array_equal(rows, np.arange(len(dataset)))
    other = dataclasses.replace(dataset, arrays=arrays)
    settings = FitSettings(width=16, steps=50, passes=100)
    for behaviour in ("exact", "fitted"):
        first, second = (
            continuous_heteroskedasticity(each, behaviour=behaviour, settings=settings)
            for each in (dataset, other)
        )
        np.testing.assert_allclose(second.divergence, first.divergence[rows], rtol=1e-4)
        assert second.quantiles == pytest.approx(first.quantiles, rel=1e-4)
        assert second.kl_summary.std == pytest.approx(first.kl_summary.std, rel=1e-4)


def test_equal_seeds_give_equal_fits_and_others_do_not():
    dataset = gaussian_dataset(1000)
    settings = FitSettings(width=16, steps=50, passes=100)
    first, again, other = (
        continuous_heteroskedasticity(dataset, behaviour="fitted", settings=settings, seed=seed).kl
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_the_unit_of_the_actions_does_not_matter():
    dataset = gaussian_dataset(1000)
    arrays = dataset.arrays
    extras = {
        name: array if name == "waypoints" else 2 * array for name, array in arrays.extras.items()
    }
    doubled = dataset_of(
        dataclasses.replace(arrays, actions=2 * arrays.actions, extras=extras),
        action={"shape": [2], "dtype": "float32", "low": -2.0, "high": 2.0},
    )
    settings = FitSettings(width=16, steps=50, passes=100)

    def policy(scale):
        def act(observations, waypoints):
            means = scale * controller(observations)
            return means, np.full(means.shape, scale * 0.1)

        return act

    for behaviour in ("exact", "fitted"):
        first, second = (
            continuous_heteroskedasticity(
                each, policy(scale), behaviour=behaviour, settings=settings
            ).kl
            for each, scale in ((dataset, 1.0), (doubled, 2.0))
        )
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


def test_the_summary_is_plain_json():
    dataset = gaussian_dataset(500)
    settings = FitSettings(width=8, steps=5)
    for behaviour in ("exact", "fitted"):
        measured = continuous_heteroskedasticity(dataset, behaviour=behaviour, settings=settings)
        document = json.loads(json.dumps(measured.to_dict()))
        assert document["dataset_id"] == "toy-v0"
        assert document["behaviour"] == behaviour
        assert document["std"] == measured.std
        assert document["kl"]["maximum"] == measured.kl.max()
        assert document["log_one_plus_divergence"]["mean"] == measured.log_summary.mean
        assert document["infinite"] == measured.infinite
        assert (document["fit"] is None) == (behaviour == "exact")


def test_the_card_shows_the_exact_measure():
    dataset = gaussian_dataset(stds=np.where(np.arange(1000) < 300, 0.07, 0.2))
    measured, text = continuous_heteroskedasticity(dataset), dataset.card()
    section = text[text.index("## Heteroskedasticity") :]
    assert f"| D(π, β) | {measured.mean:.4g} | {measured.std:.4g} |" in section
    assert f"| log(1 + D) | {measured.log_summary.mean:.4g} |" in section
    assert "infinite in 30.0% of the rows" in section
    assert "Heteroskedasticity" not in gaussian_dataset(recorded=False).card()


def constant(means, stds):
    return lambda observations, waypoints: (
        np.full((len(observations), 2), means),
        np.full((len(observations), 2), stds),
    )


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({"recorded": False}, {"behaviour": "exact"}, "does not record controller_means, noise_"),
        ({"recorded": False}, {}, "there is no default policy; give policy="),
        ({}, {"policy": np.ones((4, 5))}, r"continuous actions: expected policy as a function"),
        ({}, {"behaviour": "fit"}, "behaviour is 'fit'; expected 'exact' or 'fitted'"),
        ({}, {"squash": "relu"}, "squash is 'relu'; expected 'clip' or 'tanh'"),
        ({}, {"squash": "tanh"}, "give policy=, or leave squash"),
        (
            {},
            {"squash": "tanh", "policy": constant(0.0, 0.1)},
            "compare a tanh-Gaussian policy with behaviour='fitted'",
        ),
        ({}, {"policy": constant(0.0, -2.3)}, "standard deviations, not their logarithms"),
        ({}, {"policy": constant(np.nan, 0.1)}, "not finite"),
        (
            {},
            {"policy": lambda observations, waypoints: (np.zeros(3), np.ones(3))},
            r"means of shape \(3,\) .* expected \(1000, 2\) for both",
        ),
        (
            {},
            {"policy": lambda observations, waypoints: np.zeros((len(observations), 2))},
            "gave a ndarray; expected a pair, the means and the standard deviations",
        ),
        (
            {},
            {"policy": lambda observations, waypoints: (0, 1, 2)},
            "gave a tuple; expected a pair",
        ),
        (
            {"stds": 0.0},
            {"behaviour": "exact"},
            "noise_stds of toy-v0 is not positive in every row",
        ),
        (
            {"action": {"shape": [2], "dtype": "float32", "low": -0.5, "high": 0.5}},
            {"behaviour": "fitted"},
            r"expected \[-0.5, 0.5\]: give the action space's bounds",
        ),
        ({"rows": 4, "episodes": 1}, {"behaviour": "fitted"}, "4 are too few"),
    ],
)
def test_wrong_arguments(fields, arguments, message):
    with pytest.raises(ValueError, match=message):
        hetero_bench.heteroskedasticity(gaussian_dataset(**fields), **arguments)


def test_recorded_behaviour_of_another_shape_is_not_used():
    dataset = gaussian_dataset()
    wide = {**dataset.extras, "noise_stds": np.full((1000, 2), 0.1, np.float32)}
    dataset = dataset_of(dataclasses.replace(dataset.arrays, extras=wide))
    with pytest.raises(ValueError, match=r"has shape \(1000, 2\) and not \(1000,\), so its behav"):
        hetero_bench.heteroskedasticity(dataset, behaviour="exact")
    settings = FitSettings(width=8, steps=5)
    assert continuous_heteroskedasticity(dataset, settings=settings).behaviour == "fitted"
    assert "Heteroskedasticity" not in dataset.card()


def test_an_id_is_no_dataset():
    with pytest.raises(TypeError, match="dataset is a str; expected a Dataset, as hetero_bench.lo"):
        hetero_bench.heteroskedasticity("antmaze-large-noisy-10k")


def test_discrete_and_continuous_arguments_are_not_mixed_up(official_cache):
    dataset = hetero_bench.load("gridworld-uniform", cache_dir=official_cache)
    with pytest.raises(ValueError, match=r"discrete actions: expected policy as an \(S, A\) array"):
        hetero_bench.heteroskedasticity(dataset, constant(0.0, 0.1))
    with pytest.raises(ValueError, match="nothing squashes"):
        hetero_bench.heteroskedasticity(dataset, squash="tanh")
    with pytest.raises(ValueError, match=r"array of action probabilities of shape \(\d+, 5\)"):
        hetero_bench.heteroskedasticity(dataset, np.ones((3, 5)))
    images = random_arrays(num_actions=None, observation_shape=(4, 4, 3), extras=False)
    with pytest.raises(ValueError, match="expected vectors"):
        hetero_bench.heteroskedasticity(dataset_of(images))
