"""Writes the page: a row per claim, every number from the results."""

from __future__ import annotations

from pathlib import Path

from baselines.reproduce.claims.claims import Claim
from baselines.reproduce.claims.evaluation import MARGIN, Missing, evaluate
from baselines.reproduce.claims.papers import PAPERS
from baselines.reproduce.templates import fill_template
from hetero_bench.formatting import NONE, estimate, number

TEMPLATE = Path(__file__).with_name("page.md.jinja")
Row = tuple[str, ...]


def render(results: Path) -> str:
    """Returns the page's Markdown.

    Args:
        results: Folder with the tiers' folders of results.
    """
    rows = {paper.title: [row(claim, results) for claim in paper.claims] for paper in PAPERS}
    return fill_template(
        TEMPLATE,
        papers=PAPERS,
        rows=rows,
        elsewhere={
            paper.title: [(each.text, each.source, f"`{each.command}`") for each in paper.elsewhere]
            for paper in PAPERS
        },
        verdicts=[each[4] for several in rows.values() for each in several],
        margin=f"{MARGIN:g}",
    )


def row(claim: Claim, results: Path) -> Row:
    """Returns a claim's cells: claim, source, where, what was measured, verdict, what decides."""
    found = evaluate(claim, results)
    about = (claim.text, claim.source, f"{claim.tier}: {_where(claim)}")
    if isinstance(found, Missing):
        return (*about, NONE, "not measured yet", f"`{found.command}`")
    parts = [
        f"{claim.first.title} {number(first)}, {claim.second.title} {number(second)}"
        for first, second in found.means
    ]
    if claim.against:
        parts = [
            f"{part} ({estimate(difference)})"
            for part, difference in zip(parts, found.differences, strict=True)
        ]
    measured = [
        f"{' against '.join(parts)}: {estimate(found.quantity)}",
        f"P = {estimate(found.improvement, 2)}",
        f"{found.runs} runs each",
    ]
    if found.diverged:
        measured.append(f"{found.diverged} diverged")
    return (
        *about,
        "; ".join(measured),
        found.verdict,
        found.to_decide or NONE,
    )


def _where(claim: Claim) -> str:
    where = ", ".join(f"`{name}`" for name in claim.datasets)
    against = ", ".join(f"`{name}`" for name in claim.against)
    return f"{where} against {against}" if against else where
