from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.engine import get_method
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.cross_covariance import gradients, successive_inputs, traces
from baselines.parts.input_gradients import values_and_gradients
from baselines.parts.networks import MLP
from baselines.parts.td_residual import gradient_cosines
from baselines.reproduce.c4_covariance import Reproduction
from baselines.reproduce.c4_covariance.observation import (
    BACKBONES,
    Clusters,
    Probe,
    Study,
    _measures,
    input_gradients,
    observe,
)
from baselines.reproduce.c4_covariance.page import claim_rows, render, write_page
from tests.toy import point

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    "trace_exact",
    "trace_feature",
    "correlation_exact",
    "correlation_feature",
    "cosine_variance",
    "cosine_mean",
)


def study_of(**changes):
    """C4 has half the traces of the others in every seed."""
    arms = {}
    for arm in ("TD3+BC", "LN", "DR3", "C4"):
        scale = 1.0 if arm == "C4" else 2.0
        curves = {name: [[scale, scale + 0.1]] * 4 for name in NAMES}
        curves |= {f"term_{term}_exact": [[1.0, 2.0]] * 4 for term in "ab"}
        arms[arm] = {**curves, "score": [[3.0, 4.0]] * 4}
    arms["C4"] |= {
        "fit_trace_cluster": [[1.0, 3.0]] * 4,
        "fit_trace_uniform": [[2.0, 2.0]] * 4,
    }
    arms["TD3+BC"]["trace_exact"] = [[2.0, 2.2], [0.0, 0.0], [2.0, 2.1], [3.0, 2.1]]
    arms["TD3+BC"]["cosine_variance"] = [[9.0, 9.0], [9.0, 9.0], [0.5, 0.2], [0.7, 0.4]]
    arms["TD3+BC"]["cosine_mean"] = [[0.0, 0.0], [0.0, 0.0], [0.9, 0.9], [0.9, 0.9]]
    places = [(float(x), float(x % 3)) for x in range(9)]
    clusters = [Clusters(step=40, places=places, labels=[0, 1, 2] * 3, effective=2.5)]
    facts = {"backbone": "td3_bc", "dataset": "d-v0", "seeds": (0, 1), "steps": (10, 20, 30, 40)}
    facts["episodes"] = 5
    return Study(arms={**arms, **changes}, clusters=clusters, **facts)


def test_verdicts_are_those_of_the_second_half():
    rows = claim_rows(study_of())
    first, growth, *of_c4, last = rows
    assert first[1:] == ("∇(Eδ)² 0.9 and 0.9; ∇Var δ 0.6 and 0.3", "not held")
    assert growth[1:] == ("first 2 and 2.2; last 3 and 2.1", "undecided")
    assert len(of_c4) == 6 + 2
    assert {row[2] for row in of_c4} == {"held"}
    assert last[1:] == ("one cluster 1 and 3; uniform 2 and 2", "undecided")


def test_what_was_not_measured_is_not_judged():
    study = study_of()
    missing = {**study.arms["C4"], "fit_trace_cluster": [[None, None]] * 4}
    with pytest.warns(RuntimeWarning, match="empty"):
        rows = claim_rows(study_of(C4=missing))
    assert rows[-1][2] == "not measured"


def test_the_page_has_its_figures(tmp_path):
    written = write_page([study_of()], tmp_path / "page.md")
    assert all(path.stat().st_size > 0 for path in written)
    text = (tmp_path / "page.md").read_text()
    for name in ("loss", "traces", "clusters"):
        assert f"(page/{name}-td3_bc.png)" in text
    assert "40 gradient steps, 2 seeds" in text
    command = "--dataset d --backbones td3_bc --steps 40 --observations 4 --seeds 2 --episodes 5`"
    assert f"python -m baselines reproduce c4-covariance {command}" in text


def test_the_page_names_the_figures_that_it_draws():
    of_td3 = study_of()
    arms = {"CQL": of_td3.arms["TD3+BC"], **of_td3.arms}
    of_cql = of_td3.model_copy(update={"backbone": "cql", "arms": arms})
    for studies, named in (
        ([of_td3], "Figures 1, 11 and 13"),
        ([of_cql], "Figures 1, 11 and 12"),
        ([of_cql, of_td3], "Figures 1, 11, 12 and 13"),
    ):
        text = render(studies, "page")
        assert f"the paper's {named} from" in text
        for backbone, number in (("cql", 12), ("td3_bc", 13)):
            drawn = any(study.backbone == backbone for study in studies)
            assert (f"*After Figure {number}:" in text) == drawn
        assert ("*After Figure 11 (there on CQL), on" in text) == (of_td3 in studies)


def test_input_gradients_are_those_of_the_networks():
    network = MLP((4, 8, 6, 1))
    theta = network.init(MemberRandom([0, 1], "network")).detach()
    inputs = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = values_and_gradients(network, theta, inputs)[1]
    torch.testing.assert_close(input_gradients(network, theta, inputs), expected)


@pytest.mark.parametrize("name", ["td3_bc", "c4_td3_bc"])
def test_what_is_observed_is_what_its_name_says(name):
    """Traces of Q̄'s and Q's gradients by both meanings of g, and the cosines."""
    method = get_method(name)
    config = method.config(hidden_sizes=(12, 10), batch_size=16)
    group = [Member(point(episodes=20), config, seed) for seed in (0, 1)]
    trainer = Trainer(method, group, "cpu")
    probe = Probe.of(trainer.data, (0, 1))
    backbone = trainer.agent.backbone if name == "c4_td3_bc" else trainer.agent
    critics = backbone.critics
    critics.target.mul_(1.2)
    found = _measures(trainer, group, probe)
    following, current = successive_inputs(probe.batch)
    for kind in ("exact", "feature"):
        terms = traces(
            gradients(critics.network, critics.target[0], following, kind),
            gradients(critics.network, critics.parameters[0], current, kind),
            probe.batch.has_next.unsqueeze(-1).float(),
        )
        values = {
            "trace": terms.uniform,
            "term_a": terms.following,
            "term_b": terms.current,
            "correlation": terms.uniform / (terms.following * terms.current).sqrt(),
        }
        for term, value in values.items():
            assert found[f"{term}_{kind}"] == pytest.approx(value.tolist(), rel=1e-3)
        assert ((terms.following / terms.current - 1.0).abs() > 0.1).all()
    discount = torch.full((2,), 0.99)
    cosines = gradient_cosines(critics, backbone.policy, probe.uniform, discount)
    assert found["cosine_variance"] == pytest.approx(cosines[0].tolist())
    assert found["cosine_mean"] == pytest.approx(cosines[1].tolist())
    assert ((cosines[0] - cosines[1]).abs() > 0.05).all()


@pytest.mark.slow
def test_all_arms_are_observed():
    study = observe(
        point(episodes=20),
        "td3_bc",
        steps=8,
        observations=4,
        seeds=(0, 1),
        episodes=1,
        device="cpu",
    )
    assert study.steps == (2, 4, 6, 8)
    assert list(study.arms) == ["TD3+BC", "LN", "DR3", "C4"]
    for arm, curves in study.arms.items():
        for name in (*NAMES, "score", "term_a_feature", "term_b_exact"):
            assert np.array(curves[name], float).shape == (4, 2), (arm, name)
    assert [found.step for found in study.clusters] == [2, 4, 6, 8]
    assert Study.model_validate_json(study.model_dump_json()) == study


def test_a_study_is_kept_for_its_own_options_only(tmp_path, monkeypatch):
    calls = []
    folder = "baselines.reproduce.c4_covariance"
    monkeypatch.setattr(f"{folder}.hetero_bench.load", lambda name: name)
    monkeypatch.setattr(f"{folder}.observe", lambda *_, **options: calls.append(1) or study_of())
    for changes in ({}, {}, {"observations": 3}, {"episodes": 1}, {"seeds": 1}, {"steps": 50}):
        settings = {"steps": 40, "observations": 4, "out": tmp_path, **changes}
        Reproduction(**settings)._study("td3_bc")
    assert len(calls) == 5


def test_the_page_says_what_its_values_say():
    page = ROOT / "docs" / "results" / "c4-covariance.md"
    values = json.loads((page.with_suffix("") / "values.json").read_text(encoding="utf-8"))
    studies = [Study.model_validate(each) for each in values]
    assert page.read_text(encoding="utf-8") == render(studies, "c4-covariance")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_correlation_is_the_trace_without_its_scale(backbone):
    study = observe(
        point(episodes=20),
        backbone,
        steps=4,
        observations=4,
        seeds=(0,),
        episodes=1,
        device="cpu",
    )
    for curves in study.arms.values():
        for kind in ("exact", "feature"):
            names = ("trace", "term_a", "term_b", "correlation")
            c, a, b, found = (np.array(curves[f"{name}_{kind}"], float) for name in names)
            np.testing.assert_allclose(found, c / np.sqrt(a * b), rtol=1e-4)
            assert (np.abs(found) <= 1.0).all()


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="no backbone bc; expected cql or td3_bc"):
        Reproduction(backbones=("bc",)).run()
    with pytest.raises(ValueError, match="observations is 9; expected 2 or more"):
        Reproduction(steps=8, observations=9).run()
