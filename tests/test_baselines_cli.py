from __future__ import annotations

import shlex

import pytest

from baselines import bc, cql
from baselines.cli import main, parse_sweep, parse_train
from baselines.engine import get_method, list_methods
from hetero_bench.runs import read_runs
from tests.toy import corridor


@pytest.fixture
def toy_datasets(monkeypatch, tmp_path):
    """``load`` knows the corridor, and results go to the test's folder."""

    def load(name):
        return {"corridor": corridor, "other": lambda: corridor("other", seed=1)}[name]()

    monkeypatch.setattr("hetero_bench.load", load)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["train", "--method", "cql", "--dataset", "corridor", "--steps", "20"]
SMALL = ["--config.hidden-sizes", "8", "--config.batch-size", "8"]


def test_arguments_of_train_depend_on_the_method():
    arguments = shlex.split(
        "--method cql --dataset a b --seeds 0 1 2 --config.alpha 0.1 --config.hidden-sizes 8 4 "
        "--sweep alpha=1 --sweep temperature=2 --eval-every 50 --dry-run"
    )
    options, config = parse_train(arguments)
    assert config == cql.Config(alpha=0.1, hidden_sizes=(8, 4))
    assert (options.dataset, options.seeds) == (("a", "b"), (0, 1, 2))
    assert options.sweep == ("alpha=1", "temperature=2")
    assert (options.eval_every, options.dry_run, options.overwrite) == (50, True, False)
    assert parse_train(["--method=bc", "--dataset", "a"])[1] == bc.Config()


def test_unknown_hyperparameters_and_types_are_refused(capsys):
    for extra in (["--config.alpha", "0.1"], ["--config.batch-size", "many"]):
        with pytest.raises(SystemExit):
            parse_train(["--method", "bc", "--dataset", "a", *extra])
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


def test_interruption_says_how_to_go_on(toy_datasets, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("baselines.cli.execute", interrupted)
    assert main([*TRAIN, *SMALL]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_usage(capsys):
    assert main(["--help"]) == 0
    assert main([]) == 0
    assert main(["trane"]) == 2
    assert "no command 'trane'" in capsys.readouterr().err
    for arguments in (["train", "--help"], ["train", "--method", "cql", "--help"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
    assert "--config.alpha" in capsys.readouterr().out


def test_methods_are_found_by_their_declaration(capsys):
    methods = list_methods()
    assert {"bc", "cql"} <= {method.name for method in methods}
    assert get_method("cql") is cql.METHOD
    for method in methods:
        config = method.config()
        assert config == method.config()
        assert hash(config) == hash(method.config())
        assert config.batch_size > 0
    assert main(["list"]) == 0
    assert "NeurIPS 2020" in capsys.readouterr().out
