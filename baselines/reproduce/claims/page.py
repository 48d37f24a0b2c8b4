"""Writes the page: a row per claim, every number from the results."""

from __future__ import annotations

from pathlib import Path

from baselines.reproduce.claims.claims import Claim, Elsewhere
from baselines.reproduce.claims.evaluation import Missing, evaluate
from baselines.reproduce.claims.papers import PAPERS
from baselines.reproduce.templates import fill_template
from baselines.reproduce.verdicts import FEWEST_PAIRS, MARGIN
from hetero_bench.formatting import NONE, estimate, number

TEMPLATE = Path(__file__).with_name("page.md.jinja")
NOT_MEASURED = "not measured yet"
Row = tuple[str, ...]


def render(results: Path, findings: Path) -> str:
    """Returns the page's Markdown.

    Args:
        results: Folder with the tiers' folders of results.
        findings: Folder of what other measurements have left, ``docs/results``.
    """
    rows = {paper.title: [row(claim, results) for claim in paper.claims] for paper in PAPERS}
    others = {
        paper.title: [other_row(each, findings) for each in paper.elsewhere] for paper in PAPERS
    }
    return fill_template(
        TEMPLATE,
        papers=PAPERS,
        rows=rows,
        others=others,
        verdicts=[each[4] for several in rows.values() for each in several]
        + [each[3] for several in others.values() for each in several],
        margin=f"{MARGIN:g}",
        fewest_pairs=FEWEST_PAIRS,
    )


def row(claim: Claim, results: Path) -> Row:
    """Returns a claim's cells: claim, source, where, what was measured, verdict, what decides."""
    found = evaluate(claim, results)
    about = (claim.text, claim.source, f"{claim.tier}: {_where(claim)}")
    if isinstance(found, Missing):
        return (*about, NONE, NOT_MEASURED, f"`{found.command}`")
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
    if found.unequal:
        fields = (f"`{name}` {one}, {other}" for name, (one, other) in found.unequal.items())
        measured.append(f"with unequal {', '.join(fields)}")
    return (
        *about,
        "; ".join(measured),
        found.verdict,
        found.to_decide or NONE,
    )


def other_row(claim: Elsewhere, findings: Path) -> Row:
    """Returns a claim's cells: claim, source, what was measured, verdict, what measures it."""
    found = claim.read(findings)
    said = (NONE, NOT_MEASURED) if found is None else (found.measured, found.verdict)
    return (claim.text, claim.source, *said, f"`{claim.command}`")


def _where(claim: Claim) -> str:
    where = ", ".join(f"`{name}`" for name in claim.datasets)
    against = ", ".join(f"`{name}`" for name in claim.against)
    return f"{where} against {against}" if against else where
