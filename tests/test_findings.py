"""Claims that are decided by diagnostics and by fine-tuning: what their files are read as."""

from __future__ import annotations

import json
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


def test_a_joint_claim_is_as_strong_as_its_weakest_part():
    assert findings.joint(["held", "held"]) == "held"
    assert findings.joint(["held", "undecided"]) == "undecided"
    assert findings.joint(["not held", "undecided", "held"]) == "not held"


@pytest.mark.parametrize(
    ("mix", "verdict"),
    [((20, 21, 22, 23), "held"), ((0, 1, 2, 3), "not held"), ((9, 10, 12, 13), "undecided")],
)
def test_the_mixed_reference_against_the_behaviour_model(tmp_path, mix, verdict):
    runs = [
        {"scores": {"policy": 0.0, "behaviour": 10.0 + seed % 2, "mix": float(score)}}
        for seed, score in enumerate(mix)
    ]
    put(tmp_path, findings.CAR_POLICIES, runs)
    found = findings.mixed_reference(tmp_path)
    assert found.verdict == verdict
    assert found.measured.startswith(f"mixed reference {sum(mix) / 4:.1f}, behaviour model 10.5: ")
    put(tmp_path, findings.CAR_POLICIES, runs[:3])
    assert findings.mixed_reference(tmp_path).verdict == "undecided"


def conflicts(**sizes):
    return [
        {"variant": kind.replace("_", "-"), "moments": moments, "dd": dd, "vsd": vsd}
        for kind, (dd, vsd) in sizes.items()
        for moments in ("second", "none")
    ]


def test_an_order_of_magnitude_is_asked_of_every_seed_and_of_both_measures(tmp_path):
    large, small = (1e-3, 2e-3, 1e-3, 2e-3), (-1e-5, 2e-5, 1e-5, 0.0)
    put(
        tmp_path,
        findings.GRADIENT_CONFLICT,
        conflicts(mlp=(large, large), plas=(large, large), proj_literal=(small[:3] * 2, small * 2)),
    )
    text = findings.gradient_conflict(tmp_path).measured
    assert text.startswith("|DD| mlp 1.4e-03, plas 1.4e-03, proj-literal 1.3e-05; |VSD| ")
    cases = {
        "held": ((1e-5, 2e-5, 1e-5, 2e-5), large),
        "not held": (large, large),  # as large as the others
    }
    for verdict, (proj, plas) in cases.items():
        both = conflicts(mlp=(large, large), plas=(plas, plas), proj_literal=(proj, proj))
        put(tmp_path, findings.GRADIENT_CONFLICT, both)
        assert findings.gradient_conflict(tmp_path).verdict == verdict
    one = conflicts(
        mlp=(large, large), plas=(large, large), proj_literal=((1e-6,) * 3 + (2e-6,), large)
    )
    put(tmp_path, findings.GRADIENT_CONFLICT, one)
    assert findings.gradient_conflict(tmp_path).verdict == "not held", "VSD is not below"


def test_residuals_of_every_dataset_have_to_be_as_claimed(tmp_path):
    facts = {"clusters": 1, "top_share": 0.4, "tail": 2.0, "recommendation": "mlp"}
    folder = f"{findings.RESIDUALS}/"
    put(tmp_path, f"{folder}a.json", facts | {"dataset": "hopper-medium-replay-hb-10k-v0"})
    assert findings.residual_modes(tmp_path).verdict == "held"
    put(tmp_path, f"{folder}b.json", facts | {"dataset": "hopper-medium-expert-hb-10k-v0"})
    found = findings.residual_modes(tmp_path)
    assert found.verdict == "not held"
    assert found.measured.startswith("`hopper-medium-replay-hb-10k-v0`: 1 cluster(s), ")


def test_gains_of_fine_tuning_by_hand(tmp_path):
    def runs(method, tuned):
        return [
            make_run(method, "hopper-medium-hb-10k-v0", seed, [10.0 + seed, score])
            for seed, score in enumerate(tuned)
        ]

    several = runs("spot_online", (30, 31, 32, 33)) + runs("iql_online", (10, 11, 12, 13))
    spot, iql = gains(several)
    assert (spot.title, spot.verdict, spot.gain.estimate) == ("SPOT", "held", pytest.approx(20.0))
    assert spot.offline.tolist() == pytest.approx([10, 11, 12, 13])
    assert (iql.title, iql.verdict, iql.gain.estimate) == ("IQL", "undecided", pytest.approx(0.0))
    values, page = write_page(several, tmp_path / "fine-tuning.md")
    assert "| SPOT | 11.5 ± 1.3 | 31.5 ± 1.3 | 20.0 [17.8, 22.2] | held |" in page.read_text()
    assert f"]({page.stem}/{values.name})" in page.read_text()
    found = findings.fine_tuned("SPOT")(tmp_path)
    assert (found.verdict, found.measured) == (
        "held",
        "offline 11.5, after 1,000 steps 31.5: 20.0 [17.8, 22.2]; 4 runs",
    )
    assert findings.fine_tuned("CAR")(tmp_path) is None


def test_the_trace_is_read_from_its_page():
    found = findings.covariance_trace(ROOT / "docs" / "results")
    page = (ROOT / "docs" / "results" / "c4-covariance.md").read_text(encoding="utf-8")
    held = sum("(Figure 11)" in line and "| held |" in line for line in page.splitlines())
    assert f"{held} held" in found.measured
