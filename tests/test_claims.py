"""The papers' claims: the rule of verdicts at its edges, what is missing, and the page."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from baselines.cli import main
from baselines.engine import get_method
from baselines.engine.plan import config_values
from baselines.reproduce.claims.claims import Arm, Claim, expand
from baselines.reproduce.claims.evaluation import (
    Evidence,
    Missing,
    evaluate,
    fewest_runs,
    missing_runs,
)
from baselines.reproduce.claims.page import render, row
from baselines.reproduce.claims.papers import PAPERS
from baselines.reproduce.verdicts import decide
from baselines.table import cells_of
from baselines.tiers import TIERS
from hetero_bench.bootstrap import Interval
from hetero_bench.registry import registry_folder
from hetero_bench.runs import RunCollection, write_run
from tests.synthetic_runs import make_run

ROOT = Path(__file__).resolve().parents[1]
NAN = float("nan")
HETERO, UNIFORM = "gridworld-hetero", "gridworld-uniform"
CLAIM = Claim(
    "ReDS improves CQL",
    "Table 2",
    "small",
    Arm("ReDS", "reds"),
    Arm("CQL", "cql"),
    (HETERO,),
)
ALL = [claim for paper in PAPERS for claim in paper.claims]


def put(root, method, scores, dataset=HETERO, configs=({},)):
    """Writes an arm's results: one run per config and score."""
    runs = [
        make_run(method, f"{dataset}-v0", seed, [score], config=config)
        for config in configs
        for seed, score in enumerate(scores)
    ]
    write_run(RunCollection(runs=runs), root / "small" / method / f"{dataset}-v0.json")


def measured(claim, root):
    found = evaluate(claim, root)
    assert isinstance(found, Evidence)
    return found


# The rule


@pytest.mark.parametrize(
    ("low", "high", "more", "equal"),
    [
        (0.1, 2.0, "held", "held"),
        (0.0, 2.0, "undecided", "held"),
        (-2.0, -0.1, "not held", "held"),
        (-2.0, 0.0, "undecided", "held"),
        (0.0, 0.0, "undecided", "undecided"),
        (-4.9, 4.9, "undecided", "held"),
        (-4.9, 5.0, "undecided", "undecided"),
        (-5.0, 4.9, "undecided", "undecided"),
        (5.0, 9.0, "held", "undecided"),
        (5.1, 9.0, "held", "not held"),
        (-9.0, -5.1, "not held", "not held"),
        (-9.0, 9.0, "undecided", "undecided"),
        (NAN, NAN, "undecided", "undecided"),
    ],
)
def test_verdicts_at_their_edges(low, high, more, equal):
    interval = Interval((low + high) / 2, low, high)
    assert decide("more", interval, enough=True) == more
    assert decide("equal", interval, enough=True) == equal
    assert decide("more", interval, enough=False) == "undecided"
    assert decide("equal", interval, enough=False) == "undecided"


def test_runs_that_would_decide_by_hand():
    # Half as wide with four times as many runs; the boundary is 0 for more, ±5 for equal.
    interval = Interval(2.0, -2.0, 6.0)
    more, equal = ("more", interval), ("equal", Interval(3.0, -1.0, 7.0))
    farther = ("equal", Interval(-9.0, -13.0, -4.0))
    assert missing_runs([more], 5, 1, enough=True).startswith("about 20 seeds")
    assert missing_runs([equal], 5, 1, enough=True).startswith("about 20 seeds")
    # (5/4)² x 8 is 12.5
    assert missing_runs([farther], 8, 1, enough=True).startswith("about 13 seeds")
    assert missing_runs([farther, more], 8, 1, enough=True).startswith("about 32 seeds")
    for tiny in (Interval(0.1, -3.0, 3.0), Interval(0.0, -3.0, 3.0)):
        assert missing_runs([("more", tiny)], 5, 1, enough=True) == "more than 1,000 seeds per arm"
    alike = ("more", Interval(0.0, 0.0, 0.0))
    assert "score alike" in missing_runs([more, alike], 5, 1, enough=True)
    assert missing_runs([more], 3, 1, enough=False).startswith("at least 4 seeds")


def test_three_seeds_can_tell_on_two_datasets_but_not_on_one():
    # 2 / C(6, 3) is 0.1; 2 / C(8, 4) is 0.029; 2 / C(6, 3)² is 0.005; 2 / C(4, 2)³ is 0.009.
    assert [fewest_runs(datasets) for datasets in (1, 2, 3)] == [4, 3, 2]


# Evaluation


def test_what_is_missing_is_said_with_the_command_for_it(tmp_path):
    command = "python -m baselines table --tier small --methods reds cql --datasets " + HETERO
    assert evaluate(CLAIM, tmp_path) == Missing(command)
    put(tmp_path, "reds", (50, 60))
    assert evaluate(CLAIM, tmp_path) == Missing(command)
    assert row(CLAIM, tmp_path)[3:] == ("–", "not measured yet", f"`{command}`")
    put(tmp_path, "cql", (50, 60))
    assert measured(CLAIM, tmp_path).verdict == "undecided"
    other = dataclasses.replace(CLAIM, against=(UNIFORM,))
    assert evaluate(other, tmp_path) == Missing(f"{command} {UNIFORM}")


def test_a_difference_by_hand(tmp_path):
    put(tmp_path, "reds", (60, 62, 64, 66))
    put(tmp_path, "cql", (50, 52, 54, 56))
    found = measured(CLAIM, tmp_path)
    np.testing.assert_allclose(found.means, [(63.0, 53.0)])
    assert found.quantity.estimate == pytest.approx(10.0)
    # Variances 20/3 / 4 twice, six degrees of freedom: 2.447 x 1.826.
    assert (found.quantity.low, found.quantity.high) == pytest.approx((5.532, 14.468), abs=1e-3)
    assert found.differences == (found.quantity,)
    assert (found.improvement.estimate, found.runs) == (1.0, 4)
    assert (found.verdict, found.to_decide) == ("held", "")
    opposite = dataclasses.replace(CLAIM, first=CLAIM.second, second=CLAIM.first)
    assert measured(opposite, tmp_path).verdict == "not held"
    equal = dataclasses.replace(CLAIM, direction="equal")
    assert measured(equal, tmp_path).verdict == "not held"
    put(tmp_path, "reds", (60, 62, 64))
    put(tmp_path, "cql", (50, 52, 54))
    few = measured(CLAIM, tmp_path)
    assert few.quantity.low > 0.0
    assert few.verdict == "undecided"
    assert few.to_decide.startswith("at least 4 seeds")
    put(tmp_path, "reds", (60,))
    put(tmp_path, "cql", (50,))
    assert measured(CLAIM, tmp_path).to_decide.startswith("at least 4 seeds")


def test_one_run_on_many_datasets_gives_no_interval_and_no_verdict(tmp_path):
    names = [f"gridworld-{kind}" for kind in ("hetero", "uniform", "mixed", "skewed")]
    several = dataclasses.replace(CLAIM, datasets=(*names, *(f"{name}-10k" for name in names[:2])))
    for dataset in several.datasets:
        put(tmp_path, "reds", (60,), dataset)
        put(tmp_path, "cql", (50,), dataset)
    found = measured(several, tmp_path)
    assert found.verdict == "undecided"
    assert found.to_decide.startswith("at least 2 seeds")


@pytest.mark.parametrize("score", [0, 100])
@pytest.mark.parametrize("direction", ["more", "equal"])
def test_arms_that_all_fail_or_all_succeed_show_nothing(tmp_path, score, direction):
    put(tmp_path, "reds", [score] * 10)
    put(tmp_path, "cql", [score] * 10)
    found = measured(dataclasses.replace(CLAIM, direction=direction), tmp_path)
    assert found.verdict == "undecided"
    failed = (score, direction) == (0, "equal")
    assert ("more steps" in found.to_decide, "score alike" in found.to_decide) == (failed, True)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(5.2, 6.1, "held"), (5.2, 4.9, "undecided"), (1.0, 5.2, "undecided"), (-20, -20, "undecided")],
)
def test_a_policy_that_has_learned_nothing_is_no_evidence_of_equality(
    tmp_path, first, second, verdict
):
    put(tmp_path, "reds", [first - 0.1, first + 0.1] * 2)
    put(tmp_path, "cql", [second - 0.1, second + 0.1] * 2)
    found = measured(dataclasses.replace(CLAIM, direction="equal"), tmp_path)
    assert found.verdict == verdict
    assert found.to_decide.startswith("more steps") == (verdict == "undecided")
    assert "seeds" not in found.to_decide


def test_success_on_one_dataset_does_not_hide_failure_on_another(tmp_path):
    datasets = ("gridworld-hetero", "gridworld-uniform")
    for method in ("reds", "cql"):
        for dataset, scores in zip(datasets, ([90, 91] * 3, [1, 2] * 3), strict=True):
            put(tmp_path, method, scores, dataset)
    found = measured(dataclasses.replace(CLAIM, direction="equal", datasets=datasets), tmp_path)
    assert (found.verdict, found.means[0]) == ("undecided", (46.0, 46.0))


def test_what_is_lacking_is_said_in_full(tmp_path):
    put(tmp_path, "reds", [1.0, 12.0] * 2)
    put(tmp_path, "cql", [1.0, 2.0] * 2)
    found = measured(dataclasses.replace(CLAIM, direction="equal"), tmp_path)
    assert found.verdict == "undecided"
    assert "more steps" in found.to_decide
    assert "seeds per arm" in found.to_decide


def test_policies_that_are_worse_than_random_may_still_be_unequal(tmp_path):
    put(tmp_path, "reds", [-20.1, -19.9] * 2)
    put(tmp_path, "cql", [1.0, 1.2] * 2)
    assert measured(dataclasses.replace(CLAIM, direction="equal"), tmp_path).verdict == "not held"


BUDGET = {"steps": 1000, "wall_seconds": 1.0, "device": "cpu", "precision": "fp32"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"expert": 2.0}, "reference returns"),
        ({"data": "other"}, "data"),
        ({"budget": BUDGET | {"steps": 7}}, "steps"),
        ({"budget": BUDGET | {"precision": "bf16"}}, "precision"),
        ({"episodes": 6}, "final episodes"),
        ({"draw": 1}, "draws and seeds"),
    ],
)
def test_arms_that_differ_in_more_than_the_arm_are_refused(tmp_path, change, what):
    def put_reds(**change):
        runs = [
            make_run("reds", f"{HETERO}-v0", seed, [60.0 + seed], config={}, **change)
            for seed in range(4)
        ]
        write_run(RunCollection(runs=runs), tmp_path / "small" / "reds" / f"{HETERO}-v0.json")

    runs = [
        make_run("cql", f"{HETERO}-v0", seed, [50.0 + seed], config={}, data="data", budget=BUDGET)
        for seed in range(4)
    ]
    write_run(RunCollection(runs=runs), tmp_path / "small" / "cql" / f"{HETERO}-v0.json")
    put_reds(data="data", budget=BUDGET)
    assert measured(CLAIM, tmp_path).verdict == "held"
    put_reds(data="data", budget=BUDGET | {"precision": None})
    assert measured(CLAIM, tmp_path).verdict == "held"
    put_reds(**{"data": "data", "budget": BUDGET} | change)
    with pytest.raises(ValueError, match=f"ReDS and CQL on gridworld-hetero .* differ in {what}:"):
        evaluate(CLAIM, tmp_path)


def test_diverged_runs_are_counted(tmp_path):
    put(tmp_path, "cql", (50, 52))
    runs = [
        make_run("reds", f"{HETERO}-v0", seed, [60.0], config={}, status=status)
        for seed, status in enumerate(("finished", "diverged"))
    ]
    write_run(RunCollection(runs=runs), tmp_path / "small" / "reds" / f"{HETERO}-v0.json")
    assert measured(CLAIM, tmp_path).diverged == 1
    assert row(CLAIM, tmp_path)[3].endswith("; 2 runs each; 1 diverged")


def test_more_on_some_data_than_on_other_data(tmp_path):
    claim = dataclasses.replace(CLAIM, against=(UNIFORM,))
    for dataset, reds in ((HETERO, 80), (UNIFORM, 60)):
        put(tmp_path, "cql", (50, 51, 49, 50), dataset)
        put(tmp_path, "reds", (reds, reds + 1, reds - 1, reds), dataset)
    found = measured(claim, tmp_path)
    np.testing.assert_allclose(found.means, [(80.0, 50.0), (60.0, 50.0)])
    assert found.quantity.estimate == pytest.approx(20.0)
    assert found.verdict == "held"
    turned = dataclasses.replace(claim, datasets=(UNIFORM,), against=(HETERO,))
    assert measured(turned, tmp_path).verdict == "not held"
    assert re.match(
        r"ReDS 80\.0, CQL 50\.0 \(30\.0 \[.*\]\) against "
        r"ReDS 60\.0, CQL 50\.0 \(10\.0 \[.*\]\): 20\.0 \[",
        row(claim, tmp_path)[3],
    )


def test_doing_worse_elsewhere_is_no_gain(tmp_path):
    claim = dataclasses.replace(CLAIM, against=(UNIFORM,))
    for dataset, reds, cql in ((HETERO, 50, 50), (UNIFORM, 50, 80)):
        for method, score in (("reds", reds), ("cql", cql)):
            put(tmp_path, method, (score, score + 1, score - 1, score), dataset)
    found = measured(claim, tmp_path)
    assert found.quantity.low > 0.0
    assert found.verdict == "undecided"
    put(tmp_path, "reds", (40, 41, 39, 40))
    worse = measured(claim, tmp_path)  # -10 on the one and -30 on the other
    assert worse.quantity.low > 0.0
    assert (worse.verdict, worse.to_decide) == ("not held", "")
    put(tmp_path, "reds", (0, 160, 10, 30), UNIFORM)
    unclear = measured(claim, tmp_path)  # a loss on the one, no telling on the other
    assert unclear.quantity.low < 0.0 < unclear.quantity.high
    assert unclear.verdict == "not held"


def test_where_all_fail_no_number_of_seeds_shows_a_larger_gain(tmp_path):
    claim = dataclasses.replace(CLAIM, against=(UNIFORM,))
    for method in ("reds", "cql"):
        put(tmp_path, method, (0, 0, 0, 0))
    put(tmp_path, "reds", (50, 70, 60, 50), UNIFORM)
    put(tmp_path, "cql", (60, 80, 70, 60), UNIFORM)
    found = measured(claim, tmp_path)
    assert (found.verdict, "score alike" in found.to_decide) == ("undecided", True)


def test_fields_that_differ_beside_the_claims_are_named(tmp_path):
    rates = {"critic_rate": 1e-3, "tau": 1.0, "steps": 3}
    put(tmp_path, "reds", (60, 62, 64, 66), configs=(rates,))
    put(tmp_path, "cql", (50, 52, 54, 56), configs=(rates | {"critic_rate": 3e-4, "alpha": 1.0},))
    assert measured(CLAIM, tmp_path).unequal == {"critic_rate": (1e-3, 3e-4)}
    assert row(CLAIM, tmp_path)[3].endswith("; with unequal `critic_rate` 0.001, 0.0003")
    put(tmp_path, "cql", (50, 52, 54, 56), configs=(rates | {"tau": 2.0},))
    stated = dataclasses.replace(CLAIM, second=Arm("CQL", "cql", {"tau": 2.0}))
    assert measured(stated, tmp_path).unequal == {}


def test_a_file_of_other_or_of_repeated_runs_is_refused(tmp_path):
    put(tmp_path, "cql", (50, 52, 54, 56))
    path = tmp_path / "small" / "reds" / f"{HETERO}-v0.json"
    repeated = [make_run("reds", f"{HETERO}-v0", 0, [60.0], config={}) for _ in range(4)]
    write_run(RunCollection(runs=repeated), path)
    with pytest.raises(ValueError, match="several runs of one draw and seed"):
        evaluate(CLAIM, tmp_path)
    write_run(RunCollection(runs=[make_run("bc", f"{HETERO}-v0", 0, [60.0])]), path)
    with pytest.raises(ValueError, match=r"runs of \[\('bc', .*expected reds on gridworld"):
        evaluate(CLAIM, tmp_path)


def test_an_arm_is_one_setting_of_a_sweep(tmp_path):
    configs = ({"tau": 0.1, "alpha": 1.0}, {"tau": 1.0, "alpha": 1.0})
    put(tmp_path, "reds", (50, 60, 70, 80), configs=configs)
    put(tmp_path, "cql", (0, 1, 2, 3))
    with pytest.raises(ValueError, match=r"gridworld-hetero-v0\.json has several configs"):
        evaluate(CLAIM, tmp_path)
    chosen = dataclasses.replace(CLAIM, first=Arm("τ = 1", "reds", {"tau": 1.0}))
    assert measured(chosen, tmp_path).runs == 4
    absent = dataclasses.replace(CLAIM, first=Arm("τ = 3", "reds", {"tau": 3.0}))
    assert isinstance(evaluate(absent, tmp_path), Missing)


# The claims


def test_braces_are_expanded_as_in_a_shell():
    assert expand(["a-{b,c}-{d,e}", "f"]) == ("a-b-d", "a-b-e", "a-c-d", "a-c-e", "f")


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: f"{claim.tier}: {claim.text}")
def test_the_tier_of_a_claim_measures_each_arm_once(claim):
    """What the claim's command trains is what the claim asks for."""
    names = expand((*claim.datasets, *claim.against))
    methods = (claim.first.method, claim.second.method)
    cells = list(cells_of(TIERS[claim.tier], methods, names))
    assert len(expand(claim.datasets)) == len(expand(claim.against)) or not claim.against
    for arm in (claim.first, claim.second):
        for name in names:
            (cell,) = [
                each for each in cells if (each.method.name, each.spec.name) == (arm.method, name)
            ]
            configs = [config_values(config) for config in cell.configs]
            chosen = [each for each in configs if arm.setting.items() <= each.items()]
            assert len(chosen) == 1, (arm, name)


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: f"{claim.tier}: {claim.text}")
def test_the_tier_of_a_claim_has_enough_runs_to_decide_it(claim):
    for names in filter(None, (expand(claim.datasets), expand(claim.against))):
        for cell in cells_of(TIERS[claim.tier], (claim.first.method, claim.second.method), names):
            assert len(cell.seeds) * len(cell.draws) >= fewest_runs(len(names))


def test_arms_and_claims_are_told_apart():
    assert len(set(map(repr, ALL))) == len(ALL)
    for claim in ALL:
        assert claim.first.title != claim.second.title
        for arm in (claim.first, claim.second):
            assert (
                arm.setting.keys() <= get_method(arm.method, _kind(claim)).config().__dict__.keys()
            )


def _kind(claim):
    return "discrete" if claim.tier == "gridworld" else "continuous"


# The page


def test_the_command_writes_the_page(tmp_path, capsys):
    page = tmp_path / "out" / "claims.md"
    assert main(["reproduce", "claims", "--results", str(tmp_path), "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text == render(tmp_path, page.parent)
    claims = len(ALL) + sum(len(paper.elsewhere) for paper in PAPERS)
    assert f"{claims} not measured yet." in text
    assert text.count("| not measured yet |") == claims
    for line in text.splitlines():
        assert not re.match(r"\|", line) or line.endswith("|")
        assert line.count("|") in (0, 6, 7)
    assert str(page) in capsys.readouterr().out


def test_the_committed_page_says_what_the_results_say():
    page = ROOT / "docs" / "results" / "claims.md"
    assert page.read_text(encoding="utf-8") == render(registry_folder() / "results", page.parent)
