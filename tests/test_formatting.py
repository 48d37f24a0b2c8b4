from __future__ import annotations

import math

from hetero_bench import formatting
from hetero_bench.bootstrap import Interval, RankInterval

NO_BOUNDS = Interval(1.0, math.nan, math.nan)


def test_numbers_have_true_minus_signs_and_no_negative_zero():
    assert formatting.number(-12.34) == "−12.3"
    assert formatting.number(-0.04) == "0.0"
    assert formatting.number(12345.678, 2) == "12,345.68"
    assert formatting.number(math.nan) == "–"


def test_intervals_without_bounds_show_the_estimate_alone():
    assert formatting.estimate(Interval(1.0, -2.0, 3.0)) == "1.0 [−2.0, 3.0]"
    assert formatting.estimate(NO_BOUNDS) == "1.0"
    assert formatting.bounds(NO_BOUNDS) == "–"
    assert formatting.plus_minus(1.0, 2.0) == "1.0 ± 2.0"
    assert formatting.plus_minus(1.0, math.nan) == "1.0"
    assert formatting.mean_and_std([1.0, 3.0]) == "2.0 ± 1.4"  # √2, not 1
    assert formatting.mean_and_std([1.0]) == "1.0"


def test_ranks_are_ranges():
    assert formatting.rank(RankInterval(1, 1, 3)) == "1–3"
    assert formatting.rank(RankInterval(2, 2, 2)) == "2"


def test_integers_join_into_ranges():
    assert formatting.integers([7, 0, 1, 2, 4, 4]) == "0–2, 4, 7"
    assert formatting.integers([]) == ""


def test_control_characters_are_replaced_and_long_text_is_cut():
    assert formatting.printable("a\x1b[0m\n") == "a�[0m�"
    assert formatting.shorten("abcdef", 4) == "abc…"
    assert formatting.shorten("abcd", 4) == "abcd"
