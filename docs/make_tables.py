"""Renews the generated tables of README.md; `tests/test_docs.py` checks that they are current."""

from __future__ import annotations

import re
from pathlib import Path

import hetero_bench
from baselines.engine.method import list_methods

README = Path(__file__).resolve().parents[1] / "README.md"


def datasets_table() -> str:
    """Returns the Markdown table of the datasets that exist, subsets beside their parents."""
    reduced = {
        spec.subset.parent: spec for spec in hetero_bench.list_datasets(reduced=True) if spec.subset
    }
    lines = ["| dataset | transitions | subset | what it is |", "| --- | ---: | --- | --- |"]
    for spec in hetero_bench.list_datasets(reduced=False):
        subset = f"`{reduced[spec.name].name}`" if spec.name in reduced else ""
        lines.append(f"| `{spec.name}` | {spec.transitions:,} | {subset} | {spec.summary} |")
    return "\n".join(lines)


def methods_table() -> str:
    """Returns the Markdown table of the reference methods that exist."""
    lines = ["| method | name | actions | paper |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {method.title} | `{method.name}` | {', '.join(method.actions)} | {method.paper} |"
        for method in list_methods()
    ]
    return "\n".join(lines)


TABLES = {"datasets": datasets_table, "methods": methods_table}


def with_tables(text: str) -> str:
    """Returns the text with every ``<!-- name:begin -->`` block renewed."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"README.md lacks the block {begin} ... {end}")
        text = pattern.sub(lambda _, b=begin, t=table, e=end: f"{b}\n{t()}\n{e}", text)
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
