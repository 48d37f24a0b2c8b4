from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import hetero_bench
from baselines import bc, car, iql, spot
from baselines.engine import get_method, train, trained_runs
from baselines.engine.checkpoint import read_checkpoint, write_checkpoint
from baselines.engine.fine_tuning import FineTuning
from baselines.engine.online import Learning, fine_tune
from baselines.engine.random import MemberRandom
from baselines.finetune import FineTuneArguments
from hetero_bench import get_spec
from hetero_bench.runs import read_run_file
from tests.continuous import data_of, moved, sampled_batch, snapshot
from tests.toy import POINT_HORIZON, point

SIZES = {"hidden_sizes": (8, 8), "batch_size": 16}
SPOT = spot.Config(density_sizes=(8,), density_steps=5, **SIZES)
CAR = car.Config(density_sizes=(8,), warmup_steps=5, threshold=1e9, **SIZES)
FORMS = {
    "spot": (spot, SPOT),
    "car": (car, CAR),
    "iql": (iql, iql.Config(dropout=0.1, **SIZES)),
}
OFFLINE = 20


@pytest.fixture(autouse=True)
def dataset(monkeypatch):
    """The point, and found by its id, as a registered dataset is."""
    made = point(episodes=20)
    monkeypatch.setattr(hetero_bench, "load", lambda *_, **__: made)
    return made


def population(dataset, out, form="spot", seeds=(0, 1), steps=OFFLINE, **changes):
    module, config = FORMS[form]
    config = replace(config, **changes)
    train(module.METHOD, [dataset], seeds, config, steps=steps, out=out, quiet=True)
    return trained_runs([out])[0].population


def test_both_readings_of_the_schedule(dataset, tmp_path):
    trained = population(dataset, tmp_path)
    text = FineTuning(trained, steps=1_000_000)
    assert [text.regulariser(t) for t in (0, 100_000, 200_000, 900_000)] == pytest.approx(
        [1.0, 0.6, 0.2, 0.2]
    )
    code = replace(text, decay_share=0.8)
    for step in (0, 1, 250_000, 799_999, 800_000, 999_999):
        assert code.regulariser(step) == pytest.approx(max(0.2, 1.0 - step / 1_000_000))
    assert replace(text, decay_share=0.0).regulariser(0) == 0.2
    assert replace(text, decay_share=1.0, floor=0.0).regulariser(750_000) == pytest.approx(0.25)


def test_what_is_out_of_range_is_refused(dataset, tmp_path):
    trained = population(dataset, tmp_path)
    wrong = [("steps", 0), ("cut_every", 0), ("noise", -0.1), ("noise", np.inf), ("floor", 2.0)]
    for name, value in wrong:
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            FineTuning(trained, **{"steps": 10, name: value})


def test_methods_that_cannot_are_refused(dataset, tmp_path):
    config = bc.Config(**SIZES)
    train(bc.METHOD, [dataset], [0], config, steps=2, out=tmp_path, quiet=True)
    with pytest.raises(ValueError, match="BC cannot be fine-tuned in an environment; spot, car"):
        FineTuning(trained_runs([tmp_path])[0].population, steps=10)


@pytest.mark.parametrize("form", ["spot", "car"])
def test_online_updates_leave_densities_and_accepted_pairs_as_they_are(form):
    module, config = FORMS[form]
    data = data_of()
    agent = module.Agent([config], data, [0])
    batch = sampled_batch(data, rows=16)
    for step in range(8):
        agent.update(batch, agent.phase(step))
    expected = [
        {"critics.parameters"},
        {"critics.parameters", "critics.target", "policy.parameters", "policy.target"},
    ]
    for step, names in enumerate(expected):
        before = snapshot(agent)
        metrics = agent.update_online(batch, step, 0.5)
        assert moved(agent, before) == names
        assert not any(value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("form", ["spot", "car"])
def test_the_regulariser_is_scaled(form):
    """Half the weight by the factor is half the weight in the config."""
    module, config = FORMS[form]
    results = []
    for weight, factor in ((0.4, 0.5), (0.2, 1.0), (0.4, 1.0)):
        data = data_of()
        agent = module.Agent([replace(config, density_weight=weight)], data, [0])
        agent.update_online(sampled_batch(data, rows=16), 1, factor)
        results.append(agent.td3.policy.parameters.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(("changed", "matters"), [("mix", True), ("behaviour", False)])
def test_cars_reference_online_is_mix(changed, matters):
    results = []
    for factor in (1.0, 1.5):
        data = data_of()
        agent = car.Agent([CAR], data, [0])
        getattr(agent, changed).parameters.data.mul_(factor)
        agent.update_online(sampled_batch(data, rows=16), 1, 1.0)
        results.append(agent.td3.policy.parameters.detach().clone())
    assert torch.equal(*results) != matters


@pytest.mark.parametrize("form", FORMS)
def test_actors_and_act_agree(form, dataset):
    module, config = FORMS[form]
    data = data_of()
    agent = module.Agent([replace(config, dropout=0.5)], data, [0])
    observations = sampled_batch(data, rows=16).observations
    frame = data.frame(0)
    raw = observations[0] * frame.std + frame.mean
    expected = agent.actor(0)(raw, torch.empty(16, 0))
    torch.testing.assert_close(agent.act(observations)[0].detach(), expected)


def test_another_discount_online(dataset, tmp_path):
    trained = population(dataset, tmp_path)
    learning = Learning(FineTuning(trained, steps=10, discount=0.5))
    td3, batch = learning.trainer.agent.td3, sampled_batch(learning.trainer.data, rows=16)
    actions = td3.target_actions(batch)
    values = td3.critics.target_values(batch.next_observations, actions).amin(0)
    expected = batch.rewards + 0.5 * values * ~batch.terminations
    torch.testing.assert_close(td3.targets(batch, actions), expected)
    with pytest.raises(ValueError, match="discount is 2"):
        Learning(FineTuning(trained, steps=10, discount=2.0))


@pytest.mark.parametrize(
    ("method", "name", "discount"),
    [
        ("spot", "antmaze-large-noisy", 0.995),
        ("car_g", "antmaze-large-noisy-10k", 0.995),
        ("car", "antmaze-medium-noisy", 0.9),
        ("iql", "antmaze-large-noisy", 0.9),
    ],
)
def test_large_mazes_have_another_discount_online(method, name, discount):
    """SPOT's and CAR's; the rest keep that of training."""
    chosen = get_method(method, "continuous")
    config = replace(chosen.config_for(get_spec(name)), discount=0.9)
    assert chosen.config_online(config, get_spec(name)) == replace(config, discount=discount)


def test_what_is_collected_is_prepared_as_the_dataset_is(dataset, tmp_path):
    changes = {"normalise_observations": True, "reward_scale": 2.0, "reward_shift": -1.0}
    trained = population(dataset, tmp_path, **changes)
    tuning = FineTuning(trained, steps=10, noise=0.3)
    learning = Learning(tuning)
    agent, frame = learning.trainer.agent, learning.trainer.data.frame(0)
    learning._environments.begin(np.ones(2, bool))
    start = learning._environments.observations.copy()
    seen = torch.stack([frame.observe(torch.from_numpy(each)) for each in start])
    chosen = agent.act(seen[:, None])[:, 0].detach()
    noise = MemberRandom([0, 1], "exploration").normal(2)
    learning._collect(agent)
    collected = learning._data.state_dict()
    actions = collected["actions"].view(2, 10, 2)[:, 0]
    torch.testing.assert_close(actions, (chosen + 0.3 * noise).clamp(-1, 1))
    torch.testing.assert_close(collected["observations"].view(2, 10, 2)[:, 0], seen)
    place = start + 0.1 * actions.numpy()
    successor = collected["next_observations"].view(2, 10, 2)[:, 0] * frame.std + frame.mean
    assert successor.numpy() == pytest.approx(place, abs=1e-5)
    rewards = -2.0 * np.linalg.norm(place, axis=-1) - 1.0
    assert collected["rewards"].view(2, 10)[:, 0].numpy() == pytest.approx(rewards, abs=1e-5)


def test_successors_are_true_ones_where_episodes_end(dataset, tmp_path):
    trained = population(dataset, tmp_path)
    steps = POINT_HORIZON + 5
    learning = Learning(FineTuning(trained, steps=steps, noise=0.3))
    learning.advance(steps)
    assert (learning._environments.episodes > 1).all()
    frame, collected = learning.trainer.data.frame(0), learning._data.state_dict()
    place, successor = (
        (collected[name] * frame.std + frame.mean).numpy()
        for name in ("observations", "next_observations")
    )
    expected = place + 0.1 * collected["actions"].numpy()
    assert successor == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_records_go_from_the_offline_score_to_the_fine_tuned_one(form, dataset, tmp_path):
    trained = population(dataset, tmp_path, form)
    tuning = FineTuning(trained, steps=30, cut_every=10, eval_every=20, log_every=15)
    runs = fine_tune(tuning, tmp_path, quiet=True)
    for number, run in enumerate(runs):
        assert run.method == f"{form}_online"
        assert [each.step for each in run.evaluations] == [OFFLINE, OFFLINE + 20, OFFLINE + 30]
        assert run.evaluations[0] == trained.ledger.evaluations[number][-1]
        assert run.budget.steps == OFFLINE + 30
        assert run.budget.wall_seconds > trained.ledger.wall_seconds > 0.0
        assert run.config["online_decay_share"] == 0.2
        assert run.config["online_discount"] == run.config["discount"]
        curve = run.metrics["loss"]
        assert [step for step, _ in curve] == [30, 35, 40, 50]
        assert all(value is not None for _, value in curve)
    for member, run in zip(trained.plan.members, runs, strict=True):
        assert read_run_file(tuning.run_path(tmp_path, member)) == [run]
    assert fine_tune(tuning, tmp_path, quiet=True) == runs


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_run_continues_to_the_same_results(form, dataset, tmp_path, monkeypatch):
    trained = population(dataset, tmp_path / "offline", form)
    tuning = FineTuning(trained, steps=50, cut_every=20, log_every=10)
    straight = fine_tune(tuning, tmp_path / "straight", quiet=True)
    advance = Learning.advance

    def interrupted(self, stop):
        if stop == 40:
            raise KeyboardInterrupt
        advance(self, stop)

    monkeypatch.setattr(Learning, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(tuning, tmp_path / "resumed", quiet=True)
    monkeypatch.setattr(Learning, "advance", advance)
    assert read_checkpoint(tuning.checkpoint_path(tmp_path / "resumed"))[1]["step"] == 20
    resumed = fine_tune(tuning, tmp_path / "resumed", quiet=True)
    tensors = [
        read_checkpoint(tuning.checkpoint_path(tmp_path / name))[0]
        for name in ("straight", "resumed")
    ]
    for name, tensor in tensors[0].items():
        assert torch.equal(tensors[1][name], tensor), name
    for one, other in zip(straight, resumed, strict=True):
        assert one.evaluations == other.evaluations
        assert one.metrics == other.metrics


def test_a_finished_run_is_not_run_again(dataset, tmp_path, monkeypatch, capsys):
    trained = population(dataset, tmp_path)
    tuning = FineTuning(trained, steps=10)
    runs = fine_tune(tuning, tmp_path, quiet=True)
    first, second = (tuning.run_path(tmp_path, member) for member in trained.plan.members)
    stamp = first.stat().st_mtime_ns
    second.unlink()
    monkeypatch.setattr(Learning, "advance", None)
    assert fine_tune(tuning, tmp_path) == runs
    assert "SPOT × 2 online: already trained, nothing to do" in capsys.readouterr().err
    assert first.stat().st_mtime_ns == stamp
    assert read_run_file(second) == [runs[1]]


def test_a_checkpoint_of_other_code_does_not_pass_silently(dataset, tmp_path, capsys):
    tuning = FineTuning(population(dataset, tmp_path), steps=10)
    fine_tune(tuning, tmp_path, quiet=True)
    path = tuning.checkpoint_path(tmp_path)
    tensors, facts = read_checkpoint(path)
    write_checkpoint(path, tensors, facts | {"commit": "0" * 40})
    fine_tune(tuning, tmp_path)
    assert f"trained by other code (commit {'0' * 40}, now " in capsys.readouterr().err


def test_another_population_of_the_same_plan_is_another(dataset, tmp_path):
    trained = population(dataset, tmp_path)
    tensors, facts = read_checkpoint(trained.path)
    copies = [tmp_path / name / "checkpoint.safetensors" for name in ("same", "other")]
    for copy in copies:
        copy.parent.mkdir()
        write_checkpoint(copy, tensors, facts | {"commit": "0" * 40})
        next(each for each in tensors.values() if each.is_floating_point()).view(-1)[0] += 1
    same, other = (FineTuning(replace(trained, path=copy), steps=10) for copy in copies)
    assert same.fingerprint == FineTuning(trained, steps=10).fingerprint != other.fingerprint


def test_seeds_make_a_difference_and_options_too(dataset, tmp_path):
    trained = population(dataset, tmp_path)
    tuning = FineTuning(trained, steps=10)
    fine_tune(tuning, tmp_path, quiet=True)
    other = replace(tuning, noise=0.2)
    assert other.checkpoint_path(tmp_path) != tuning.checkpoint_path(tmp_path)
    with pytest.raises(FileExistsError, match="results of another run are in the way"):
        fine_tune(other, tmp_path, quiet=True)
    fine_tune(other, tmp_path, overwrite=True, quiet=True)
    collected = [
        read_checkpoint(each.checkpoint_path(tmp_path))[0]["online.actions"].view(2, 10, 2)
        for each in (tuning, other)
    ]
    assert not torch.equal(collected[0][0], collected[0][1])
    assert not torch.equal(collected[0], collected[1])


def test_the_trained_population_stays_as_it_was(dataset, tmp_path):
    trained = population(dataset, tmp_path, "car")
    before, _ = read_checkpoint(trained.path)
    fine_tune(FineTuning(trained, steps=10), tmp_path, quiet=True)
    after, _ = read_checkpoint(trained.path)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_fine_tuned_runs_are_read_back(dataset, tmp_path):
    trained = population(dataset, tmp_path)
    tuning = FineTuning(trained, steps=30, cut_every=20, noise=0.5)
    fine_tune(tuning, tmp_path, quiet=True)
    found = trained_runs([tmp_path])
    assert [each.run.method for each in found] == 2 * ["spot"] + 2 * ["spot_online"]
    tensors, _ = read_checkpoint(tuning.checkpoint_path(tmp_path))
    for each in found[2:]:
        parameters = tensors["agent.policy.parameters"][each.number : each.number + 1]
        assert torch.equal(each.actor().parameters, parameters)
        assert not torch.equal(each.actor().parameters, found[each.number].actor().parameters)
    with pytest.raises(ValueError, match="has been fine-tuned; give the trained runs"):
        FineTuning(found[2].population, steps=10)


def test_the_command_shows_scores_before_and_after(dataset, tmp_path, capsys):
    population(dataset, tmp_path)
    arguments = FineTuneArguments(runs=(tmp_path / "spot",), steps=10, out=tmp_path)
    arguments.run()
    shown = capsys.readouterr().out
    assert "SPOT × 2 online, 10 steps" in shown
    assert "point-v0 seed 1" in shown
    assert "fine-tuned" in shown
    # What lies beside the trained runs by now is not fine-tuned once more.
    replace(arguments, runs=(tmp_path,)).run()
    assert capsys.readouterr().out == shown
    with pytest.raises(ValueError, match="all of these runs have been fine-tuned"):
        replace(arguments, runs=(tmp_path / "spot_online",)).run()


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_fine_tuning_improves_a_policy_that_was_held_back(form, dataset, tmp_path):
    """By 600 steps in the environment, from scores of 39 to 63 to 97 and more."""
    rates = {"critic_rate": 3e-3, "policy_rate": 3e-3}
    changes = {
        "spot": {"density_weight": 5.0, "density_steps": 100, "density_rate": 3e-3, **rates},
        "car": {"density_weight": 5.0, "warmup_steps": 100, "behaviour_rate": 3e-3, **rates},
        "iql": {"inverse_temperature": 5.0, "learning_rate": 3e-3},
    }[form]
    sizes = {"hidden_sizes": (32, 32), "batch_size": 64, "target_rate": 0.02, "dropout": 0.0}
    steps = 60 if form == "iql" else 300  # IQL has no weight to relax: it is stopped early
    trained = population(dataset, tmp_path, form, steps=steps, **changes, **sizes)
    tuning = FineTuning(trained, steps=600, floor=0.01)
    for run in fine_tune(tuning, tmp_path, quiet=True):
        before, after = (
            dataset.spec.normalized_score(run.evaluations[which].returns).mean()
            for which in (0, -1)
        )
        assert before < 70.0
        assert after > 90.0
