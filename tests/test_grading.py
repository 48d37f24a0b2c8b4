from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from hetero_bench import bootstrap, scoring
from hetero_bench.grading import grade
from hetero_bench.runs import RunCollection, write_run
from tests.synthetic_runs import DATASET, digest, make_run, save, save_scores

OTHER = "gridworld-uniform-v0"
RECIPE = {"status": "verified", "recipe_digest": "recipe"}
BC = [10.0, 20.0, 30.0, 40.0, 50.0]
CQL = [60.0, 70.0, 80.0, 90.0, 95.0]


@pytest.fixture
def two_methods(tmp_path):
    save_scores(tmp_path, "bc", DATASET, BC)
    return save_scores(tmp_path, "cql", DATASET, CQL)


def test_the_final_evaluation_ranks_and_the_best_is_shown_as_oracle(tmp_path):
    save(tmp_path, make_run("a", seed=0, scores=[20, 90, 50]), make_run("a", seed=1, scores=[30]))
    result = grade(tmp_path, resamples=100).result("a", DATASET)
    assert result.scores == pytest.approx((50.0, 30.0))
    assert result.oracle_scores == pytest.approx((90.0, 30.0))
    assert result.mean.estimate == pytest.approx(40.0)
    assert result.oracle_mean == pytest.approx(60.0)
    assert result.oracle_std == pytest.approx(math.sqrt(1800.0))
    assert result.steps == (3000, 1000)


def test_scores_use_the_reference_returns_and_average_over_episodes(tmp_path):
    runs = [make_run(seed=k, scores=[s], random=-10.0, expert=30.0) for k, s in enumerate([25, 75])]
    result = grade(save(tmp_path, *runs), resamples=100).result("bc", DATASET)
    assert result.returns == pytest.approx((0.0, 20.0))
    assert result.scores == pytest.approx((25.0, 75.0))
    assert result.episodes == (4, 4)


def test_statistics_per_dataset(two_methods):
    result = grade(two_methods).result("bc", DATASET)
    assert result.seeds == (0, 1, 2, 3, 4)
    assert result.mean.estimate == pytest.approx(30.0)
    assert result.std == pytest.approx(np.std(BC, ddof=1))
    assert result.iqm.estimate == pytest.approx(30.0)
    # Exact bootstrap distribution of the IQM of five runs: enumerate all 5^5 resamples.
    every = np.array(np.meshgrid(*[BC] * 5)).reshape(5, -1)
    exact = np.percentile(np.sort(every, axis=0)[1:4].mean(axis=0), [2.5, 97.5])
    np.testing.assert_allclose([result.iqm.low, result.iqm.high], exact, atol=1.0)
    exact = np.percentile(every.mean(axis=0), [2.5, 97.5])
    np.testing.assert_allclose([result.mean.low, result.mean.high], exact, atol=1.0)


def test_success_rates_are_of_the_final_evaluation(tmp_path):
    save(
        tmp_path,
        make_run("a", seed=0, successes=[True, True, True, False]),
        make_run("a", seed=1, successes=[True, False, False, False]),
        make_run("b", seed=0, successes=[True, True, True, False]),
        make_run("b", seed=1),
    )
    graded = grade(tmp_path, resamples=100)
    assert graded.result("a", DATASET).success.estimate == pytest.approx(50.0)
    assert graded.result("b", DATASET).success is None


def test_aggregates_weigh_datasets_equally_and_use_only_shared_ones(tmp_path):
    save_scores(tmp_path, "a", DATASET, [10.0, 20.0])
    save_scores(tmp_path, "a", OTHER, [80.0, 90.0, 130.0, 100.0])
    save_scores(tmp_path, "a", "extra-v0", [0.0, 0.0])
    save_scores(tmp_path, "b", DATASET, [1.0, 2.0, 3.0])
    save_scores(tmp_path, "b", OTHER, [50.0, 52.0])
    graded = grade(tmp_path, resamples=200)
    assert graded.shared == (DATASET, OTHER)
    assert graded.left_out == {"extra-v0": ("b",)}
    first = next(one for one in graded.aggregates if one.entry == "a")
    assert first.mean.estimate == pytest.approx((15.0 + 100.0) / 2)
    assert first.median.estimate == pytest.approx((15.0 + 100.0) / 2)
    # Gaps: 85 on the first dataset; 20, 10, 0 and 0 on the second.
    assert first.optimality_gap.estimate == pytest.approx((85.0 + 7.5) / 2)
    expected = scoring.iqm([[10.0, 20.0], [80.0, 90.0, 130.0, 100.0]])
    assert first.iqm.estimate == pytest.approx(expected)
    assert graded.thresholds[0] == 0.0
    assert graded.thresholds[-1] == 130.0
    assert first.profile[0] == pytest.approx(1.0)
    assert first.profile[-1] == pytest.approx(0.0)
    assert first.profile_low[30] <= first.profile[30] <= first.profile_high[30]
    assert "extra-v0 (no runs of b)" in graded.to_text()


def test_mean_and_median_over_three_datasets(tmp_path):
    for dataset, level in (("a-v0", 10.0), ("b-v0", 20.0), ("c-v0", 90.0)):
        save_scores(tmp_path, "bc", dataset, [level - 1.0, level + 1.0])
    (aggregate,) = grade(tmp_path, resamples=200).aggregates
    assert aggregate.mean.estimate == pytest.approx(40.0)
    assert aggregate.median.estimate == pytest.approx(20.0)
    assert 19.0 <= aggregate.median.low < aggregate.median.high <= 21.0
    assert aggregate.optimality_gap.estimate == pytest.approx(60.0)


def test_a_single_run_on_one_dataset_leaves_aggregates_without_intervals(tmp_path):
    save_scores(tmp_path, "bc", DATASET, BC)
    save_scores(tmp_path, "bc", OTHER, [50.0])
    (aggregate,) = grade(tmp_path, resamples=200).aggregates
    assert aggregate.iqm.estimate == pytest.approx(scoring.iqm([BC, [50.0]]))
    assert np.isnan([aggregate.iqm.low, *aggregate.profile_low, *aggregate.profile_high]).all()
    assert np.isfinite(aggregate.profile).all()


def test_without_a_shared_dataset_there_are_no_aggregates(tmp_path):
    save_scores(tmp_path, "a", DATASET, [10.0, 20.0])
    save_scores(tmp_path, "b", OTHER, [10.0, 20.0])
    graded = grade(tmp_path, resamples=100)
    assert graded.shared == ()
    assert graded.aggregates == ()
    assert graded.comparisons == ()
    assert set(graded.left_out) == {DATASET, OTHER}


def test_comparison_of_separate_methods_is_decided(two_methods):
    (comparison,) = grade(two_methods).comparisons
    assert (comparison.first, comparison.second) == ("cql", "bc")
    assert comparison.scope == (DATASET,)
    assert comparison.difference.estimate == pytest.approx(50.0)
    assert 20.0 < comparison.difference.low < 50.0 < comparison.difference.high < 75.0
    assert comparison.improvement.estimate == 1.0
    assert comparison.better == "cql"
    assert comparison.verdict == "cql is better"
    ranks = {result.entry: result.rank for result in grade(two_methods).results}
    assert (ranks["cql"].low, ranks["cql"].high) == (1, 1)
    assert (ranks["bc"].low, ranks["bc"].high) == (2, 2)


def test_comparison_of_overlapping_methods_is_undecided(tmp_path):
    save_scores(tmp_path, "a", DATASET, [10.0, 30.0, 50.0, 70.0, 90.0])
    save_scores(tmp_path, "b", DATASET, [20.0, 40.0, 50.0, 60.0, 80.0, 95.0])
    graded = grade(tmp_path)
    (comparison,) = graded.comparisons
    assert comparison.better is None
    assert comparison.verdict == "undecided"
    # Of 30 pairs b wins 5 + 4 + 3 (one tie) + 2 + 1 by hand: 16.5.
    wins = sum(
        (x > y) + 0.5 * (x == y)
        for x in [20.0, 40.0, 50.0, 60.0, 80.0, 95.0]
        for y in [10.0, 30.0, 50.0, 70.0, 90.0]
    )
    assert comparison.improvement.estimate == pytest.approx(wins / 30.0)
    assert comparison.improvement.low < 0.5 < comparison.improvement.high
    assert {(one.rank.low, one.rank.high) for one in graded.results} == {(1, 2)}


@pytest.mark.parametrize(
    ("runs", "verdict"), [(1, "undecided (single run)"), (3, "undecided (too few runs)")]
)
def test_a_few_runs_decide_nothing(tmp_path, runs, verdict):
    save_scores(tmp_path, "bc", DATASET, BC[:runs])
    save_scores(tmp_path, "cql", DATASET, CQL[:runs])
    graded = grade(tmp_path)
    assert graded.comparisons[0].verdict == verdict
    assert {(one.rank.low, one.rank.high) for one in graded.results} == {(1, 2)}
    single = any("single run: no interval" in warning for warning in graded.warnings)
    assert single is (runs == 1)


def test_comparisons_over_several_datasets_come_first(tmp_path):
    for dataset in (DATASET, OTHER):
        save_scores(tmp_path, "bc", dataset, BC)
        save_scores(tmp_path, "cql", dataset, CQL)
    graded = grade(tmp_path, resamples=500)
    assert [one.scope for one in graded.comparisons] == [(DATASET, OTHER), (DATASET,), (OTHER,)]
    assert {one.entry: one.rank.rank for one in graded.aggregates} == {"bc": 2, "cql": 1}


def test_a_baseline_is_compared_with_all_others(two_methods):
    save_scores(two_methods, "awr", DATASET, [0.0, 1.0, 2.0, 3.0])
    comparisons = grade(two_methods, baseline="bc", resamples=500).comparisons
    assert [(one.first, one.second) for one in comparisons] == [("cql", "bc"), ("awr", "bc")]
    assert [one.better for one in comparisons] == ["cql", "bc"]
    assert comparisons[1].difference.estimate == pytest.approx(1.5 - 30.0)
    assert comparisons[1].improvement.estimate == 0.0
    assert len(grade(two_methods, resamples=50).comparisons) == 3
    with pytest.raises(ValueError, match="baseline 'cqll'; did you mean 'cql'"):
        grade(two_methods, baseline="cqll")


def test_a_baseline_with_several_configs_must_be_told_apart(tmp_path):
    for alpha in (0.1, 1.0):
        save_scores(tmp_path, "cql", DATASET, BC, config={"alpha": alpha})
    save_scores(tmp_path, "bc", DATASET, BC)
    with pytest.raises(ValueError, match=r"several configs; choose one of 'cql \(alpha=0.1\)'"):
        grade(tmp_path, baseline="cql")
    graded = grade(tmp_path, baseline="cql (alpha=1)", resamples=50)
    assert {one.second for one in graded.comparisons} == {"cql (alpha=1)"}


def test_the_bootstrap_is_reproducible_and_its_seed_recorded(two_methods):
    one, two = grade(two_methods, resamples=200), grade(two_methods, resamples=200)
    assert one == two
    other = grade(two_methods, seed=1, resamples=200)
    assert other.comparisons[0].improvement.estimate == one.comparisons[0].improvement.estimate
    assert other.result("bc", DATASET).iqm != one.result("bc", DATASET).iqm
    assert (other.seed, other.resamples) == (1, 200)
    assert "200 resamples, seed 1" in other.to_text()


def test_an_interval_does_not_depend_on_what_else_is_graded(two_methods):
    before = grade(two_methods, resamples=200)
    save_scores(two_methods, "awr", DATASET, [0.0, 100.0])
    after = grade(two_methods, resamples=200)
    assert after.result("bc", DATASET).iqm == before.result("bc", DATASET).iqm
    assert before.comparisons[0] in after.comparisons


def test_methods_are_resampled_independently(tmp_path):
    for name in ("a", "b"):
        save_scores(tmp_path, name, DATASET, [0.0, 100.0, 0.0, 100.0, 0.0, 100.0])
    difference = grade(tmp_path).comparisons[0].difference
    assert difference.estimate == 0.0
    assert difference.low < -30.0
    assert difference.high > 30.0


def test_configs_on_the_same_dataset_are_entries_labelled_by_what_differs(tmp_path):
    for alpha in (0.1, 1.0):
        for seed in range(2):
            config = {"alpha": alpha, "steps": 10, "seed": seed, "critic": {"width": 256}}
            save(tmp_path, make_run("cql", seed=seed, scores=[alpha], config=config))
    config = {"alpha": 1, "steps": 10, "seed": 9, "critic": {"width": 64}}
    save(tmp_path, make_run("cql", seed=9, config=config))
    graded = grade(tmp_path, resamples=50)
    assert [entry.label for entry in graded.entries] == [
        "cql (alpha=0.1, critic.width=256)",
        "cql (alpha=1, critic.width=256)",
        "cql (alpha=1, critic.width=64)",
    ]
    assert graded.result("cql (alpha=0.1, critic.width=256)", DATASET).seeds == (0, 1)
    assert {entry.method for entry in graded.entries} == {"cql"}


def test_a_field_that_some_configs_lack_is_named_unset(tmp_path):
    save(tmp_path, make_run("cql", seed=0, config={"alpha": None}), make_run("cql", config={}))
    labels = [entry.label for entry in grade(tmp_path, resamples=50).entries]
    assert labels == ["cql (alpha unset)", "cql (alpha=null)"]


def test_labels_stay_unique_when_a_method_is_named_like_a_sweep(tmp_path):
    save_scores(tmp_path, "cql", DATASET, [1.0, 2.0], config={"alpha": 1})
    save_scores(tmp_path, "cql", DATASET, [3.0, 4.0], config={"alpha": 2})
    save_scores(tmp_path, "cql (alpha=1)", DATASET, [5.0, 6.0])
    graded = grade(tmp_path, resamples=50)
    assert len({entry.label for entry in graded.entries}) == 3
    assert sorted(one.mean.estimate for one in graded.results) == pytest.approx([1.5, 3.5, 5.5])


def test_configs_that_differ_between_datasets_only_are_one_entry(tmp_path):
    save_scores(tmp_path, "cql", DATASET, BC, config={"alpha": 0.1})
    save_scores(tmp_path, "cql", OTHER, BC, config={"alpha": 1.0})
    graded = grade(tmp_path, resamples=50)
    assert [entry.label for entry in graded.entries] == ["cql"]
    assert graded.shared == (DATASET, OTHER)
    assert "cql has different configs on different datasets: alpha" in graded.warnings


def test_different_runs_of_the_same_seed_are_refused_naming_both_files(tmp_path):
    save(tmp_path, make_run(seed=3, scores=[1.0]), make_run(seed=3, scores=[2.0]))
    with pytest.raises(ValueError, match=r"(?s)000/run.json.*001/run.json.*same seed 3"):
        grade(tmp_path)


def test_copies_of_a_run_count_once(two_methods):
    shutil.copytree(two_methods / "000", two_methods / "copy")
    graded = grade(two_methods, resamples=50)
    assert graded.result("bc", DATASET).seeds == (0, 1, 2, 3, 4)
    assert any("hold the same run; it counts once" in warning for warning in graded.warnings)


def test_different_data_under_one_id_is_refused(tmp_path):
    save_scores(tmp_path, "bc", DATASET, BC)
    save_scores(tmp_path, "cql", DATASET, CQL, data="other")
    expected = f"{DATASET}: runs were trained on different data.*{digest('other')[:12]}"
    with pytest.raises(ValueError, match=expected):
        grade(tmp_path)


@pytest.mark.parametrize("nested", [False, True])
def test_rebuilds_of_one_recipe_are_pooled_with_a_warning(tmp_path, nested):
    def provenance(status):
        recipe = {"recipe_digest": digest("recipe")}
        return {"status": status} | ({"parent": recipe} if nested else recipe)

    save_scores(tmp_path, "bc", DATASET, BC, provenance=provenance("verified"))
    save_scores(tmp_path, "cql", DATASET, CQL, data="else", provenance=provenance("rebuilt"))
    graded = grade(tmp_path, resamples=50)
    assert "2 builds of the same recipe" in graded.warnings[0]
    (data,) = graded.datasets
    assert data.statuses == ("rebuilt", "verified")
    assert len(data.digests) == 2
    assert data.recipe_digest == digest("recipe")


@pytest.mark.parametrize(
    "other",
    [
        {"status": "rebuilt", "recipe_digest": "other"},
        {"status": "verified", "recipe_digest": "recipe"},
        {"status": "rebuilt"},
    ],
)
def test_other_recipes_and_second_verified_digests_are_refused(tmp_path, other):
    first = other | {"status": "verified"} if len(other) == 1 else RECIPE
    save_scores(tmp_path, "bc", DATASET, BC, provenance=first)
    save_scores(tmp_path, "cql", DATASET, CQL, data="else", provenance=other)
    with pytest.raises(ValueError, match="different data under the same id"):
        grade(tmp_path)


def test_data_that_is_not_verified_is_warned_of(tmp_path):
    save_scores(tmp_path, "bc", DATASET, BC)
    assert not any("not verified" in warning for warning in grade(tmp_path, resamples=50).warnings)
    save_scores(tmp_path, "cql", DATASET, CQL, provenance=RECIPE | {"status": "rebuilt"})
    (warning,) = (one for one in grade(tmp_path, resamples=50).warnings if "not verified" in one)
    total = len(BC) + len(CQL)
    assert warning.startswith(f"{DATASET}: {len(CQL)} of {total} runs used data")
    assert "(rebuilt)" in warning


def test_sizes_and_draws_are_datasets_of_their_own(tmp_path):
    save_scores(tmp_path, "bc", DATASET, BC)
    save_scores(tmp_path, "bc", DATASET, CQL, size=5000, draw=3)
    labels = [one.label for one in grade(tmp_path, resamples=50).datasets]
    assert labels == [DATASET, f"{DATASET} (5000 rows, draw 3)"]


def test_different_references_are_refused(tmp_path):
    save(tmp_path, make_run(seed=0), make_run(seed=1, expert=2.0))
    with pytest.raises(ValueError, match=r"different reference returns.*expert 2 in"):
        grade(tmp_path)


def test_references_out_of_order_are_refused_naming_the_file(tmp_path):
    save(tmp_path, make_run(random=1.0, expert=0.5))
    with pytest.raises(ValueError, match=r"000/run.json: reference expert \(0.5\) does not exceed"):
        grade(tmp_path)


def test_diverged_runs_are_counted_and_scored(tmp_path):
    save(tmp_path, make_run(seed=0, scores=[40.0]))
    save(tmp_path, make_run(seed=1, scores=[10.0], status="diverged"))
    graded = grade(tmp_path, resamples=50)
    result = graded.result("bc", DATASET)
    assert result.diverged == (1,)
    assert result.mean.estimate == pytest.approx(25.0)
    assert "1 of 2 runs diverged (seed 1)" in graded.warnings[0]
    assert "Diverged" in graded.to_text()


def test_unequal_budgets_and_episodes_are_warned_about(tmp_path):
    save(tmp_path, make_run(seed=0, scores=[1, 2]), make_run(seed=1, scores=[1], episodes=6))
    warnings = "\n".join(grade(tmp_path, resamples=50).warnings)
    assert "different numbers of steps, 1,000 to 2,000" in warnings
    assert "number of episodes, 4 to 6" in warnings


def test_precisions_are_told_and_unequal_ones_are_warned_about(tmp_path):
    budget = {"steps": 1000, "wall_seconds": 1.0, "device": "cpu", "precision": "bf16"}
    save(tmp_path, make_run("bc", budget=budget), make_run("iql"))
    graded = grade(tmp_path, resamples=50)
    assert graded.result("bc", DATASET).precisions == ("bf16",)
    assert graded.result("iql", DATASET).precisions == ()
    assert any("differ in precision: bf16, not stated" in each for each in graded.warnings)
    assert "bf16" in graded.to_text()


def test_a_collection_grades_like_its_runs(two_methods, tmp_path):
    runs = [make_run("bc", seed=seed, scores=[one]) for seed, one in enumerate(BC)]
    path = write_run(RunCollection(runs=runs), tmp_path / "collection" / "bc.json")
    collected = grade(path, resamples=100).result("bc", DATASET)
    assert collected.scores == grade(two_methods, resamples=100).result("bc", DATASET).scores


def test_json_is_strict_and_complete(tmp_path):
    save_scores(tmp_path, "bc", DATASET, BC)
    save_scores(tmp_path, "cql", DATASET, [50.0])
    graded = grade(tmp_path, resamples=50)
    path = graded.to_json(tmp_path / "out" / "grade.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    document = json.loads(path.read_text(), parse_constant=refuse)
    assert document == graded.to_dict()
    assert document["schema"] == "hetero_bench/grade/v1"
    lone = next(one for one in document["results"] if one["entry"] == "cql")
    assert lone["iqm"] == {"estimate": pytest.approx(50.0), "low": None, "high": None}
    assert lone["std"] is None
    assert document["seed"] == 0
    assert document["resamples"] == 50
    assert document["level"] == bootstrap.LEVEL
    assert document["datasets"][0]["digests"] == [digest(f"{DATASET} None None")]


def test_text_shows_the_tables(two_methods):
    text = grade(two_methods, resamples=100).to_text()
    assert "30.0 ± 15.8" in text
    assert "cql is better" in text
    assert "verified" in text
    assert text.index("cql") < text.index("bc")
    assert all(len(line) <= 70 for line in grade(two_methods, resamples=50).to_text(70).split("\n"))


def test_names_cannot_steer_the_terminal(tmp_path):
    save_scores(tmp_path, "\x1b[31mred[bold]\n", DATASET, BC, config={"a": "\x1b[0m"})
    text = grade(tmp_path, resamples=50).to_text()
    assert "\x1b" not in text
    assert "�[31mred[bold]�" in text


def test_an_unknown_result_is_a_clear_error(two_methods):
    with pytest.raises(KeyError, match=r"there are .*bc"):
        grade(two_methods, resamples=50).result("iql", DATASET)


def test_an_empty_folder_a_missing_path_and_damaged_files_are_clear_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        grade(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        grade(empty)
    save(tmp_path, make_run())
    broken = tmp_path / "zzz" / "run.json"
    broken.parent.mkdir()
    broken.write_text('{"schema": "hetero_bench/run/v1", "meth')
    with pytest.raises(ValueError, match=r"zzz/run\.json: not readable as JSON"):
        grade(tmp_path)
    broken.write_text('{"schema": "hetero_bench/run/v9"}')
    with pytest.raises(ValueError, match=r"zzz/run\.json: schema is 'hetero_bench/run/v9'"):
        grade(tmp_path)
