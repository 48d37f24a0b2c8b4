"""The reproductions: regions, verdicts, exact counterparts, and a tiny sweep from end to end."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from baselines import reproduce
from baselines.cli import main
from baselines.engine import Job, execute, make_plan
from baselines.gridworld import Maze
from baselines.named import find_named
from baselines.reproduce import reds_gridworld
from baselines.reproduce.reds_gridworld import claims, exact, series, sweep
from baselines.reproduce.reds_gridworld.findings import Findings
from baselines.reproduce.reds_gridworld.page import render
from baselines.reproduce.reds_gridworld.regions import (
    compare_widths,
    edge_intervals,
    success_edges,
    success_region,
)
from baselines.reproduce.reds_gridworld.results import (
    Cell,
    Setting,
    best,
    difference,
    mean_interval,
    select,
)
from baselines.reproduce.reds_gridworld.trained import maze_parts
from baselines.reproduce.reds_gridworld.verdicts import (
    at_least,
    less_than,
    more_than,
    unanimous,
)
from baselines.reproduce.verdicts import all_of
from hetero_bench.bootstrap import Interval
from hetero_bench.envs.gridworld_layout import get_layout
from hetero_bench.envs.gridworld_model import gridworld_model

ROOT = Path(__file__).resolve().parents[1]
TEN = tuple(range(10))


def cell(rates, alpha=0.001, **fields):
    setting = {"method": "cql", "dataset": "maze-v0", "temperature": 0.02, **fields}
    return Cell(
        arm="arm",
        setting=Setting(alpha=alpha, **setting),
        seeds=tuple(range(len(rates))),
        rates=tuple(rates),
    )


def solved_by(count):
    return (1.0,) * count + (0.0,) * (10 - count)


# Cells


def test_a_setting_succeeds_with_eight_of_ten_seeds():
    assert [cell(solved_by(count)).succeeds for count in (7, 8, 10)] == [False, True, True]
    assert cell((0.5,) * 8 + (0.49,) * 2).solved == 8
    assert cell((0.49,) * 10).solved == 0
    assert not cell((1.0, 0.0)).succeeds  # 0.8 of 2 seeds are 2
    assert cell((1.0, 1.0)).succeeds


def test_success_is_the_mean_with_an_interval_over_seeds():
    success = cell(solved_by(6)).success
    np.testing.assert_allclose((success.low, success.estimate, success.high), (0.3, 0.6, 0.9))
    everywhere = cell(solved_by(10)).success
    np.testing.assert_allclose((everywhere.low, everywhere.estimate, everywhere.high), 1.0)
    assert np.isnan(mean_interval(np.array([0.5])).low)


def test_differences_are_taken_seed_by_seed():
    rates = (0.1, 0.9, 0.3, 0.5)
    assert difference(cell(rates), cell(rates)) == Interval(0.0, 0.0, 0.0)
    shifted = difference(cell(tuple(rate + 0.1 for rate in rates)), cell(rates))
    np.testing.assert_allclose((shifted.low, shifted.estimate, shifted.high), 0.1)
    with pytest.raises(ValueError, match="differ"):
        difference(cell(rates), cell((0.1, 0.2)))


def test_settings_are_in_units_of_reward():
    config = {"alpha": 0.04, "tau": 1.0, "temperature": 0.2, "reward_scale": 10.0}
    setting = Setting.of("reds", "maze-v0", {**config, "rho_term": "mean", "batch_size": 256})
    assert (setting.alpha, setting.tau, setting.temperature) == (0.004, 0.1, 0.02)
    assert setting.reward_scale == 10.0
    awr = Setting.of("awr", "maze-v0", {"temperature": 3.0})
    assert (awr.alpha, awr.temperature) == (None, 3.0)


def test_the_best_of_equal_settings_is_the_most_conservative_then_the_usual_one():
    cells = [
        cell(solved_by(10), alpha=0.002),
        cell(solved_by(10), alpha=0.004, temperature=0.01),
        cell(solved_by(10), alpha=0.004),
        cell(solved_by(10), alpha=0.004, reward_scale=10.0),
        cell(solved_by(9), alpha=0.008),
    ]
    assert best(cells) is cells[2]


def test_cells_are_selected_by_setting_and_ordered():
    cells = [cell((1.0, 1.0), alpha) for alpha in (0.2, 0.1)]
    assert [each.setting.alpha for each in select(cells, method="cql")] == [0.1, 0.2]
    assert select(cells, temperature=1.0) == []
    assert series.CQL.cells(cells, "maze-v0") == cells[::-1]
    assert series.REDS.cells(cells, "maze-v0") == []


# Regions


def test_success_regions_by_hand():
    region = success_region({0.5: False, 1: True, 2: True, 4: True, 8: False})
    assert region is not None
    assert (region.lowest, region.highest, region.ratio, region.gaps) == (1, 4, 4.0, ())
    assert region.bounded_below
    assert region.bounded_above


def test_success_regions_that_reach_the_ends_of_the_grid_are_unbounded():
    region = success_region({4: True, 1: True, 2: False})
    assert region is not None
    assert (region.lowest, region.highest, region.gaps) == (1, 4, (2,))
    assert not region.bounded_below
    assert not region.bounded_above
    assert success_region({1: False, 2: False}) is None


def test_edges_are_interpolated_in_the_logarithm():
    curves = np.array(
        [
            [0.6, 1.0, 1.0, 0.6, 0.0],  # through 0.8 half-way between 1 and 2, and 4 and 8
            [1.0, 1.0, 0.8, 0.0, 0.0],  # from the first value on, and exactly at 4
            [0.0, 0.0, 0.9, 0.9, 0.9],  # to the last
            [0.5, 0.5, 0.5, 0.5, 0.5],  # nowhere
            [0.0, 0.8, 0.0, 0.8, 0.0],  # twice: the outer edges
        ]
    )
    lower, upper = success_edges([1, 2, 4, 8, 16], curves, level=0.8)
    np.testing.assert_allclose(lower, [2**0.5, 0.0, 2 ** (1 + 8 / 9), np.nan, 2.0])
    np.testing.assert_allclose(upper, [2**2.5, 4.0, np.inf, np.nan, 8.0])


def test_edges_outside_the_grid_count_as_its_ends():
    cells = [cell(solved_by(10), alpha) for alpha in (1.0, 2.0)]
    lower, upper = edge_intervals(cells)
    assert lower == Interval(1.0, 1.0, 1.0)
    assert upper == Interval(2.0, 2.0, 2.0)


def test_a_range_that_is_shifted_is_not_wider():
    rates = [solved_by(count) for count in (4, 10, 10, 3, 0)]
    narrow = [cell(each, 2.0**k) for k, each in enumerate(rates)]
    shifted = [cell(each, 2.0 ** (k + 1)) for k, each in enumerate(rates)]
    widths = compare_widths(shifted, narrow)
    for part, value in ((widths.ratio, 1.0), (widths.upper, 2.0), (widths.lower, 2.0)):
        np.testing.assert_allclose((part.low, part.estimate, part.high), value)
    wide = [cell(solved_by(count), 2.0**k) for k, count in enumerate((10, 10, 10, 10, 0))]
    assert compare_widths(wide, narrow).ratio.low > 1.0
    hopeless = [cell(solved_by(0), 2.0**k) for k in range(5)]
    assert compare_widths(hopeless, narrow).first.estimate == 1.0


# Verdicts


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(0.9, 0.8, 1.0), "held"),
        (Interval(0.8, 0.7, 0.9), "undecided"),
        (Interval(0.7, 0.6, 0.79), "not held"),
        (Interval(0.8, 0.8 - 1e-12, 0.8), "held"),
        (Interval(0.9, np.nan, np.nan), "undecided"),
    ],
)
def test_verdicts_on_at_least(interval, expected):
    assert at_least(interval, 0.8) == expected
    opposite = {"held": "not held", "not held": "held", "undecided": "undecided"}
    assert less_than(interval, 0.8) == opposite[expected]


def test_equal_is_not_more():
    assert more_than(Interval(0.0, 0.0, 0.0), 0.0) == "not held"
    assert more_than(Interval(0.1, 0.01, 0.2), 0.0) == "held"
    assert more_than(Interval(0.1, -0.01, 0.2), 0.0) == "undecided"


def test_verdicts_on_several_statements():
    assert all_of(["held", "held"]) == "held"
    assert all_of(["held", "undecided"]) == "undecided"
    assert all_of(["undecided", "not held"]) == "not held"
    with pytest.raises(ValueError, match="no statement"):
        all_of([])
    assert unanimous(["not held", "not held"]) == "not held"
    assert unanimous(["held", "not held"]) == "undecided"


# The maze


def test_the_parts_of_the_maze_are_in_the_order_of_the_way():
    layout = get_layout("three-rooms")
    parts = maze_parts(layout)
    assert list(parts) == ["room 1", "hallway 1", "room 2", "hallway 2", "room 3", "hallway 3"]
    everything = np.sum(list(parts.values()), axis=0)
    assert everything[layout.goal] == 0
    assert np.delete(everything, layout.goal).tolist() == [1] * (layout.num_states - 1)
    assert parts["room 1"][layout.start]
    assert parts["room 1"].sum() == 42


def test_visitations_are_exact():
    model = gridworld_model(("######", "#S..G#", "######"), action_noise=0.0)
    maze = Maze(model, model.mdp(), horizon=5)
    right, stay = np.eye(5)[[4] * 4], np.eye(5)[[0] * 4]
    seen = maze.visitation(np.stack([right, stay]))
    assert seen.successes.tolist() == [1.0, 0.0]
    np.testing.assert_allclose(seen.occupancy, [(1 / 3 + 1) / 2, 1 / 6, 1 / 6, 0.0])


# From end to end


class SmallJob(Job):
    """A population that is evaluated over few episodes."""

    def plan(self):
        whole = super().plan()
        datasets = list(dict.fromkeys(member.dataset for member in whole.members))
        return make_plan(
            self.method, datasets, self.seeds, self.configs, steps=self.steps,
            log_every=2, evaluation_episodes=3,
        )  # fmt: skip


@pytest.fixture
def small(monkeypatch, cache, tmp_path):
    """The sweep with few settings, steps and episodes, trained in this process."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "DATASET": "gridworld-hetero-10k",
        "FIGURE_2_DATASETS": tuple(f"gridworld-{kind}-10k" for kind in ("uniform", "mixed")),
        "CQL_ALPHAS": (0.001, 0.002, 0.1),
        "REDS_ALPHAS": (0.002, 0.004),
        "SCALED_LOW_ALPHAS": (0.0005, 0.001),
        "FIGURE_2_ALPHAS": (0.001, 0.1),
        "TAUS": (0.1, 0.3),
        "DATA_TAUS": (0.1,),
        "AWR_TEMPERATURES": (0.1, 1.0),
    }.items():
        monkeypatch.setattr(sweep, name, value)
    arms = [
        dataclasses.replace(arm, steps=4, dataset=f"{arm.dataset.removesuffix('-10k')}-10k")
        for arm in sweep.arms()
    ]
    monkeypatch.setattr(sweep, "arms", lambda: arms)
    monkeypatch.setattr(sweep, "Job", SmallJob)
    monkeypatch.setattr(exact, "ALPHAS", (0.001, 0.01, 1.0))
    monkeypatch.setattr(exact, "EDGE_TAUS", (0.1,))
    monkeypatch.setattr(exact, "TOLERANCE", 1e-2)
    monkeypatch.setattr(
        reds_gridworld,
        "run_jobs",
        lambda jobs, workers, overwrite: [execute(job.plan(), job.out, quiet=True) for job in jobs],
    )
    return tmp_path


@pytest.mark.slow
def test_a_tiny_sweep_makes_the_page_and_its_figures(small):
    command = ["reproduce", "reds-gridworld", "--seeds", "2", "--page", "results/maze.md"]
    assert main(command) == 0
    page = (small / "results" / "maze.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\]\((maze/[^)]+\.png)\)", page)
    assert len(pictures) == 8
    for picture in pictures:
        assert (small / "results" / picture).read_bytes().startswith(b"\x89PNG")
    text = (small / "results" / "maze" / "findings.json").read_text(encoding="utf-8")
    findings = Findings.model_validate_json(text)
    assert findings.members == 2 * len(findings.cells)
    assert render(findings, "maze") == page
    for fate in findings.fates:
        assert sum(fate.ends.values()) == pytest.approx(1.0)
    records = list((small / "runs").rglob("run.json"))
    assert len(records) == findings.members
    written = {path: path.stat().st_mtime_ns for path in records}
    assert main(command) == 0  # nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in records} == written


def test_unknown_reproductions_and_too_few_seeds_are_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "atari"]) == 1
    assert "reds-gridworld" in capsys.readouterr().err
    assert main(["reproduce"]) == 1
    assert main(["reproduce", "reds-gridworld", "--seeds", "1"]) == 1
    assert "at least 2" in capsys.readouterr().err
    assert find_named("reproduction", reproduce.REPRODUCTIONS, "reds-gridworld") is (
        reds_gridworld.Reproduction
    )


# The committed page


def test_the_page_says_what_its_findings_say():
    page = ROOT / "docs" / "results" / "gridworld.md"
    text = (page.with_suffix("") / "findings.json").read_text(encoding="utf-8")
    findings = Findings.model_validate_json(text)
    assert page.read_text(encoding="utf-8") == render(findings, "gridworld")
    verdicts = {claim.text: claim.verdict for claim in claims.claims(findings)}
    assert verdicts["CQL with α = 0.1, 1, 10 gets stuck"] == "held"
    assert verdicts["CQL fails even at its best α"] == "not held"
