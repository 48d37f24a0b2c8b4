"""Sharded work: equal results whatever the number of workers, and clean failures."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hetero_bench.shards import default_workers, run_shards

HERE = "tests.test_shards"


def draw(arguments, shard):
    rng = np.random.default_rng([arguments["seed"], shard])
    print("workers may print")
    return {"values": rng.standard_normal(shard + 1), "pid": np.array(os.getpid())}


def fail_in_third(arguments, shard):
    if shard == 2:
        raise ArithmeticError(f"no luck with {arguments['seed']}")
    return {"values": np.zeros(1)}


def die(arguments, shard):
    os._exit(3)


def die_while_replying(arguments, shard):
    os.write(1, b'{"err')
    os._exit(3)


def warn_from_c(arguments, shard):
    """As MuJoCo does where a simulation is unstable: past Python's ``sys.stdout``."""
    os.write(1, b"WARNING: huge value in QACC\n")
    return {"values": np.full(2, shard)}


def threads(arguments, shard):
    return {"threads": np.array(int(os.environ["OPENBLAS_NUM_THREADS"]))}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Lets the workers import this module."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def test_equal_results_whatever_the_number_of_workers():
    calls = []
    one, three = (
        run_shards(
            f"{HERE}:draw",
            {"seed": 7},
            5,
            workers=workers,
            progress=lambda done, total: calls.append((done, total)),
        )
        for workers in (1, 3)
    )
    assert calls == [(done, 5) for done in range(1, 6)] * 2
    for shard, (first, second) in enumerate(zip(one, three, strict=True)):
        expected = np.random.default_rng([7, shard]).standard_normal(shard + 1)
        np.testing.assert_array_equal(first["values"], expected)
        np.testing.assert_array_equal(second["values"], expected)
    assert len({int(arrays["pid"]) for arrays in one}) == 1
    assert len({int(arrays["pid"]) for arrays in three}) > 1


def test_a_failing_shard_is_named_with_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"(?s)shard 2 could not.*ArithmeticError: no luck with 7"
    ):
        run_shards(f"{HERE}:fail_in_third", {"seed": 7}, 4, workers=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["die", "die_while_replying"])
def test_a_worker_that_dies_is_an_error(how, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="shard 0 could not be computed: the worker process"):
        run_shards(f"{HERE}:{how}", {}, 1)
    assert not list(tmp_path.iterdir())


def test_what_a_library_prints_is_no_reply(capfd):
    first, second = run_shards(f"{HERE}:warn_from_c", {}, 2, workers=1)
    assert (first["values"].tolist(), second["values"].tolist()) == ([0, 0], [1, 1])
    assert capfd.readouterr().err.count("WARNING: huge value") == 2


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_shards(f"{HERE}:draw", {"seed": 0}, 4, workers=2, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_kept_shards_are_taken_up_and_removed_at_the_end(tmp_path):
    keep = tmp_path / "kept"
    arguments = {"seed": 7}
    whole = run_shards(f"{HERE}:draw", arguments, 4, workers=1)

    def interrupt_at(last):
        told = []

        def progress(done, total):
            told.append(done)
            if done == last:
                raise KeyboardInterrupt

        return progress, told

    progress, _ = interrupt_at(2)
    with pytest.raises(KeyboardInterrupt):
        run_shards(f"{HERE}:draw", arguments, 4, workers=1, progress=progress, keep=keep)
    progress, told = interrupt_at(None)
    again = run_shards(f"{HERE}:draw", arguments, 4, workers=1, progress=progress, keep=keep)
    assert told in ([3, 4], [4])  # a third may have been finished before its worker was ended
    assert len({int(arrays["pid"]) for arrays in again}) == 2
    for first, second in zip(whole, again, strict=True):
        np.testing.assert_array_equal(first["values"], second["values"])
    assert not keep.exists()


def test_shards_kept_of_another_job_are_not_used(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_shards(f"{HERE}:draw", {"seed": 7}, 3, progress=interrupt, keep=tmp_path / "kept")
    other = run_shards(f"{HERE}:draw", {"seed": 8}, 3, keep=tmp_path / "kept")
    expected = run_shards(f"{HERE}:draw", {"seed": 8}, 3)
    for first, second in zip(other, expected, strict=True):
        np.testing.assert_array_equal(first["values"], second["values"])


def test_workers_use_one_blas_thread():
    (arrays,) = run_shards(f"{HERE}:threads", {}, 1)
    assert arrays["threads"] == 1


def test_number_of_workers(monkeypatch):
    monkeypatch.delenv("HETERO_BENCH_WORKERS", raising=False)
    assert default_workers() >= 1
    monkeypatch.setenv("HETERO_BENCH_WORKERS", "3")
    assert default_workers() == 3
    monkeypatch.setenv("HETERO_BENCH_WORKERS", "many")
    with pytest.raises(ValueError, match="HETERO_BENCH_WORKERS is 'many'"):
        default_workers()
    with pytest.raises(ValueError, match="0 shards"):
        run_shards(f"{HERE}:draw", {}, 0, workers=1)
