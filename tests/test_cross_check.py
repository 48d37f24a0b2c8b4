from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import hetero_bench
from baselines import iql
from baselines.engine import get_method
from baselines.parts.networks import MLP
from benchmarks.cross_check.cases import CASES
from benchmarks.cross_check.equivalents import EQUIVALENTS, PREPARED, d3rlpy_settings
from benchmarks.cross_check.page import (
    merged,
    scores_table,
    settings_table,
    weights_table,
    write_scores,
)
from benchmarks.cross_check.process import COLUMNS, write_inputs
from benchmarks.cross_check.verdicts import verdict
from benchmarks.cross_check.weights import (
    copy_log_std,
    flat,
    joined_heads,
    means,
    moved,
    read_layers,
)
from hetero_bench.bootstrap import Interval
from tests.continuous import data_of
from tests.toy import point

HOPPER = "hopper-medium-hb-10k"


def config_of(method, **changes):
    return dataclasses.replace(get_method(method, "continuous").config(), **changes)


@pytest.mark.parametrize("name", EQUIVALENTS)
def test_every_setting_of_a_method_is_accounted_for(name):
    equivalent = EQUIVALENTS[name]
    places = [equivalent.names, equivalent.networks, equivalent.absent, PREPARED]
    for field in dataclasses.fields(get_method(name, "continuous").config):
        assert sum(field.name in place for place in places) == 1, field.name


def test_settings_of_td3_bc_in_the_words_of_d3rlpy():
    config = config_of("td3_bc", alpha=1.5, policy_noise=0.1, noise_clip=0.3, hidden_sizes=(8, 4))
    assert d3rlpy_settings("td3_bc", config, 100) == {
        "method": "td3_bc",
        "config": {
            "batch_size": 256,
            "gamma": 0.99,
            "tau": 0.005,
            "alpha": 1.5,
            "target_smoothing_sigma": 0.1,
            "target_smoothing_clip": 0.3,
            "update_actor_interval": 2,
            "actor_learning_rate": 3e-4,
            "critic_learning_rate": 3e-4,
            "n_critics": 2,
        },
        "hidden_units": {"actor": [8, 4], "critic": [8, 4]},
        "cosine_steps": None,
    }


def test_the_step_size_of_iqls_actor_falls_over_the_run():
    settings = d3rlpy_settings("iql", config_of("iql"), 700)
    assert settings["cosine_steps"] == 700
    assert settings["config"]["weight_temp"] == 3.0
    assert settings["config"]["expectile"] == 0.7
    assert set(settings["hidden_units"]) == {"actor", "critic", "value"}


def test_cql_has_no_multiplier_and_no_entropy_in_its_targets():
    config = config_of("cql", orthogonal=False, penalty=7.0, samples=4, policy_rate=2e-4)
    settings = d3rlpy_settings("cql", config, 1)["config"]
    assert settings["conservative_weight"] == 7.0
    assert settings["n_action_samples"] == 4
    assert settings["actor_learning_rate"] == settings["temp_learning_rate"] == 2e-4
    assert settings["alpha_learning_rate"] == settings["alpha_threshold"] == 0.0
    assert settings["soft_q_backup"] is settings["max_q_backup"] is False


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("iql", {"dropout": 0.1}),
        ("cql", {"orthogonal": True}),
        ("cql", {"orthogonal": False, "gap": 1.0}),
        ("cql", {"orthogonal": False, "diff_min": -1.0}),
    ],
)
def test_what_d3rlpy_cannot_do_is_refused(name, changes):
    with pytest.raises(ValueError, match=f"d3rlpy has no {[*changes][-1]}"):
        d3rlpy_settings(name, config_of(name, **changes), 1)


def test_other_methods_are_refused():
    with pytest.raises(ValueError, match="bc is not compared with d3rlpy"):
        d3rlpy_settings("bc", None, 1)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_both_libraries_can_do_every_case(case):
    config = case.config(hetero_bench.get_spec(HOPPER))
    settings = d3rlpy_settings(case.method, config, case.steps)
    assert settings["config"].get("max_q_backup", False) is case.changes.get("max_backup", False)


def test_inputs_are_the_transitions_as_networks_see_them(tmp_path):
    method, dataset = get_method("td3_bc", "continuous"), point()
    config = config_of("td3_bc", reward_scale=2.0, reward_shift=1.0)
    write_inputs(tmp_path, method, config, dataset, steps=10)
    with np.load(tmp_path / "data.npz", allow_pickle=False) as file:
        written = dict(file)
    assert set(written) == set(COLUMNS)
    np.testing.assert_allclose(written["rewards"], 2.0 * dataset.transitions.rewards + 1.0)
    np.testing.assert_array_equal(written["truncations"], dataset.transitions.truncations)
    np.testing.assert_allclose(written["observations"].mean(0), 0.0, atol=1e-4)
    settings = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    assert settings == d3rlpy_settings("td3_bc", config, 10)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-5.0, 5.0, "equal"),
        (1.0, 2.0, "equal"),
        (-5.1, 0.0, "undecided"),
        (4.0, 6.0, "undecided"),
        (-9.0, 9.0, "undecided"),
        (5.1, 6.0, "differs"),
        (-8.0, -5.1, "differs"),
    ],
)
def test_verdicts_follow_from_the_interval(low, high, expected):
    assert verdict(Interval(0.5 * (low + high), low, high), margin=5.0) == expected


def document(ours, theirs, case="td3_bc"):
    config = CASES[case].config(hetero_bench.get_spec(HOPPER))
    method = CASES[case].method
    return {
        "case": case,
        "dataset": {"id": f"{HOPPER}-v0", "digest": "0" * 64},
        "steps": CASES[case].steps,
        "preparation": {},
        "d3rlpy_settings": d3rlpy_settings(method, config, CASES[case].steps),
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "versions": {},
        "returns": {"hetero_bench": ours, "d3rlpy": theirs},
    }


def test_seeds_of_the_same_comparison_come_together(tmp_path):
    write_scores(document({"10": [1.0]}, {"2": [2.0]}), tmp_path)
    path = write_scores(document({"2": [3.0]}, {"2": [4.0]}), tmp_path)
    returns = json.loads(path.read_text(encoding="utf-8"))["returns"]
    assert list(returns["hetero_bench"].items()) == [("2", [3.0]), ("10", [1.0])]
    assert returns["d3rlpy"] == {"2": [4.0]}


def test_seeds_of_another_comparison_do_not(tmp_path):
    old, new = document({"0": [1.0]}, {"0": [1.0]}), document({"1": [1.0]}, {"1": [1.0]})
    assert merged(old | {"steps": 5}, new) == new


def test_the_table_of_scores(tmp_path):
    spec = hetero_bench.get_spec(HOPPER)
    low, high = spec.reference.random, spec.reference.expert

    def returns(score):  # two episodes around it
        mean = low + (high - low) * score / 100
        return [mean - 100.0, mean + 100.0]

    ours = {str(seed): returns(score) for seed, score in enumerate((30.0, 31.0, 32.0))}
    theirs = {str(seed): returns(score) for seed, score in enumerate((29.0, 30.0, 31.0))}
    write_scores(document(ours, theirs, "iql"), tmp_path)
    write_scores(document(ours, {"0": theirs["0"]}), tmp_path)
    first, second = scores_table(tmp_path).splitlines()[2:]
    assert first.startswith(f"| `{HOPPER}-v0` | TD3+BC | 10,000 | 3, 1 | 31.0 ± 1.0 | 29.0 |")
    assert first.endswith("| 2.0 | undecided |")
    # Welch: variance 1/3 + 1/3, four degrees of freedom, 2.776 standard errors.
    assert second.endswith("| 31.0 ± 1.0 | 30.0 ± 1.0 | 1.0 [−1.3, 3.3] | equal |")


def test_the_table_of_settings_has_both_names(tmp_path):
    write_scores(document({"0": [1.0]}, {"0": [1.0]}, "cql"), tmp_path)
    lines = settings_table(tmp_path).splitlines()
    assert "| CQL | `penalty` | `conservative_weight` | 10.0 |" in lines
    assert "| CQL | `critic_sizes` | `critic_encoder_factory` | [256, 256] |" in lines
    assert "| CQL | `reward_scale` | in the data | 1.0 |" in lines
    assert "| CQL | `gap` | – | none |" in lines
    assert "| CQL | – | `alpha_learning_rate` | 0.0 |" in lines


def linear_layers(*sizes):
    torch.manual_seed(0)
    return [torch.nn.Linear(*pair) for pair in sizes]


def as_arrays(layers):
    return [(each.weight.detach().numpy(), each.bias.detach().numpy()) for each in layers]


def test_copied_weights_make_the_same_network():
    hidden, last = linear_layers((3, 8), (8, 2))
    inputs = torch.randn(5, 3)
    network = MLP((3, 8, 2))
    outputs = network(flat(as_arrays([hidden, last])).unsqueeze(0), inputs.unsqueeze(0))[0]
    torch.testing.assert_close(outputs, last(hidden(inputs).relu()))


def test_two_heads_become_one_layer_mean_first():
    hidden, mean, log_std = linear_layers((3, 8), (8, 2), (8, 2))
    inputs = torch.randn(5, 3)
    parameters = flat(joined_heads(as_arrays([hidden, mean, log_std])))
    outputs = MLP((3, 8, 4))(parameters.unsqueeze(0), inputs.unsqueeze(0))[0]
    features = hidden(inputs).relu()
    torch.testing.assert_close(outputs, torch.cat([mean(features), log_std(features)], dim=-1))


def test_layers_are_read_in_their_order():
    file = {f"before/policy/{n}/{part}": np.array(n) for n in range(11) for part in PARTS}
    assert [int(weight) for weight, _ in read_layers(file, "before/policy")] == [*range(11)]
    assert read_layers(file, "before/value_func") == []


PARTS = ("weight", "bias")


def test_a_difference_of_means_with_its_error():
    found = means(np.array([1.0, 3.0]), np.array([0.0, 1.0, 2.0, 3.0]))
    assert found["size"] == 1.5
    assert found["difference"] == 0.5
    assert found["error"] == pytest.approx(math.sqrt(2.0 / 2 + (5.0 / 3.0) / 4))


def test_one_update_each_has_no_error():
    found = means(np.array([1.5]), np.array([1.0]))
    assert found == {"size": 1.0, "difference": 0.5, "error": None}


def test_log_standard_deviations_are_copied_and_layers_are_not():
    agent = iql.Agent([iql.Config(hidden_sizes=(4,))], data_of(1), [0])
    before = agent.policy.parameters.detach().clone()
    copy_log_std(agent, np.array([-1.5, -0.5], np.float32))
    assert agent.policy.extra().tolist() == [[[-1.5, -0.5]]]
    assert torch.equal(agent.policy.parameters[:, :-2], before[:, :-2])


def test_parameters_that_are_no_layers_are_not_compared():
    (layer,) = linear_layers((3, 2))
    file = {f"after/policy/0/{part}": getattr(layer, part).detach().numpy() for part in PARTS}
    theirs = flat(as_arrays([layer]))
    ended = torch.cat([theirs, torch.tensor([7.0])])
    found = moved(torch.zeros(9), ended + 0.25, file, "policy")
    assert found["difference"] == pytest.approx(0.25, rel=1e-5)
    assert found["size"] == pytest.approx(float((theirs + 0.25).abs().max()))


def test_the_table_of_equal_weights(tmp_path):
    assert len(weights_table(tmp_path).splitlines()) == 2  # nothing measured yet
    entries = [
        {"case": "iql", "updates": 20, "quantity": "q", "size": 6e-3, "difference": 3e-8},
        {"case": "cql", "updates": 9, "quantity": "loss", "size": 5.0, "difference": -0.5},
    ]
    entries[0]["error"], entries[1]["error"] = None, 1.0
    (tmp_path / "equal_weights.json").write_text(json.dumps(entries), encoding="utf-8")
    assert weights_table(tmp_path).splitlines()[2:] == [
        "| IQL | 20 | q | 6.0e-03 | 3.0e-08 |",
        "| CQL | 9 | loss | 5.000 | −0.500 ± 1.960 |",
    ]
