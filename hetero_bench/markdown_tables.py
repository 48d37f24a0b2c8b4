"""Tables and bars in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from hetero_bench.formatting import NONE, printable

_BAR_LENGTH = 40
"""Characters of the longest bar."""


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Writes a table; numbers are rounded, control characters and bars made harmless.

    Args:
        header: One title per column.
        rows: Cells, None for an empty one.
    """
    header = [*header]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def text_histogram(edges: Sequence[float], counts: Sequence[int]) -> str:
    """Draws a histogram with a line of text per bin, in a code block.

    Args:
        edges: B + 1 ascending.
        counts: B entries.
    """
    bounds = [(f"{low:.4g}", f"{high:.4g}") for low, high in pairwise(edges)]
    width = max(len(text) for pair in bounds for text in pair)
    most = max(*counts, 1)
    lines = []
    for (low, high), count in zip(bounds, counts, strict=True):
        bar = "█" * max(round(_BAR_LENGTH * count / most), int(count > 0))
        parts = (f"{low:>{width}}", "to", f"{high:>{width}}", bar, f"{count:,}")
        lines.append(" ".join(part for part in parts if part))
    return "\n".join(["```text", *lines, "```"])


def _cell(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, float):
        return f"{value:.4g}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return printable(" ".join(text.replace("|", "\\|").split()))
