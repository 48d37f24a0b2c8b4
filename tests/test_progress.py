"""Progress without a terminal, where a bar cannot be drawn."""

from __future__ import annotations

import pytest

from hetero_bench import progress


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress_bar("[building] ants") as advance:
        for done in (1, 2, 3, 1_000_000):
            advance(done, 1_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "[building] ants: 2 of 1,000,000",
        "[building] ants: 1,000,000 of 1,000,000",
    ]


def test_what_is_quick_or_not_begun_says_nothing(capsys):
    with progress.progress_bar("quick") as advance:
        advance(1, 2)
    with pytest.raises(RuntimeError, match="broken"), progress.progress_bar("broken"):
        raise RuntimeError("broken")
    assert capsys.readouterr().err == ""
