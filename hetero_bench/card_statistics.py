"""The statistics of a dataset's card in Markdown."""

from __future__ import annotations

from typing import Any

from hetero_bench.markdown_tables import markdown_table, text_histogram
from hetero_bench.summaries import SUMMARY


def statistics_section(facts: dict[str, Any]) -> str:
    """Writes what :func:`hetero_bench.summaries.statistics` measured."""
    parts = [
        "## Statistics",
        _summaries(facts),
        _histogram("Returns", facts["return_histogram"]),
        _histogram("Episode lengths", facts["length_histogram"]),
        _actions(facts["actions"]),
        _coverage(facts.get("coverage")),
    ]
    return "\n\n".join(part for part in parts if part)


def _summaries(facts: dict[str, Any]) -> str:
    labels = {
        "returns": "Return of an episode",
        "normalized_scores": "Normalised score, %",
        "lengths": "Length of an episode",
        "rewards": "Reward",
        "behaviour_entropy": "Behaviour's entropy, nats",
    }
    header = ("", "mean", "std", "min", "25%", "median", "75%", "max")
    rows = [
        (label, *(float(facts[key][name]) for name in SUMMARY))
        for key, label in labels.items()
        if key in facts
    ]
    text = markdown_table(header, rows)
    if "behaviour_entropy" in facts:
        entropy = facts["behaviour_entropy"]
        text += (
            f"\n\nThe behaviour policy is deterministic in {entropy['deterministic']:.1%} of the "
            f"rows; a uniform one has an entropy of {entropy['uniform']:.4g} nats."
        )
    return text


def _histogram(title: str, histogram: dict[str, Any]) -> str:
    if len(histogram["counts"]) < 2:
        return ""
    bars = text_histogram(histogram["edges"], histogram["counts"])
    return f"### {title}\n\nNumber of episodes in each interval:\n\n{bars}"


def _actions(actions: dict[str, Any]) -> str:
    if "counts" in actions:
        rows = [
            (str(action), count, f"{share:.2%}")
            for action, (count, share) in enumerate(
                zip(actions["counts"], actions["frequencies"], strict=True)
            )
        ]
        return "### Actions\n\n" + markdown_table(("Action", "Count", "Share"), rows)
    columns = [actions[name] for name in ("mean", "std", "min", "max")]
    rows = [(str(i), *values) for i, values in enumerate(zip(*columns, strict=True))]
    text = "### Actions\n\n" + markdown_table(("Dimension", "mean", "std", "min", "max"), rows)
    if "near_bounds" in actions:
        text += f"\n\n{actions['near_bounds']:.1%} of all entries lie within 1% of their bounds."
    return text


def _coverage(coverage: dict[str, Any] | None) -> str:
    if coverage is None:
        return ""
    rows = [(k, f"{share:.1%}") for k, share in enumerate(coverage["shares"], start=1)]
    return (
        "### State coverage\n\n"
        "Principal components of the observations, each dimension divided by its standard "
        f"deviation in this data. Of {coverage['dimensions']} dimensions that vary, "
        f"{coverage['for_90_percent']} components hold 90% of the variance and "
        f"{coverage['for_99_percent']} hold 99%. The sum of the dimensions' own variances, which "
        "compares datasets of one environment, is "
        f"{coverage['total_variance']:.4g}.\n\n"
        + markdown_table(("Component", "Share of the variance"), rows)
    )
