"""The script that draws learning curves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hetero_bench.runs import Run, write_run

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "make_learning_curves.py"
spec = importlib.util.spec_from_file_location("make_learning_curves", SCRIPT)
assert spec is not None
assert spec.loader is not None
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def write(folder, seed, returns, steps=(10, 20)):
    run = Run.model_validate(
        {
            "method": "bc",
            "config": {},
            "dataset": {"id": "gridworld-hetero-v0", "digest": "0" * 64},
            "reference": {"random": 0.0, "expert": 1.0},
            "seed": seed,
            "budget": {"steps": steps[-1], "wall_seconds": 1.0, "device": "cpu"},
            "evaluations": [
                {"step": step, "seed": seed, "returns": [value, value], "lengths": [1, 1]}
                for step, value in zip(steps, returns, strict=True)
            ],
        }
    )
    write_run(run, folder / f"seed-{seed}" / "run.json")


def test_scores_by_step_and_seed(tmp_path):
    import hetero_bench

    write(tmp_path, 1, (0.0, 0.5))
    write(tmp_path, 0, (0.25, 1.0))
    curve = script.measure([tmp_path])["gridworld-hetero-v0"]["bc"]
    score = hetero_bench.get_spec("gridworld-hetero").normalized_score
    assert (curve["steps"], curve["seeds"]) == ([10, 20], [0, 1])
    expected = [[score(0.25), score(0.0)], [score(1.0), score(0.5)]]
    np.testing.assert_allclose(curve["scores"], expected, atol=1e-3)
    write(tmp_path, 2, (0.0, 0.5), steps=(10, 30))
    with pytest.raises(ValueError, match="evaluated at different steps"):
        script.measure([tmp_path])
    write(tmp_path / "again", 1, (0.0, 0.5))
    with pytest.raises(ValueError, match="seed 1 occurs twice"):
        script.measure([tmp_path])


def test_intervals_are_of_the_mean_over_seeds():
    scores = np.array([[0.0, 100.0] * 50, [7.0] * 100])
    low, high = script.interval(scores, np.random.default_rng(0))
    # 100 seeds of deviation 50: the mean's deviation is 5, its 95% interval ± 1.96 times that
    np.testing.assert_allclose([low[0], high[0]], [50 - 9.8, 50 + 9.8], atol=1.0)
    assert (low[1], high[1]) == (7.0, 7.0)


def test_labels_do_not_overlap_and_keep_their_order():
    moved = script.spread([50.0, 50.5, 10.0, 51.0], 4.0)
    assert moved[0] < moved[1] < moved[3]
    assert np.diff(np.sort(moved)).min() >= 4.0 * 0.999
    assert moved[2] == 10.0
    np.testing.assert_array_equal(script.spread([1.0], 4.0), [1.0])


def test_a_picture_is_drawn():
    curve = {"steps": [10, 20], "seeds": [0, 1], "scores": [[1.0, 2.0], [3.0, 5.0]]}
    one = {"steps": [10], "seeds": [0], "scores": [[4.0]]}
    figure = script.draw({"a-v0": {"bc": curve, "iql": one}, "b-v0": {"bc": curve}})
    panels = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == ["a-v0", "b-v0"]
    assert [text.get_text() for text in panels[0].texts] == ["bc", "iql"]
    assert len(panels[0].collections) == 1  # one seed has no interval
