from __future__ import annotations

import dataclasses
import importlib
import os
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

import baselines
from baselines import bc_discrete as bc
from baselines import cql_discrete as cql
from baselines.arguments import parse_sweep, parse_train
from baselines.cli import main
from baselines.diagnostics import DIAGNOSTICS
from baselines.engine import get_method, list_methods
from baselines.named import find_named
from baselines.reproduce import REPRODUCTIONS
from hetero_bench.runs import read_runs
from tests.toy import corridor, point


@pytest.fixture
def toy_datasets(monkeypatch, tmp_path):
    """``load`` knows the corridor, and results go to the test's folder."""

    def load(name, *, size=None, draw=None):
        makers = {
            "corridor": corridor,
            "other": lambda: corridor("other", seed=1),
            "point": point,
        }
        dataset = makers[name]()
        return dataset if size is None else dataset.subset(size, draw=draw or 0)

    monkeypatch.setattr("hetero_bench.load", load)
    monkeypatch.setattr("hetero_bench.get_spec", lambda name: load(name).spec)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["train", "--method", "cql", "--dataset", "corridor", "--steps", "20"]
SMALL = ["--config.hidden-sizes", "8", "--config.batch-size", "8"]


def test_arguments_of_train_depend_on_the_method(toy_datasets):
    arguments = shlex.split(
        "--method cql --dataset corridor other --seeds 0 1 2 --config.alpha 0.1 "
        "--config.hidden-sizes 8 4 --sweep discount=0.5,1 --sweep temperature=2 "
        "--eval-every 50 --dry-run"
    )
    request = parse_train(arguments)
    options, config = request.options, cql.Config(alpha=0.1, hidden_sizes=(8, 4))
    assert request.method is cql.METHOD
    assert request.config == config
    assert (options.dataset, options.seeds) == (("corridor", "other"), (0, 1, 2))
    assert request.configs(corridor()) == [
        replace(config, discount=discount, temperature=2.0) for discount in (0.5, 1.0)
    ]
    assert (options.eval_every, options.dry_run, options.overwrite) == (50, True, False)
    assert parse_train(["--method=bc", "--dataset", "corridor"]).config == bc.Config()


def test_the_dataset_decides_which_form_of_a_method_is_meant(toy_datasets, capsys):
    request = parse_train(["--method", "bc", "--dataset", "point"])
    assert request.method.actions == "continuous"
    assert parse_train(["--method", "bc", "--dataset", "corridor"]).method.actions == "discrete"
    assert main(["train", "--method", "td3_bc", "--dataset", "corridor"]) == 1
    said = capsys.readouterr().err
    assert "td3_bc is made for continuous actions; there is no discrete form" in said


def test_fields_that_are_given_override_a_datasets_defaults(toy_datasets):
    command = ["--method", "iql", "--dataset", "point", "--config.expectile", "0.7"]
    maze = point("maze", family="antmaze")
    plain = parse_train(command[:4]).configs(maze)
    assert [config.expectile for config in plain] == [0.9]
    given = parse_train(command).configs(maze)
    assert given == [replace(plain[0], expectile=0.7)]


def test_unknown_hyperparameters_and_types_are_refused(toy_datasets, capsys):
    for extra in (["--config.alpha", "0.1"], ["--config.batch-size", "many"]):
        with pytest.raises(SystemExit):
            parse_train(["--method", "bc", "--dataset", "corridor", *extra])
    assert "batch-size" in capsys.readouterr().err


def test_sweeps_are_parsed_with_the_fields_types():
    assert parse_sweep(
        cql.Config, ["alpha=0.1,1", "hidden-sizes=64 64,8", "greedy=True", "backup=max,policy"]
    ) == {
        "alpha": [0.1, 1.0],
        "hidden_sizes": [(64, 64), (8,)],
        "greedy": [True],
        "backup": ["max", "policy"],
    }


@pytest.mark.parametrize("entry", ["alpha", "alpha=", "alfa=1"])
def test_malformed_sweeps_are_refused(entry):
    with pytest.raises(ValueError, match=r"expected FIELD=VALUE.*alpha, temperature"):
        parse_sweep(cql.Config, [entry])


def test_trains_and_says_where_the_results_are(toy_datasets, capsys):
    command = [*TRAIN, *SMALL, "--seeds", "0", "1", "--sweep", "alpha=0.1,1"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "alpha=0.1" in said.out
    assert "results are in runs" in said.out
    runs = [run for _, run in read_runs(toy_datasets / "runs")]
    assert sorted((run.config["alpha"], run.seed) for run in runs) == [
        (0.1, 0),
        (0.1, 1),
        (1.0, 0),
        (1.0, 1),
    ]
    assert main(command) == 0
    assert "already trained" in capsys.readouterr().err
    assert main([*command, "--log-every", "10"]) == 1
    assert "results of another run are in the way" in capsys.readouterr().err


def test_several_datasets_are_one_population(toy_datasets):
    assert main(["train", "--method", "bc", "--dataset", "corridor", "other", "--steps", "5"]) == 0
    runs = [run for _, run in read_runs(toy_datasets / "runs/bc")]
    assert [run.dataset.id for run in runs] == ["corridor-v0", "other-v0"]
    assert {run.budget.members for run in runs} == {2}


def test_subsets_and_datasets_of_ones_own(toy_datasets, monkeypatch):
    registered = []
    monkeypatch.setattr("hetero_bench.register", registered.append)
    command = ["train", "--method", "bc", "--dataset", "corridor", "--steps", "5"]
    more = ["--size", "100", "--draw", "2", "--register", "a.toml", "--register", "b.hdf5"]
    assert main([*command, *more]) == 0
    ((_, run),) = read_runs(toy_datasets / "runs")
    assert (run.dataset.size, run.dataset.draw) == (100, 2)
    assert registered == ["a.toml", "b.hdf5"]


def test_dry_run_trains_nothing(toy_datasets, capsys):
    assert main([*TRAIN, *SMALL, "--seeds", "0", "1", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "2: 2 seeds on corridor-v0" in said
    assert "20 steps" in said
    assert not (toy_datasets / "runs").exists()


def test_errors_are_one_line_and_a_status(capsys):
    cases = {
        ("train",): "--method is missing; there are: ",
        ("train", "--method", "cqll", "--dataset", "a"): "no method 'cqll'; did you mean cql",
        ("train", "--method", "bc", "--dataset", "gridworld-heter"): "gridworld-hetero",
    }
    for command, message in cases.items():
        assert main(command) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert message in said
        assert "Traceback" not in said


def test_errors_say_where_they_come_from_if_asked(toy_datasets, monkeypatch, capsys):
    def fails(error):
        def execute(*arguments, **options):
            raise error

        monkeypatch.setattr("baselines.cli.execute", execute)

    for error, advice in ((RuntimeError("shapes"), True), (ImportError("no tensorboard"), False)):
        fails(error)
        assert main([*TRAIN, *SMALL]) == 1
        said = capsys.readouterr().err
        assert f"error: {error}" in said
        assert "Traceback" not in said
        assert ("add --debug" in said) == advice
        assert main([*TRAIN, *SMALL, "--debug"]) == 1
        said = capsys.readouterr().err
        assert "Traceback" in said
        assert "add --debug" not in said


def test_a_broken_method_does_not_take_the_others_away(monkeypatch, tmp_path, capsys):
    (tmp_path / "unfinished.py").write_text("import no_such_module\n")
    monkeypatch.setattr("baselines.__path__", [*baselines.__path__, str(tmp_path)])
    assert get_method("bc", "discrete") is bc.METHOD
    assert "cql" in {method.name for method in list_methods()}
    with pytest.raises(ImportError, match="no_such_module"):
        get_method("unfinished")
    with pytest.raises(ValueError, match=r"no method 'cqll'; did you mean cql.*unfinished"):
        get_method("cqll")
    capsys.readouterr()
    assert main(["list"]) == 1
    said = capsys.readouterr()
    assert "Kumar" in said.out
    assert "baselines.unfinished cannot be imported" in said.err


def test_a_method_is_found_without_importing_the_others(monkeypatch):
    imported = []

    def import_module(name):
        imported.append(name)
        return importlib.__import__(name, fromlist=["METHOD"])

    monkeypatch.setattr("baselines.engine.method.importlib.import_module", import_module)
    assert get_method("bc", "discrete") is bc.METHOD
    assert imported == ["baselines.bc", "baselines.bc_discrete"]


def test_interruption_says_how_to_go_on(toy_datasets, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("baselines.cli.execute", interrupted)
    assert main([*TRAIN, *SMALL]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_usage(toy_datasets, capsys):
    assert main(["--help"]) == 0
    assert main([]) == 0
    assert main(["trane"]) == 2
    assert "no command 'trane'" in capsys.readouterr().err
    shown = {
        (): "--dataset",
        ("--method", "cql"): "--config.gap",
        ("--method", "cql", "--dataset", "corridor"): "--config.alpha",
    }
    for arguments, option in shown.items():
        with pytest.raises(SystemExit) as end:
            main(["train", *arguments, "--help"])
        assert end.value.code == 0
        assert option in capsys.readouterr().out


def test_methods_are_found_by_their_declaration(capsys):
    methods = list_methods()
    assert {"bc", "cql"} <= {method.name for method in methods}
    assert get_method("cql", "discrete") is cql.METHOD
    with pytest.raises(ValueError, match="cql has forms for continuous and discrete actions; say"):
        get_method("cql")
    with pytest.raises(ValueError, match="td3_bc is made for continuous actions; there is no disc"):
        get_method("td3_bc", "discrete")
    for method in methods:
        config = method.config()
        assert config == method.config()
        assert hash(config) == hash(method.config())
        assert config.batch_size > 0
    assert main(["list"]) == 0
    assert "NeurIPS 2020" in capsys.readouterr().out


def test_named_things_are_found_and_others_refused(capsys):
    for command, name in (("diagnose", "policy"), ("reproduce", "reds-gridworld")):
        assert main([command]) == 1
        assert name in capsys.readouterr().err
        assert main([command, "--help"]) == 0
        assert name in capsys.readouterr().out
        assert main([command, "polisy"]) == 1
        assert "'polisy'; there are: " in capsys.readouterr().err
    for kind, places in (("diagnostic", DIAGNOSTICS), ("reproduction", REPRODUCTIONS)):
        for name in places:
            found = find_named(kind, places, name)
            assert dataclasses.is_dataclass(found)
            assert callable(found.run)


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP reports its settings so on Linux only")
@pytest.mark.parametrize(
    ("chosen", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_threads_sleep_while_they_wait_unless_the_user_chose(chosen, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | chosen
    command = [sys.executable, "-m", "baselines", "list"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"OMP_WAIT_POLICY = '{expected}'" in result.stderr
