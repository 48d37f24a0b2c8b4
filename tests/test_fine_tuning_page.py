"""``reproduce fine-tuning`` from nothing to the page, and again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baselines.reproduce.fine_tuning import TIER, Reproduction
from baselines.tiers import TIERS, Cells, Tier
from hetero_bench.runs import read_run_file

HOPPER = "hopper-medium-replay-hb-10k"


def test_the_study_trains_fine_tunes_and_writes_the_page(tmp_path, monkeypatch, capsys):
    small = {"batch_size": 8, "hidden_sizes": (8, 8)}
    cells = (Cells(("iql",), (HOPPER,), steps=4, seeds=(0, 1), changes=small),)
    monkeypatch.setitem(TIERS, TIER, Tier(about="tiny", cells=cells, population=5))
    study = Reproduction(
        dataset=HOPPER,
        methods=("iql",),
        steps=6,
        work=tmp_path / "work",
        out=tmp_path / "out",
        page=tmp_path / "page.md",
    )
    study.run()
    runs = read_run_file(tmp_path / "page" / "runs.json")
    assert [(run.method, run.seed) for run in runs] == [("iql_online", 0), ("iql_online", 1)]
    assert [[each.step for each in run.evaluations] for run in runs] == 2 * [[4, 10]]
    text = (tmp_path / "page.md").read_text()
    assert "(4 updates offline) take 6 steps" in " ".join(text.split())
    study.run()
    assert (tmp_path / "page.md").read_text() == text
    assert capsys.readouterr().out.count("page.md") == 2


def test_methods_that_cannot_are_refused_before_anything_is_trained(tmp_path):
    study = Reproduction(methods=("iql", "td3_bc"), work=tmp_path / "work")
    with pytest.raises(ValueError, match=r"TD3\+BC cannot be fine-tuned"):
        study.run()
    with pytest.raises(ValueError, match="steps is 0; expected at least 1"):
        replace(study, methods=("iql",), steps=0).run()
    assert not (tmp_path / "work").exists()
