"""``python -m baselines reproduce claims``: which of the four papers' claims hold in this suite.

Reads the reference results and writes a page with a row per claim: what was measured, a verdict by
rule, and what it would take to decide where that is open. Trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from baselines.reproduce.claims.page import render
from hetero_bench.atomic import write_file
from hetero_bench.registry import registry_folder


@dataclass(frozen=True)
class Reproduction:
    """Say which claims of the papers hold by the reference results, and write the page."""

    results: Path | None = None
    """Folder with the tiers' folders of results; by default registry/results."""
    page: Path = Path("docs/results/claims.md")
    """The page to write; what other measurements have left lies in its folder."""

    def run(self) -> None:
        """Writes the page.

        Raises:
            ValueError: If a file of results is damaged, or an arm means several configs of it.
        """
        results = registry_folder() / "results" if self.results is None else self.results
        print(write_file(self.page, render(results, self.page.parent)))
