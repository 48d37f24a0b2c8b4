"""From a plan to its run records, through interruptions."""

from __future__ import annotations

import importlib.metadata
import random
import signal
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from baselines import bc_discrete as bc
from baselines import cql_discrete as cql
from baselines import spot, td3_bc
from baselines.engine import estimate, execute, make_plan, train, trained_actors
from baselines.engine.checkpoint import read_checkpoint, restore, write_checkpoint
from baselines.engine.trainer import Trainer
from hetero_bench.runs import read_runs
from tests.toy import corridor, point

SETTINGS = {"steps": 60, "log_every": 20, "eval_every": 40, "evaluation_episodes": 4}
CONFIG = cql.Config(hidden_sizes=(8,), batch_size=16, learning_rate=1e-2)


def plan(**changes):
    arguments = {
        "method": "cql",
        "datasets": [corridor()],
        "seeds": [0, 3],
        "configs": CONFIG,
        **SETTINGS,
        **changes,
    }
    return make_plan(**arguments)


def results(runs):
    return [run.model_dump(exclude={"budget": {"wall_seconds"}, "commit": True}) for run in runs]


def checkpoint(plan, out):
    tensors, facts = read_checkpoint(plan.checkpoint_path(out))
    facts.pop("wall_seconds")
    return tensors, facts


class Killed(BaseException):
    """Stands in for the end of the process."""


def interrupt(monkeypatch, after):
    """Lets the population take ``after`` chunks of updates, then ends."""
    advance, calls = Trainer.advance, []

    def counted(self, updates):
        if len(calls) == after:
            raise Killed
        calls.append(updates)
        advance(self, updates)

    monkeypatch.setattr(Trainer, "advance", counted)


def test_writes_one_run_per_member(tmp_path):
    runs = train("bc", [corridor()], [4, 5], bc.Config(batch_size=8), out=tmp_path, **SETTINGS)
    found = read_runs(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path, _ in found] == [
        "bc/corridor-v0/seed-4/run.json",
        "bc/corridor-v0/seed-5/run.json",
    ]
    assert [run for _, run in found] == runs
    run = runs[1]
    assert (run.method, run.seed, run.status) == ("bc", 5, "finished")
    assert run.config == {
        "hidden_sizes": [64, 64],
        "batch_size": 8,
        "learning_rate": 1e-3,
        "greedy": False,
    }
    assert run.dataset.id == "corridor-v0"
    assert run.dataset.digest == corridor().provenance.digest
    assert run.reference.model_dump() == {"random": 0.0, "expert": 1.0}
    assert (run.budget.steps, run.budget.members) == (60, 2)
    assert (run.budget.device, run.budget.precision) == ("cpu", "fp32")
    assert run.budget.wall_seconds > 0
    assert [each.step for each in run.evaluations] == [40, 60]
    assert all(each.seed == 5 and len(each.returns) == 4 for each in run.evaluations)
    assert run.evaluations[0].successes is not None
    assert [step for step, _ in run.metrics["loss"]] == [20, 40, 60]
    assert run.metrics["loss"][0][1] > run.metrics["loss"][-1][1]
    assert run.versions["torch"] == importlib.metadata.version("torch")


def test_a_sweep_is_one_population_with_a_folder_per_setting(tmp_path):
    configs = [bc.Config(learning_rate=rate) for rate in (1e-3, 1e-2)]
    runs = train("bc", [corridor()], [0], configs, out=tmp_path, **SETTINGS)
    assert [run.config["learning_rate"] for run in runs] == [1e-3, 1e-2]
    assert [path.parent.parent.name for path, _ in read_runs(tmp_path)] == [
        "learning_rate=0.001",
        "learning_rate=0.01",
    ]
    assert runs[0].budget.members == 2


def test_other_draws_and_sizes_have_folders_of_their_own(tmp_path):
    drawn = corridor().subset(100, draw=3)
    train("bc", [corridor(), drawn], [0], bc.Config(batch_size=8), out=tmp_path, **SETTINGS)
    folders = {path.parent.parent.relative_to(tmp_path / "bc") for path, _ in read_runs(tmp_path)}
    assert {folder.as_posix() for folder in folders} == {
        "corridor-v0",
        f"{drawn.id}/size-100-draw-3",
    }


@pytest.mark.parametrize("after", range(4))
def test_an_interrupted_run_continues_to_the_same_bits(tmp_path, monkeypatch, after):
    expected = results(execute(plan(), tmp_path / "whole", quiet=True))
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        if after < 3:
            with pytest.raises(Killed):
                execute(plan(), tmp_path / "parts", quiet=True, checkpoint_seconds=0)
            assert not list((tmp_path / "parts").rglob("run.json"))
        else:
            execute(plan(), tmp_path / "parts", quiet=True, checkpoint_seconds=0)
    runs = execute(plan(), tmp_path / "parts", quiet=True)
    assert results(runs) == expected
    assert results([run for _, run in read_runs(tmp_path / "parts")]) == expected
    (ours, facts), (theirs, others) = (
        checkpoint(plan(), tmp_path / name) for name in ("whole", "parts")
    )
    assert facts == others
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


CONTROL = {
    "method": "td3_bc",
    "datasets": [point(episodes=10)],
    "configs": td3_bc.Config(hidden_sizes=(8,), batch_size=16, policy_delay=2),
    "log_every": 7,  # so that it is interrupted between an update of the policy and the next
    "eval_every": 21,
    "steps": 42,
}


def test_continuous_control_is_resumed_to_equal_bits(tmp_path, monkeypatch):
    made = plan(**CONTROL)
    expected = results(execute(made, tmp_path / "whole", quiet=True, tensorboard=True))
    with monkeypatch.context() as patch:
        interrupt(patch, after=3)
        with pytest.raises(Killed):
            execute(made, tmp_path / "parts", quiet=True, checkpoint_seconds=0)
    _, facts = checkpoint(made, tmp_path / "parts")
    assert facts["step"] == 21
    assert results(execute(made, tmp_path / "parts", quiet=True)) == expected
    ours, theirs = (checkpoint(made, tmp_path / name)[0] for name in ("whole", "parts"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [step for step, _ in expected[0]["metrics"]["policy_loss"]] == [7, 14, 21, 28, 35, 42]
    assert len(list((tmp_path / "whole").rglob("events.*"))) == 2
    actor = trained_actors(made, tmp_path / "parts")[1]
    action = actor(torch.tensor([[1.0, 0.0]]), torch.empty(1, 0))
    assert action.abs().max() <= 1.0


def test_a_method_takes_the_form_of_its_dataset():
    assert plan().method.actions == "discrete"
    control = plan(method="bc", datasets=[point()], configs=None)
    assert (control.method.actions, control.precision) == ("continuous", "fp32")
    with pytest.raises(ValueError, match="td3_bc is made for continuous actions; there is no disc"):
        plan(method="td3_bc", configs=None)


def test_datasets_have_their_own_defaults():
    datasets = [point(), point("maze", family="antmaze")]
    members = plan(method="iql", datasets=datasets, configs=None).members
    assert [member.config.expectile for member in members] == [0.7, 0.7, 0.9, 0.9]
    assert {member.label for member in members} == {""}


def test_the_same_call_on_a_finished_run_changes_nothing(tmp_path, monkeypatch):
    runs = execute(plan(), tmp_path, quiet=True)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    interrupt(monkeypatch, after=0)
    assert execute(plan(), tmp_path, quiet=True) == runs
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == stamps


def test_a_missing_record_of_a_finished_run_is_written_again(tmp_path, monkeypatch):
    runs = execute(plan(), tmp_path, quiet=True)
    path = tmp_path / "cql/corridor-v0/seed-3/run.json"
    path.unlink()
    interrupt(monkeypatch, after=0)
    execute(plan(), tmp_path, quiet=True)
    assert [run for _, run in read_runs(tmp_path)] == runs


def test_killed_while_writing_records(tmp_path, monkeypatch):
    written = []

    def write_one(run, path):
        if written:
            raise Killed
        written.append(path)
        path.parent.mkdir(parents=True)
        path.write_text(run.model_dump_json(by_alias=True))

    with monkeypatch.context() as patch:
        patch.setattr("baselines.engine.session.write_run", write_one)
        with pytest.raises(Killed):
            execute(plan(), tmp_path, quiet=True)
    interrupt(monkeypatch, after=0)  # nothing is trained again
    execute(plan(), tmp_path, quiet=True)
    assert len(read_runs(tmp_path)) == 2


def test_refuses_to_overwrite_results_of_another_run(tmp_path, monkeypatch):
    execute(plan(), tmp_path, quiet=True)
    before = read_runs(tmp_path)
    other = plan(steps=80)
    with pytest.raises(FileExistsError, match=r"seed-0/run\.json.*--overwrite"):
        execute(other, tmp_path, quiet=True)
    assert read_runs(tmp_path) == before

    with monkeypatch.context() as patch:  # interrupted, it goes on without being told again
        interrupt(patch, after=2)
        with pytest.raises(Killed):
            execute(other, tmp_path, overwrite=True, quiet=True, checkpoint_seconds=0)
    assert read_runs(tmp_path) == before
    execute(other, tmp_path, quiet=True)
    assert {run.budget.steps for _, run in read_runs(tmp_path)} == {80}

    with pytest.raises(FileExistsError):  # the first one's results are gone, and stay gone
        execute(plan(), tmp_path, quiet=True)


def test_overwriting_a_finished_run_trains_it_again(tmp_path, monkeypatch):
    first = execute(plan(), tmp_path, quiet=True)
    with monkeypatch.context() as patch:
        interrupt(patch, after=0)
        with pytest.raises(Killed):
            execute(plan(), tmp_path, overwrite=True, quiet=True)
    assert results(execute(plan(), tmp_path, overwrite=True, quiet=True)) == results(first)


def test_one_process_at_a_time(tmp_path, monkeypatch):
    advance = Trainer.advance

    def meanwhile(self, updates):
        with pytest.raises(RuntimeError, match="another process is training this population"):
            execute(plan(), tmp_path, quiet=True)
        advance(self, updates)

    monkeypatch.setattr(Trainer, "advance", meanwhile)
    execute(plan(), tmp_path, quiet=True)


def test_a_diverged_member_is_recorded_as_such_and_its_neighbours_as_ever(tmp_path):
    sick = cql.Config(**{**CONFIG.__dict__, "reward_scale": 1e38})
    right = corridor(probabilities=(0.1, 0.1, 0.8))
    runs = execute(plan(datasets=[right], configs=[CONFIG, sick], seeds=[0]), tmp_path, quiet=True)
    assert [run.status for run in runs] == ["finished", "diverged"]
    assert len(runs[1].evaluations) == 2
    assert runs[1].metrics["loss"][-1][1] is None
    assert all(value is not None for _, value in runs[0].metrics["loss"])
    well = cql.Config(**{**CONFIG.__dict__, "reward_scale": 2.0})
    others = execute(
        plan(datasets=[right], configs=[CONFIG, well], seeds=[0]), tmp_path / "well", quiet=True
    )
    assert others[0].evaluations == runs[0].evaluations
    assert others[0].metrics == runs[0].metrics


def test_stops_are_the_union_of_logs_and_evaluations():
    schedule = plan(steps=50, log_every=20, eval_every=15)
    stops, step = [], 0
    while step < 50:
        step = schedule.next_stop(step)
        stops.append(step)
    assert stops == [15, 20, 30, 40, 45, 50]
    assert [step for step in stops if schedule.evaluates_at(step)] == [15, 30, 45, 50]
    assert plan(eval_every=None).evaluates_at(60)
    assert not plan(eval_every=None).evaluates_at(40)


def test_fingerprints_tell_plans_apart():
    base = plan().fingerprint
    assert plan().fingerprint == base
    for change in (
        {"steps": 61},
        {"seeds": [3, 0]},
        {"eval_every": None},
        {"configs": cql.Config()},
        {"datasets": [corridor(seed=1)]},
        {"device": "meta"},
        {"precision": "bf16"},
    ):
        assert plan(**change).fingerprint != base


def rewrite(plan, out, **changes):
    """Changes facts in a checkpoint."""
    path = plan.checkpoint_path(out)
    tensors, facts = read_checkpoint(path)
    write_checkpoint(path, tensors, {**facts, **changes})


def begin(monkeypatch, out, **options):
    """Trains up to the first checkpoint but one."""
    with monkeypatch.context() as patch:
        interrupt(patch, after=2)
        with pytest.raises(Killed):
            execute(plan(), out, quiet=True, checkpoint_seconds=0, **options)


def test_time_before_an_interruption_counts(tmp_path, monkeypatch):
    begin(monkeypatch, tmp_path)
    rewrite(plan(), tmp_path, wall_seconds=1_000.0, refresh_seconds=100.0)
    runs = execute(plan(), tmp_path, quiet=True)
    assert all(1_000.0 < run.budget.wall_seconds < 1_900.0 for run in runs)
    assert [run.budget.refresh_seconds for run in runs] == [100.0, 100.0]  # CQL has none of its own


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    execute(plan(), tmp_path, quiet=True)
    other = plan(seeds=[1, 2])
    path = other.checkpoint_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(plan().checkpoint_path(tmp_path).read_bytes())
    for use in (execute, trained_actors):
        with pytest.raises(ValueError, match="belongs to another plan; delete it to start over"):
            use(other, tmp_path)
    assert not other.run_path(tmp_path, other.members[0]).exists()


@pytest.mark.parametrize("finished", [False, True])
def test_results_of_other_code_do_not_pass_silently(tmp_path, monkeypatch, capsys, finished):
    begin(monkeypatch, tmp_path)
    if finished:
        execute(plan(), tmp_path, quiet=True)
    said = []
    execute(plan(), tmp_path / "fresh", on_stale=said.append)
    assert said == []
    rewrite(plan(), tmp_path, commit="0" * 40)
    capsys.readouterr()
    execute(plan(), tmp_path, on_stale=said.append)
    assert [each.split(",")[0] for each in said] == [f"commit {'0' * 40}"]
    assert f"trained by other code (commit {'0' * 40}, now " in capsys.readouterr().err


def test_what_killed_processes_left_is_removed(tmp_path):
    path = plan().checkpoint_path(tmp_path)
    path.parent.mkdir(parents=True)
    left = path.with_name(f".{path.name}.a8x2")
    left.write_bytes(b"half a checkpo")
    execute(plan(), tmp_path, quiet=True)
    assert {each.name for each in path.parent.iterdir()} <= {path.name, ".lock"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "cqll"}, ValueError, "no method 'cqll'; did you mean cql"),
        ({"precision": "fp8"}, ValueError, "precision is 'fp8'; expected one of fp32, tf32, bf16"),
        ({"steps": 0}, ValueError, "steps is 0; expected at least 1"),
        ({"evaluation_episodes": -1}, ValueError, "evaluation_episodes is -1"),
        ({"configs": bc.Config()}, TypeError, r"configured by baselines\.cql_discrete\.Config"),
        ({"device": "cuda"}, ValueError, "not available"),
        ({"datasets": [corridor(reference=None)]}, ValueError, "registered without reference"),
        ({"datasets": [corridor(environment=None)]}, ValueError, "registered without environment"),
    ],
)
def test_bad_plans_are_refused_before_anything_is_written(change, error, message):
    if change.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(error, match=message):
        plan(**change)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = plan().checkpoint_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a checkpo")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged.*delete it"):
        execute(plan(), tmp_path, quiet=True)


def test_checkpoints_hold_every_bit_and_refuse_what_does_not_fit(tmp_path):
    path = tmp_path / "c.safetensors"
    state = {"a": {"b": torch.tensor([torch.nan, -0.0, 1e-45])}, "n": torch.tensor(3)}
    write_checkpoint(path, state, {"step": 1})
    tensors, facts = read_checkpoint(path)
    assert facts == {"step": 1}
    with safe_open(path, framework="pt") as file:
        assert file.metadata() is None  # the header has a limit, and curves have none
    live = {"a": {"b": torch.zeros(3)}, "n": torch.tensor(0)}
    inside = live["a"]["b"]
    restore(live, tensors)
    assert torch.equal(inside.view(torch.int32), state["a"]["b"].view(torch.int32))
    with pytest.raises(ValueError, match=r"\['a.c', 'n'\] are on one side only"):
        restore({"a": {"b": torch.zeros(3), "c": torch.zeros(1)}}, tensors)
    with pytest.raises(ValueError, match=r"a\.b is \(3,\).*expected \(4,\)"):
        restore({"a": {"b": torch.zeros(4)}, "n": torch.tensor(0)}, tensors)


def test_dry_run_measures_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cost = estimate(plan(), seconds=0.05)
    parameters = 7 * 8 + 8 + 8 * 3 + 3
    tensors = 2 * parameters * 4 * 4  # two members; critic, target and two moments; float32
    assert tensors <= cost.state_bytes <= tensors + 100
    row = 4 * 7 + 8 + 4 + 4 * 7 + 1  # what every method needs; stored once for both members
    assert row <= cost.data_bytes / len(corridor()) < 2 * row
    (phase,) = cost.phases.values()
    assert phase.steps == 60
    assert cost.training_seconds == pytest.approx(60 / phase.steps_per_second)
    assert list(tmp_path.iterdir()) == []


def test_dry_run_times_every_phase(monkeypatch):
    """A first phase of 30 slow steps and 65 others of which every other one is slower still."""
    from baselines.engine import dry_run

    now = [0.0]
    seconds = {"density": 8.0, "critics": 1.0, "critics and policy": 3.0}

    def update(self, phase):
        now[0] += seconds[phase]
        self._metrics_of[phase] = []

    monkeypatch.setattr(Trainer, "_update", update)
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: now[0])
    config = spot.Config(hidden_sizes=(8,), density_sizes=(8,), density_steps=30)
    cost = estimate(plan(method="spot", datasets=[point(episodes=3)], configs=config, steps=95))
    assert {name: each.steps for name, each in cost.phases.items()} == {
        "density": 30,
        "critics / critics and policy": 65,
    }
    assert cost.phases["density"].steps_per_second == pytest.approx(1 / 8)
    assert cost.training_seconds == pytest.approx(30 * 8 + 33 * 1 + 32 * 3)


CHILD = """
import sys, torch
torch.set_num_threads(1)
from baselines.engine import execute
from tests.test_training import long_plan
print("ready", flush=True)
execute(long_plan(), sys.argv[1], quiet=True, checkpoint_seconds=0)
"""


def long_plan():
    return plan(steps=600, log_every=10, eval_every=200)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_bits(tmp_path):
    moments = random.Random(0)
    kills = resumable = 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, tmp_path / "killed"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            child.wait(moments.uniform(0.05, 0.6) if kills < 4 else 120)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
            resumable += long_plan().checkpoint_path(tmp_path / "killed").exists()
            continue
        assert child.returncode == 0
        break
    assert resumable > 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runs = execute(long_plan(), tmp_path / "whole", quiet=True, checkpoint_seconds=0)
    torch.set_num_threads(threads)
    assert results([run for _, run in read_runs(tmp_path / "killed")]) == results(runs)
    ours, facts = checkpoint(long_plan(), tmp_path / "whole")
    theirs, others = checkpoint(long_plan(), tmp_path / "killed")
    assert facts == others
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    leftovers = [path for path in (tmp_path / "killed").rglob(".*") if path.name != ".lock"]
    assert len(leftovers) <= kills


def test_tensorboard_curves_equal_the_ledgers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = plan(seeds=[0, 1])
    runs = execute(made, tmp_path, quiet=True, tensorboard=True)
    for member, run in zip(made.members, runs, strict=True):
        events = EventAccumulator(str(made.run_path(tmp_path, member).with_name("tensorboard")))
        events.Reload()
        losses = {event.step: event.value for event in events.Scalars("train/loss")}
        assert losses == pytest.approx(dict(run.metrics["loss"]))
        scores = {event.step: event.value for event in events.Scalars("evaluation/score")}
        assert scores == pytest.approx(
            {
                each.step: member.dataset.spec.normalized_score(each.returns).mean()
                for each in run.evaluations
            }
        )
