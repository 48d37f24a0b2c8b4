"""A recipe's noise schedule as text."""

from __future__ import annotations

import numpy as np
import pytest

from hetero_bench.cards import manifest_card
from hetero_bench.heteroskedasticity.divergences import log_one_plus_chi_square
from hetero_bench.recipes.action_noise import NoiseSchedule
from hetero_bench.registry import get_spec
from hetero_bench.schedule_table import dataset_schedule, schedule_rows


def test_bars_are_to_scale_and_biases_have_sides():
    schedule = NoiseSchedule(
        edges=np.array([-2.0, 2.0, 6.0, 10.0]),
        noise=np.array([0.1, 0.4, 0.2]),
        bias=np.array([-0.1, 0.0, 0.2]),
    )
    assert schedule_rows(schedule) == [
        ("-2 to 2", f"`{'█' * 3}{'·' * 9}` 0.10", f"`{'·' * 9}{'█' * 3}│{'·' * 12}` -0.10"),
        ("2 to 6", f"`{'█' * 12}` 0.40", f"`{'·' * 12}│{'·' * 12}` +0.00"),
        ("6 to 10", f"`{'█' * 6}{'·' * 6}` 0.20", f"`{'·' * 12}│{'█' * 6}{'·' * 6}` +0.20"),
    ]


def test_a_subset_has_its_parents_schedule_and_severity_scales_it():
    whole = dataset_schedule(get_spec("antmaze-large-noisy"))
    subset = dataset_schedule(get_spec("antmaze-large-noisy-10k"))
    none = dataset_schedule(get_spec("antmaze-large-noisy-s0"))
    double = dataset_schedule(get_spec("antmaze-large-noisy-s4"))
    assert whole is not None
    np.testing.assert_array_equal(subset.noise, whole.noise)
    np.testing.assert_allclose(none.noise, 0.2)
    np.testing.assert_allclose(none.bias, 0.0)
    np.testing.assert_allclose(double.noise - 0.2, 2 * (whole.noise - 0.2))
    np.testing.assert_allclose(double.bias, 2 * whole.bias)
    assert dataset_schedule(get_spec("gridworld-hetero")) is None
    assert dataset_schedule(get_spec("antmaze-large-noisy-reds")) is None


@pytest.mark.parametrize("maze", ["medium", "large"])
def test_the_schedules_are_in_the_order_of_the_papers_table_3(maze):
    """The largest exact D: noisy over biased over constant noise, as docs/antmaze.md says."""
    largest = []
    for kind in ("noisy", "biased", "noisy-s0"):
        schedule = dataset_schedule(get_spec(f"antmaze-{maze}-{kind}"))
        ones = np.ones((len(schedule.noise), 8))
        noise, bias = schedule.noise[:, None] * ones, schedule.bias[:, None] * ones
        log_d = log_one_plus_chi_square(0.0 * ones, 0.1 * ones, bias, noise)
        largest.append(float(np.expm1(log_d).max()))
    assert largest == pytest.approx([537.0, 109.0, 26.3], rel=0.01)


def test_the_card_draws_it():
    card = manifest_card(get_spec("antmaze-medium-biased-10k"))
    assert "## Action noise by place" in card
    assert "| 2 to 6 | `████████████` 0.18 | `····████████│············` -0.12 |" in card
    assert "Action noise" not in manifest_card(get_spec("gridworld-hetero"))
