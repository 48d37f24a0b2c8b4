from __future__ import annotations

import dataclasses
import multiprocessing

import pytest

from baselines import bc_discrete as bc
from baselines import cql_discrete as cql
from baselines.engine import Job, run_jobs, train, trained_actors
from baselines.engine.checkpoint import read_checkpoint, write_checkpoint
from hetero_bench.runs import read_runs

DATASET = ("gridworld-hetero-10k", None)


def jobs(out):
    return [
        Job("bc", (bc.Config(),), (DATASET,), (0, 1), 20, out),
        Job("cql", (cql.Config(), cql.Config(alpha=0.1)), (DATASET,), (0,), 20, out),
    ]


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


def test_a_job_may_change_some_of_the_defaults(cache):
    defaults = Job("bc", None, (DATASET,), (0,), 20, None)
    changed = dataclasses.replace(
        defaults, changes={"batch_size": 8}, precision="bf16", device="cpu"
    )
    assert [member.config for member in changed.plan().members] == [bc.Config(batch_size=8)]
    assert (defaults.plan().precision, changed.plan().precision) == ("fp32", "bf16")
    assert [member.config for member in defaults.plan().members] == [bc.Config()]
