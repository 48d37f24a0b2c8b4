"""The returns kept in docs/cross_check/, and the tables of docs/cross_check.md made from them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines.reproduce.contrasts import contrast
from hetero_bench import formatting
from hetero_bench.atomic import write_file
from hetero_bench.markdown_tables import markdown_table
from hetero_bench.registry import get_spec

from .cases import CASES
from .equivalents import EQUIVALENTS, PREPARED
from .verdicts import verdict

SCORES = Path(__file__).resolve().parents[2] / "docs" / "cross_check"
LIBRARIES = ("hetero_bench", "d3rlpy")
IDENTITY = ("case", "dataset", "steps", "preparation", "d3rlpy_settings")
"""Entries that have to be equal for seeds to be put together."""

Document = dict[str, Any]
"""One comparison: these entries, ``config``, ``versions``, and ``returns`` by library and seed."""


def write_scores(document: Document, folder: Path) -> Path:
    """Writes one comparison's returns; seeds that are there from the same comparison are kept."""
    path = folder / document["dataset"]["id"] / f"{document['case']}.json"
    if path.exists():
        document = merged(json.loads(path.read_text(encoding="utf-8")), document)
    text = json.dumps(document, indent=1)
    flat = re.sub(r"\[[^\[\]{}]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    return write_file(path, flat + "\n")


def merged(old: Document, new: Document) -> Document:
    """Returns the new document with the old one's further seeds, if it is the same comparison."""
    if any(old[entry] != new[entry] for entry in IDENTITY):
        return new
    returns = {}
    for library in LIBRARIES:
        seeds = old["returns"][library] | new["returns"][library]
        returns[library] = dict(sorted(seeds.items(), key=lambda each: int(each[0])))
    return new | {"returns": returns}


def read_scores(folder: Path) -> list[Document]:
    """Returns the comparisons, by dataset in alphabetical order, then in the order of ``CASES``."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/*.json")]
    order = list(CASES)
    return sorted(documents, key=lambda each: (each["dataset"]["id"], order.index(each["case"])))


def seed_scores(document: Document, library: str) -> list[float]:
    """Returns the mean normalised score of every seed, in percent."""
    spec = get_spec(document["dataset"]["id"])
    returns = document["returns"][library].values()
    return [float(np.mean(spec.normalized_score(np.asarray(each)))) for each in returns]


def scores_table(folder: Path = SCORES) -> str:
    """Returns the Markdown table of scores, differences and verdicts."""
    documents = read_scores(folder)
    header = ("dataset", "method", "steps", "seeds", *LIBRARIES, "difference", "verdict")
    rows = []
    for document in documents:
        ours, theirs = (seed_scores(document, library) for library in LIBRARIES)
        difference = contrast([[ours]], [[theirs]])
        seeds = str(len(ours)) if len(ours) == len(theirs) else f"{len(ours)}, {len(theirs)}"
        rows.append(
            (
                f"`{document['dataset']['id']}`",
                CASES[document["case"]].title,
                document["steps"],
                seeds,
                formatting.mean_and_std(ours),
                formatting.mean_and_std(theirs),
                formatting.estimate(difference),
                verdict(difference),
            )
        )
    return markdown_table(header, rows)


def weights_table(folder: Path = SCORES) -> str:
    """Returns the Markdown table of what equal weights came to."""
    path = folder / "equal_weights.json"
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    header = ("method", "updates", "quantity", "moved by, or value", "difference from d3rlpy")
    rows = []
    for entry in entries:
        size, difference, error = entry["size"], entry["difference"], entry["error"]
        exact = error is None
        rows.append(
            (
                CASES[entry["case"]].title,
                entry["updates"],
                entry["quantity"],
                f"{size:.1e}" if exact else formatting.number(size, 3),
                f"{difference:.1e}"
                if exact
                else formatting.plus_minus(difference, 1.96 * error, 3),
            )
        )
    return markdown_table(header, rows)


def settings_table(folder: Path = SCORES) -> str:
    """Returns the Markdown table of all settings, of one document per case."""
    rows, seen = [], set()
    for document in read_scores(folder):
        case, config = document["case"], document["config"]
        if case in seen:
            continue
        seen.add(case)
        equivalent = EQUIVALENTS[CASES[case].method]
        title, theirs = CASES[case].title, document["d3rlpy_settings"]
        names = dict(equivalent.names)
        for ours, networks in equivalent.networks.items():
            names[ours] = tuple(f"{network}_encoder_factory" for network in networks)
        rows += [
            (title, f"`{ours}`", _in_d3rlpy(ours, names), _value(value))
            for ours, value in config.items()
        ]
        rows += [
            (title, None, f"`{name}`", _value(theirs["config"][name])) for name in equivalent.fixed
        ]
        if theirs["cosine_steps"]:
            steps = f"half a cosine to 0 in {theirs['cosine_steps']:,} steps"
            rows.append((title, "always", "`actor_optim_factory`", steps))
    return markdown_table(("method", "setting here", "in d3rlpy", "value"), rows)


def _in_d3rlpy(setting: str, names: Mapping[str, Sequence[str]]) -> str | None:
    if setting in PREPARED:
        return "in the data"
    return ", ".join(f"`{name}`" for name in names.get(setting, ())) or None


def _value(value: Any) -> str:
    return "none" if value is None else json.dumps(value)
