"""Renews the generated tables of README.md and the pages in docs/.

`tests/test_docs.py` checks that they are current.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hetero_bench
from baselines.engine.method import list_methods
from baselines.tiers import TIERS
from benchmarks.cross_check.page import scores_table, settings_table, weights_table
from hetero_bench import formatting
from hetero_bench.markdown_tables import markdown_table
from hetero_bench.registry import registry_folder
from hetero_bench.spec import DatasetSpec

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {
    "antmaze": "an ant walks mazes, D4RL's physics; noise and bias that depend on the place",
    "locomotion": "MuJoCo in Gymnasium v5, six qualities; own data",
    "gridworld": "three rooms and narrow hallways, with an exact model",
}
"""What a family is about, in the order of the README."""


def families_table() -> str:
    """Returns the Markdown table of the families of datasets, with the names of the whole ones."""
    lines = ["| family | datasets | sizes |", "| --- | --- | --- |"]
    for family, about in FAMILIES.items():
        whole = hetero_bench.list_datasets(family=family, reduced=False)
        names = ", ".join(_in_braces([spec.name for spec in whole]))
        counts = sorted({spec.transitions for spec in whole if spec.transitions})
        reduced = {
            spec.name.removeprefix(f"{spec.subset.parent}-")
            for spec in hetero_bench.list_datasets(family=family, reduced=True)
            if spec.subset
        }
        sizes = ", ".join(sorted(f"`-{size}`" for size in reduced))
        least, most = f"{counts[0]:,}", f"{counts[-1]:,}"
        span = least if least == most else f"{least} to {most}"
        lines.append(f"| {family}: {about} | {names} | {span}; {sizes} |")
    return "\n".join(lines)


def _in_braces(names: list[str]) -> list[str]:
    """Returns names in code marks: numbers as ``name0..4``, task × kind as ``{..}-{..}-hb``."""
    parts = [re.fullmatch(r"([^-]+)-(.+)-hb", name) for name in names]
    if all(parts):
        tasks, kinds = (dict.fromkeys(part[which] for part in parts if part) for which in (1, 2))
        if len(tasks) > 1 and len(names) == len(tasks) * len(kinds):
            return [f"`{{{','.join(tasks)}}}-{{{','.join(kinds)}}}-hb`"]
    stems: dict[str, list[str]] = {}
    for name in names:
        stem = re.sub(r"-s\d$", "-s", name)
        stems.setdefault(stem, []).append(name)
    return [
        f"`{group[0]}`" if len(group) == 1 else f"`{group[0]}`..`{group[-1][-1]}`"
        for group in stems.values()
    ]


def datasets_table() -> str:
    """Returns the Markdown table of all datasets, subsets beside their parents."""
    reduced: dict[str, list[DatasetSpec]] = {}
    for spec in hetero_bench.list_datasets(reduced=True):
        if spec.subset:
            reduced.setdefault(spec.subset.parent, []).append(spec)
    lines = ["| dataset | transitions | subsets | what it is |", "| --- | ---: | --- | --- |"]
    for spec in hetero_bench.list_datasets(reduced=False):
        subsets = ", ".join(
            f"`-{each.name.rsplit('-', 1)[1]}`" for each in reduced.get(spec.name, [])
        )
        rows = f"{spec.transitions:,}" if spec.transitions else "not stated"
        lines.append(f"| `{spec.name}` | {rows} | {subsets} | {spec.summary} |")
    return "\n".join(lines)


def methods_list() -> str:
    """Returns the titles and names of the reference methods, for either kind of action."""
    titles = {method.name: method.title for method in list_methods()}
    return ", ".join(f"{title} (`{name}`)" for name, title in titles.items()) + "."


def methods_table() -> str:
    """Returns the Markdown table of the reference methods that exist."""
    lines = ["| method | name | actions | paper |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {method.title} | `{method.name}` | {method.actions} | {method.paper} |"
        for method in list_methods()
    ]
    return "\n".join(lines)


def _value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def tiers_table() -> str:
    """Returns the Markdown table of the tables of reference results."""
    lines = [
        "| tier | methods | datasets | steps | seeds | changes |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for name, tier in TIERS.items():
        lines.append(f"| **{name}** | {tier.about} ({tier.precision or 'default'} precision) |||||")
        for cells in tier.cells:
            methods, datasets = (
                ", ".join(f"`{each}`" for each in names)
                for names in (cells.methods, cells.datasets)
            )
            changes = ", ".join(
                f"{field} {_value(value)}" for field, value in cells.changes.items()
            )
            if len(cells.settings) > 1:
                changes = ", ".join(filter(None, [changes, f"{len(cells.settings)} settings"]))
            lines.append(
                f"| | {methods} | {datasets} | {cells.steps:,} | {len(cells.seeds)} | {changes} |"
            )
    return "\n".join(lines)


def results_table() -> str:
    """Returns the Markdown table of the CPU tier's results, best first on every dataset."""
    graded = hetero_bench.grade([registry_folder() / "results" / "cpu"])
    rows = [
        (
            f"`{one.dataset}`",
            f"`{one.entry}`",
            f"{max(one.steps):,}",
            f"{len(one.seeds)}" + (f", {len(one.diverged)} diverged" if one.diverged else ""),
            formatting.plus_minus(one.mean.estimate, one.std),
            formatting.estimate(one.iqm),
        )
        for one in sorted(graded.results, key=lambda one: (one.dataset, -one.mean.estimate))
    ]
    header = ("dataset", "method", "steps", "runs", "mean ± std", "IQM, 95% interval")
    return markdown_table(header, rows)


MEASURES = (
    "exact D: std | max | fitted D: median | 99% | 99.9% | fitted log(1 + D): std | clamped |"
)


def heteroskedasticity_table() -> str:
    """Returns the Markdown table of what docs/measure_heteroskedasticity.py measured."""
    lines = [f"| dataset | {MEASURES}", "| --- " + "| ---: " * 7 + "|"]
    lines += [f"| `{name}` | {_measures(found)} |" for name, found in _measured("datasets").items()]
    return "\n".join(lines)


def severity_table() -> str:
    """Returns the Markdown table of the severity axis."""
    lines = [f"| maze | severity | got there | {MEASURES}", "| --- " + "| ---: " * 9 + "|"]
    for maze, levels in _measured("severity").items():
        for severity, found in levels.items():
            there = found["notes"]["percent_that_got_there_of_those_not_cut"]
            lines.append(f"| {maze} | {severity} | {there}% | {_measures(found)} |")
    return "\n".join(lines)


def antmaze_table() -> str:
    """Returns the Markdown table of how the episodes of the AntMaze datasets went."""
    lines = [
        "| dataset | episodes | mean steps | got there | rewarded | ended fallen |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in _measured("datasets").items():
        if name.startswith("antmaze-"):
            episodes, notes = found["episodes"], found["notes"]
            rewarded = notes["episodes_that_reached_the_evaluated_goal"] / episodes
            fallen = notes["episodes_that_ended_fallen"] / episodes
            lines.append(
                f"| `{name}` | {episodes:,} | {notes['mean_episode_steps']:.0f} | "
                f"{notes['percent_that_got_there_of_those_not_cut']}% | {rewarded:.1%} | "
                f"{fallen:.1%} |"
            )
    return "\n".join(lines)


def locomotion_table() -> str:
    """Returns the Markdown table of the locomotion datasets, from their manifests."""
    lines = [
        "| dataset | transitions | episodes | return | score | β | log(1 + D): std | max | "
        "infinite D |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for spec in hetero_bench.list_datasets(family="locomotion", reduced=False):
        found = spec.measurements
        returns, unevenness = found["return_of_an_episode"], found["heteroskedasticity"]
        score = round(float(spec.normalized_score(returns["mean"])), 1) + 0.0  # no -0.0
        lines.append(
            f"| `{spec.name}` | {spec.transitions:,} | {spec.episodes:,} | "
            f"{returns['mean']:,.0f} ± {returns['std']:,.0f} | "
            f"{score:.1f} | {unevenness['behaviour']} | "
            f"{unevenness['std_of_log_1_plus_D']:.3g} | "
            f"{unevenness['maximum_of_log_1_plus_D']:.3g} | "
            f"{unevenness['share_of_rows_with_infinite_D']:.1%} |"
        )
    return "\n".join(lines)


def _measures(found: dict[str, Any]) -> str:
    exact, fitted = found["exact"], found["fitted"]
    quantiles = fitted["quantiles"]
    numbers = [exact["std"], exact["maximum"]]
    numbers += [quantiles.get(quantile) for quantile in ("0.5", "0.99", "0.999")]
    numbers.append(fitted.get("log_one_plus_divergence", {}).get("std"))
    return " | ".join(map(_number, [*numbers, fitted.get("clamped")]))


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value < 1e-9:
        return "0"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2g}" if value < 1e-3 else f"{value:.3g}"


def _measured(part: str) -> dict[str, Any]:
    text = (ROOT / "docs" / "heteroskedasticity" / "measurements.json").read_text(encoding="utf-8")
    return json.loads(text)[part]


DOCUMENTS = {
    ROOT / "README.md": {"families": families_table, "methods": methods_list},
    ROOT / "docs" / "baselines.md": {
        "methods": methods_table,
        "tiers": tiers_table,
        "results": results_table,
    },
    ROOT / "docs" / "datasets.md": {"datasets": datasets_table},
    ROOT / "docs" / "antmaze.md": {"antmaze": antmaze_table},
    ROOT / "docs" / "heteroskedasticity.md": {
        "heteroskedasticity": heteroskedasticity_table,
        "severity": severity_table,
    },
    ROOT / "docs" / "locomotion.md": {"locomotion": locomotion_table},
    ROOT / "docs" / "cross_check.md": {
        "cross-check-weights": weights_table,
        "cross-check-scores": scores_table,
        "cross-check-settings": settings_table,
    },
}
"""Generated blocks by document."""


def with_tables(path: Path) -> str:
    """Returns a document's text with every ``<!-- name:begin -->`` block renewed."""
    text = path.read_text(encoding="utf-8")
    for name, table in DOCUMENTS[path].items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{path.name} lacks the block {begin} ... {end}")
        text = pattern.sub(lambda _, b=begin, t=table, e=end: f"{b}\n{t()}\n{e}", text)
    return text


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_tables(document), encoding="utf-8")
