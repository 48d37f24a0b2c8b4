"""Claims that are decided by diagnostics and by fine-tuning: what their files are read as."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from baselines.reproduce.claims import findings
from baselines.reproduce.claims.page import other_row
from baselines.reproduce.claims.papers import PAPERS
from baselines.reproduce.fine_tuning.page import gains, write_page
from tests.synthetic_runs import make_run

ROOT = Path(__file__).resolve().parents[1]
OTHERS = [claim for paper in PAPERS for claim in paper.elsewhere]


def put(folder: Path, name: str, content: object) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("claim", OTHERS, ids=lambda claim: claim.text)
def test_what_was_not_measured_is_said(claim, tmp_path):
    assert other_row(claim, tmp_path)[2:] == ("–", "not measured yet", f"`{claim.command}`")


def car_run(seed, mix, behaviour=10.0, method="car", dataset="hopper-medium-hb-10k-v0"):
    return {
        "run": "run.json",
        "method": method,
        "dataset": dataset,
        "seed": seed,
        "scores": {"policy": 0.0, "behaviour": behaviour, "mix": mix},
        "energies": {"data, mix": [0.1, 0.2, 0.3]},
        "threshold": 0.1,
        "accepted": 0.5,
    }


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((5, 5.1, 5, 5.2, 5.1), "held"),
        ((-5, -5.1, -5, -5.2, -5.1), "not held"),
        ((5, -5, 1, -1, 0), "undecided"),
        ((5, 5.1, 5, 5.2), "undecided"),
    ],
)
def test_the_mixed_reference_is_compared_with_its_own_behaviour_model(tmp_path, gains, verdict):
    """Runs differ by far more than the two policies of one run do."""
    runs = [car_run(k, 15.0 * k + gain, 15.0 * k) for k, gain in enumerate(gains)]
    put(tmp_path, findings.CAR_POLICIES, runs)
    found = findings.mixed_reference(tmp_path)
    assert found.verdict == verdict
    assert found.measured.startswith("`hopper-medium-hb-10k-v0`: mixed reference ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "walker2d-medium-hb-10k-v0"}, "expected those of one dataset and method"),
        ({"method": "car_g"}, "expected those of one dataset and method"),
    ],
)
def test_runs_of_several_kinds_are_refused(tmp_path, changes, message):
    put(tmp_path, findings.CAR_POLICIES, [car_run(0, 1.0), car_run(1, 1.0) | changes])
    with pytest.raises(ValueError, match=message):
        findings.mixed_reference(tmp_path)


def test_runs_of_several_settings_are_refused(tmp_path):
    put(tmp_path, findings.CAR_POLICIES, [car_run(seed, 1.0) for seed in (0, 1, 0)])
    with pytest.raises(ValueError, match=r"car-policies\.json has several runs of one seed"):
        findings.mixed_reference(tmp_path)


def test_what_a_file_lacks_is_named(tmp_path):
    run = car_run(0, 1.0)
    del run["scores"]["mix"]
    put(tmp_path, findings.CAR_POLICIES, [run])
    with pytest.raises(ValueError, match=r"car-policies\.json lacks mix; it has policy, behaviour"):
        findings.mixed_reference(tmp_path)
    put_conflict(tmp_path, mlp=LARGE, plas=LARGE)
    with pytest.raises(ValueError, match=r"gradient-conflict\.json lacks proj-literal"):
        findings.conflict("dd", 1.0)(tmp_path)


@pytest.mark.parametrize("content", [[{"seed": 1}], {"runs": []}, 3])
def test_a_damaged_file_is_named(tmp_path, content):
    put(tmp_path, findings.CAR_POLICIES, content)
    with pytest.raises(ValueError, match=r"car-policies\.json is damaged, .*; make it again"):
        findings.mixed_reference(tmp_path)
    (tmp_path / findings.CAR_POLICIES).write_text("[{")
    with pytest.raises(ValueError, match=r"car-policies\.json is damaged"):
        findings.mixed_reference(tmp_path)


def put_conflict(folder, **values):
    shared = {"run": "run.json", "method": "spar", "dataset": "d-v0", "setting": "", "steps": 1009}
    measurements = [
        {"kind": kind.replace("_", "-"), "moments": moments, "seed": seed, "dd": one, "vsd": one}
        for kind, each in values.items()
        for seed, one in enumerate(each)
        for moments in ("second", "none")
    ]
    put(folder, findings.GRADIENT_CONFLICT, [shared | each for each in measurements])


LARGE = (1e-3, 2e-3, 1e-3, 2e-3, 1e-3)


@pytest.mark.parametrize(
    ("plas", "proj", "factor", "verdict"),
    [
        (LARGE, (1e-5, -2e-5, 0.0, 0.0, 1e-6), 10.0, "held"),
        (LARGE, (0.0,) * 5, 10.0, "held"),
        (LARGE, LARGE, 10.0, "not held"),
        (LARGE, (2e-4, 4e-4, 2e-4, 4e-4, 2e-4), 10.0, "not held"),
        (LARGE, (2e-4, 4e-4, 2e-4, 4e-4, 2e-4), 1.0, "held"),
        ([-each for each in LARGE], (1e-6,) * 5, 10.0, "not held"),  # guidance helps PLAS's fit
        ((1e-2, -1e-2, 1e-3, -1e-3, 1e-5), (1e-6,) * 5, 1.0, "undecided"),
    ],
)
def test_the_damage_to_mlp_and_plas_against_projs(tmp_path, plas, proj, factor, verdict):
    put_conflict(tmp_path, mlp=LARGE, plas=plas, proj_literal=proj)
    found = findings.conflict("dd", factor)(tmp_path)
    assert found.verdict == verdict
    assert re.match(r"`d-v0`: DD mlp 1\.4e-03 \(\w.*\), plas .* \(\w.*\), proj ", found.measured)
    assert found.measured.endswith("; 1,009 steps, 5 seeds")
    assert findings.conflict("vsd", factor)(tmp_path).verdict == verdict


def put_residuals(folder, quality, seed, clusters, steps=9, task="hopper"):
    dataset = f"{task}-{quality}-hb-10k-v0"
    geometry = {
        "radius": 1.0,
        "diameter": 2.0,
        "top_share": 0.4,
        "tail": 2.0,
        "normal_tail": 1.9,
        "noise": 0.1 if clusters > 1 else 0.0,
    }
    facts = {"dataset": dataset, "steps": steps, "seed": seed, "recommendation": "mlp"}
    path = f"{findings.RESIDUALS}/{dataset}-seed-{seed}.json"
    put(folder, path, facts | {"geometry": geometry | {"clusters": clusters}})


def test_clusters_of_residuals_decide_with_enough_seeds_of_both_kinds(tmp_path):
    for seed in range(5):
        put_residuals(tmp_path, "medium-replay", seed, 1)
    assert findings.residual_modes(tmp_path).verdict == "undecided", "nothing of medium-expert"
    for seed in range(5):
        put_residuals(tmp_path, "medium-expert", seed, 3)
    found = findings.residual_modes(tmp_path)
    assert found.verdict == "held"
    expected = (
        "`hopper-medium-expert-hb-10k-v0`, 5 seeds: 3 cluster(s), 10% of residuals between them, "
    )
    assert expected in found.measured
    put_residuals(tmp_path, "medium-expert", 4, 1)
    found = findings.residual_modes(tmp_path)
    assert found.verdict == "undecided"
    assert "1 or 3 cluster(s), 10% of residuals between them" in found.measured
    for seed in range(5):
        put_residuals(tmp_path, "medium-expert", seed, 1)
    assert findings.residual_modes(tmp_path).verdict == "not held"
    again = next((tmp_path / findings.RESIDUALS).glob("*expert*seed-4.json"))
    twice = again.with_name("again.json")
    twice.write_bytes(again.read_bytes())
    with pytest.raises(ValueError, match=r"seed 4 of hopper-medium-expert.* twice"):
        findings.residual_modes(tmp_path)
    twice.unlink()
    put_residuals(tmp_path, "medium-replay", 5, 1, steps=10)
    with pytest.raises(ValueError, match=r"files of \[9, 10\] steps"):
        findings.residual_modes(tmp_path)
    put_residuals(tmp_path, "medium", 0, 1)
    with pytest.raises(ValueError, match=r"hopper-medium-hb.*expected one of medium-replay"):
        findings.residual_modes(tmp_path)


def test_every_dataset_has_to_agree_on_its_clusters(tmp_path):
    for seed in range(5):
        put_residuals(tmp_path, "medium-replay", seed, 1)
        put_residuals(tmp_path, "medium-expert", seed, 2)
        put_residuals(tmp_path, "medium-expert", seed, 1, task="walker2d")
    assert findings.residual_modes(tmp_path).verdict == "not held"


def tuned_runs(method, tuned, **fields):
    return [
        make_run(method, "hopper-medium-hb-10k-v0", seed, [10.0 * seed, score], **fields)
        for seed, score in enumerate(tuned)
    ]


def test_gains_of_fine_tuning_by_hand(tmp_path):
    spot = tuned_runs("spot_online", (20, 31, 40, 51, 60))
    iql = tuned_runs("iql_online", (1, 9, 21, 29, 40), status="diverged")
    (first, second) = gains(spot + iql)
    assert (first.title, first.verdict, first.gain.estimate) == (
        "SPOT",
        "held",
        pytest.approx(20.4),
    )
    # Differences 20, 21, 20, 21, 20: a standard deviation of 0.548, and 2.776 of its fifth's root.
    assert first.gain.high - first.gain.estimate == pytest.approx(2.776 * 0.5477 / 5**0.5, rel=1e-3)
    assert (second.verdict, second.diverged, first.diverged) == ("undecided", 5, 0)
    values, page = write_page(spot + iql, tmp_path / "fine-tuning.md")
    assert "| SPOT | 5 | 20.0 ± 15.8 | 40.4 ± 15.8 | 20.4 [19.7, 21.1] | 0 | held |" in (
        page.read_text()
    )
    assert f"]({page.stem}/{values.name})" in page.read_text()
    assert "4 episodes each" in page.read_text()
    found = findings.fine_tuned("SPOT")(tmp_path)
    text = "offline 20.0, after 1,000 steps 40.4: 20.4 [19.7, 21.1]; 5 runs"
    assert (found.verdict, found.measured) == ("held", f"`hopper-medium-hb-10k-v0`: {text}")
    assert findings.fine_tuned("IQL")(tmp_path).measured.endswith("; 5 runs; 5 diverged")
    assert findings.fine_tuned("CAR")(tmp_path) is None
    assert findings.better_fine_tuned("CAR", "SPOT")(tmp_path) is None


@pytest.mark.parametrize(("shift", "verdict"), [(50, "held"), (-50, "not held"), (0, "undecided")])
def test_one_method_against_another_after_fine_tuning(tmp_path, shift, verdict):
    spot, car = (60, 61, 62, 63, 64), [each + shift for each in (60, 61, 62, 63, 64)]
    runs = tuned_runs("spot_online", spot) + tuned_runs("car_online", car)
    write_page(runs, tmp_path / "fine-tuning.md")
    found = findings.better_fine_tuned("CAR", "SPOT")(tmp_path)
    assert found.verdict == verdict
    assert found.measured.startswith(f"`hopper-medium-hb-10k-v0`: CAR {62 + shift}.0, SPOT 62.0: ")
    runs = tuned_runs("spot_online", spot[:4]) + tuned_runs("car_online", car[:4])
    write_page(runs, tmp_path / "fine-tuning.md")
    assert findings.better_fine_tuned("CAR", "SPOT")(tmp_path).verdict == "undecided"


def test_runs_are_paired_by_seed_in_whatever_order_they_come(tmp_path):
    first = tuned_runs("spot_online", (1, 2, 3, 4, 5))
    second = tuned_runs("car_online", (11, 13, 13, 13, 15))
    mixed = [run for pair in zip(reversed(second), first, strict=True) for run in pair]
    write_page(mixed, tmp_path / "fine-tuning.md")
    found = findings.better_fine_tuned("CAR", "SPOT")(tmp_path)
    # 10, 11, 10, 9, 10: a standard deviation of 0.707
    assert f"10.0 [{10 - 2.776 * 0.5**0.5 / 5**0.5:.1f}, " in found.measured


@pytest.mark.parametrize(
    ("change", "what"), [({"data": "other"}, "data"), ({"expert": 2.0}, "reference returns")]
)
def test_methods_that_differ_in_more_are_not_compared(tmp_path, change, what):
    runs = tuned_runs("spot_online", (1, 2)) + tuned_runs("car_online", (1, 2), **change)
    with pytest.raises(ValueError, match=f"spot_online and car_online differ in {what}:"):
        write_page(runs, tmp_path / "fine-tuning.md")


def test_runs_of_unequal_length_are_no_study(tmp_path):
    longer = [make_run("car_online", "hopper-medium-hb-10k-v0", 0, [1.0, 2.0, 3.0])]
    with pytest.raises(ValueError, match="expected runs of one kind"):
        write_page([*tuned_runs("spot_online", (1, 2)), *longer], tmp_path / "fine-tuning.md")
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_the_trace_under_c4_is_decided_by_seeds(tmp_path):
    values = ROOT / "docs" / "results" / "c4-covariance" / "values.json"
    found = findings.covariance_trace(ROOT / "docs" / "results")
    assert found.verdict == "undecided", "two seeds are too few"
    assert "on TD3+BC, `hopper-medium-replay-hb-10k-v0`, 2 seeds" in found.measured
    study = json.loads(values.read_text())[0]

    def with_traces(c4, other, seeds=5):
        for arm, measures in study["arms"].items():
            for name in [name for name in measures if name.startswith("trace_")]:
                level = c4 if arm == "C4" else other
                measures[name] = [[level + 0.01 * k for k in range(seeds)]] * len(study["steps"])
        study["seeds"] = list(range(seeds))
        put(tmp_path, "c4-covariance/values.json", [study])
        return findings.covariance_trace(tmp_path).verdict

    assert with_traces(1.0, 2.0) == "held"
    assert with_traces(2.0, 1.0) == "not held"
    assert with_traces(1.0, 2.0, seeds=4) == "undecided"
