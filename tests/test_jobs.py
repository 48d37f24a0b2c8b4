from __future__ import annotations

import dataclasses
import multiprocessing

import pytest

from baselines import bc_discrete as bc
from baselines import cql_discrete as cql
from baselines.engine import Job, run_jobs, train, trained_actors
from baselines.engine.checkpoint import read_checkpoint, write_checkpoint
from baselines.table import TIERS, Tier, jobs_of, make_table
from hetero_bench.runs import read_run_file, read_runs

DATASET = ("gridworld-hetero-10k", None)


def jobs(out):
    return [
        Job("bc", (bc.Config(),), (DATASET,), (0, 1), 20, out),
        Job("cql", (cql.Config(), cql.Config(alpha=0.1)), (DATASET,), (0,), 20, out),
    ]


def make_folder(path):
    path.mkdir(parents=True)
    return path


def without_circumstances(runs):
    return [run.model_dump(exclude={"budget", "commit"}) for run in runs]


def test_workers_give_what_one_process_gives(cache, tmp_path):
    returned = run_jobs(jobs(tmp_path / "workers"), workers=2, quiet=True)
    found = [run for _, run in read_runs(tmp_path / "workers")]
    assert len(found) == 4
    assert [len(runs) for runs in returned] == [2, 2]
    assert all(run in found for runs in returned for run in runs)
    alone = train(
        "bc", ["gridworld-hetero-10k"], [0, 1], steps=20, out=tmp_path / "one", quiet=True
    )
    of_workers = [run for run in found if run.method == "bc"]
    assert without_circumstances(of_workers) == without_circumstances(alone)
    stamps = {path: path.stat().st_mtime_ns for path, _ in read_runs(tmp_path / "workers")}
    run_jobs(jobs(tmp_path / "workers"), workers=1, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_workers_error_reaches_the_caller(cache, tmp_path):
    bad = dataclasses.replace(jobs(tmp_path)[0], datasets=(("no-such-dataset", None),))
    with pytest.raises(KeyError, match="no dataset 'no-such-dataset'"):
        run_jobs([bad], quiet=True)


def test_an_error_ends_the_other_workers(cache, tmp_path):
    """The long job comes first, so that waiting for it in order would take for ever."""
    long = dataclasses.replace(jobs(tmp_path)[0], steps=10_000_000)
    bad = dataclasses.replace(jobs(tmp_path)[1], datasets=(("no-such-dataset", None),))
    with pytest.raises(KeyError, match="no dataset 'no-such-dataset'"):
        run_jobs([long, bad], workers=2, quiet=True)
    assert multiprocessing.active_children() == []


def test_overwriting_and_results_of_other_code(cache, tmp_path, capsys):
    job = jobs(tmp_path)[0]
    run_jobs([job], workers=1)
    path = job.plan().checkpoint_path(tmp_path)
    tensors, facts = read_checkpoint(path)
    write_checkpoint(path, tensors, {**facts, "commit": "0" * 40})
    capsys.readouterr()
    ((first, _),) = run_jobs([job], workers=1)
    assert first.commit == "0" * 40
    assert "1 populations were trained by other code (commit 000" in capsys.readouterr().err
    ((first, _),) = run_jobs([job], workers=1, overwrite=True)
    assert first.commit != "0" * 40
    assert capsys.readouterr().err == ""


def test_trained_policies_are_read_back(cache, tmp_path):
    job = jobs(tmp_path)[0]
    with pytest.raises(FileNotFoundError, match="train this plan first"):
        trained_actors(job.plan(), tmp_path)
    run_jobs([job], workers=1, quiet=True)
    actors = trained_actors(job.plan(), tmp_path)
    assert len(actors) == 2
    path = job.plan().checkpoint_path(tmp_path)
    tensors, facts = read_checkpoint(path)
    write_checkpoint(path, tensors, {**facts, "step": 10})
    with pytest.raises(FileNotFoundError, match="is at step 10 of 20"):
        trained_actors(job.plan(), tmp_path)


def test_every_cell_of_a_table_is_trained_once():
    tier = TIERS["gridworld"]
    cells = [cell for job in jobs_of(tier, "bc", "gridworld", None) for cell in job.datasets]
    assert len(cells) == len(set(cells)) == 4 + 4 * 5
    assert ("gridworld-hetero", None) in cells
    assert ("gridworld-skewed-10k", 4) in cells


def test_a_table_is_one_file_per_method_and_dataset(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(TIERS, "gridworld", Tier(steps={"bc": 4}, seeds=(0, 1), draws=(0, 1)))
    work, out = tmp_path / "work", tmp_path / "results"
    other = Job("bc", (bc.Config(),), (("gridworld-hetero-10k", 0),), (0, 2), 5, work / "other")
    run_jobs([other], workers=1, quiet=True)  # what else lies there is no part of the table
    (work / "other/bc/gridworld-hetero-10k-v0/seed-2").rename(
        make_folder(work / "bc/gridworld-hetero-10k-v0") / "seed-2"
    )
    written = make_table("gridworld", work=work, out=out, workers=1, quiet=True)
    assert len(written) == 8
    runs = read_run_file(out / "bc" / "gridworld-hetero-10k-v0.json")
    assert [(run.dataset.draw, run.seed) for run in runs] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(len(run.evaluations[-1].returns) == 100 for run in runs)
    before = [path.read_bytes() for path in written]
    make_table("gridworld", work=work, out=out, workers=1, quiet=True)
    assert [path.read_bytes() for path in written] == before


def test_tables_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no table for family 'atari'; there are: gridworld"):
        make_table("atari", work=tmp_path)
    with pytest.raises(ValueError, match="td3 not in the table of gridworld"):
        make_table("gridworld", methods=["td3"], work=tmp_path)
