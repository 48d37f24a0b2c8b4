from __future__ import annotations

import json
from pathlib import Path

import pytest

from hetero_bench.runs import (
    COLLECTION_SCHEMA,
    Run,
    RunCollection,
    read_run_file,
    read_runs,
    run_json_schema,
    write_run,
)

DIGEST = "0" * 64


def make_run(**changes) -> Run:
    document = {
        "method": "bc",
        "config": {"learning_rate": 3e-4},
        "dataset": {"id": "toy-v0", "digest": DIGEST},
        "reference": {"random": 0.0, "expert": 1.0},
        "seed": 0,
        "budget": {"steps": 10, "wall_seconds": 1.5, "device": "cpu"},
        "evaluations": [{"step": 10, "seed": 0, "returns": [0.0, 1.0], "lengths": [5, 3]}],
    }
    return Run.model_validate({**document, **changes})


def test_a_run_survives_the_round_trip(tmp_path):
    run = make_run(metrics={"loss": [(1, 0.5), (2, None)]})
    path = write_run(run, tmp_path / "a" / "run.json")
    assert read_run_file(path) == [run]
    assert json.loads(path.read_text())["schema"] == "hetero_bench/run/v1"


def test_folders_are_searched_for_runs_and_collections_only(tmp_path):
    write_run(make_run(seed=1), tmp_path / "x" / "run.json")
    write_run(RunCollection(runs=[make_run(seed=2), make_run(seed=3)]), tmp_path / "all.json")
    (tmp_path / "other.json").write_text("[1, 2]")
    (tmp_path / ".hidden").mkdir()
    write_run(make_run(seed=9), tmp_path / ".hidden" / "run.json")
    found = read_runs(tmp_path)
    assert sorted(run.seed for _, run in found) == [1, 2, 3]
    assert sorted(run.seed for _, run in read_runs([tmp_path, tmp_path / "all.json"])) == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluations": []}, "evaluations"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"dataset": {"id": "toy", "digest": DIGEST}}, "dataset.id"),
        ({"dataset": {"id": "toy-v0", "digest": "abc"}}, "dataset.digest"),
        (
            {"evaluations": [{"step": 1, "seed": 0, "returns": [1.0], "lengths": [1, 2]}]},
            "lengths has 2 entries; expected 1",
        ),
        (
            {"evaluations": [{"step": 1, "seed": 0, "returns": [float("nan")], "lengths": [1]}]},
            "returns.0",
        ),
        (
            {
                "evaluations": [
                    {"step": step, "seed": 0, "returns": [1.0], "lengths": [1]} for step in (2, 2)
                ]
            },
            "must ascend",
        ),
    ],
)
def test_a_run_that_breaks_the_schema_names_file_and_field(tmp_path, changes, message):
    document = {**make_run().model_dump(by_alias=True), **changes}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message) as caught:
        read_run_file(path)
    assert str(path) in str(caught.value)


def test_damaged_foreign_and_missing_files_are_told_apart(tmp_path):
    whole = write_run(make_run(), tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or was cut short"):
        read_runs(tmp_path)
    (tmp_path / "run.json").write_text(whole.replace("run/v1", "run/v9"))
    with pytest.raises(ValueError, match="schema is 'hetero_bench/run/v9'"):
        read_runs(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match="schema is None"):
        read_runs(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match="no run.json"):
        read_runs(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_runs(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "damaged or was cut short"),
        ('{"seed": ' + "9" * 5000 + "}", "damaged or was cut short"),
        ("\xff", "damaged or was cut short"),
    ],
)
def test_hostile_json_is_named_by_file(tmp_path, content, message):
    path = tmp_path / "run.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=message) as caught:
        read_runs(tmp_path)
    assert str(path) in str(caught.value)


def test_collections_are_found_whatever_the_order_of_keys_and_unknown_ones_refused(tmp_path):
    path = write_run(RunCollection(runs=[make_run()]), tmp_path / "all.json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(document.items()))))
    (tmp_path / "folder.json").mkdir()
    assert len(read_runs(tmp_path)) == 1
    path.write_text(json.dumps({**document, "schema": "hetero_bench/runs/v2"}))
    with pytest.raises(ValueError, match="schema is 'hetero_bench/runs/v2'"):
        read_runs(tmp_path)


def test_many_mistakes_make_a_short_message(tmp_path):
    document = make_run().model_dump(by_alias=True)
    document["evaluations"] = [{"step": -1}] * 1000
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="and [0-9]+ more") as caught:
        read_runs(tmp_path)
    assert len(str(caught.value)) < 2000


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = write_run(make_run(), tmp_path / "run.json")
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_run(make_run(seed=5), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_the_published_schema_is_the_models():
    published = Path(__file__).parents[1] / "docs" / "schemas" / "run-v1.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(run_json_schema()))


def test_a_collections_first_bytes_say_what_it_is(tmp_path):
    path = write_run(RunCollection(runs=[make_run()]), tmp_path / "c.json")
    assert COLLECTION_SCHEMA in path.read_text()[:64]
