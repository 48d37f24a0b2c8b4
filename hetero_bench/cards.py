"""A dataset's card in Markdown: what it is, how it was made, where it is from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hetero_bench.card_heteroskedasticity import heteroskedasticity_section
from hetero_bench.card_statistics import statistics_section
from hetero_bench.markdown_tables import markdown_table
from hetero_bench.registry import whole_spec
from hetero_bench.schedule_table import dataset_schedule, schedule_rows
from hetero_bench.spec import ArraySpec, D4RLSource, DatasetSpec, MinariSource
from hetero_bench.summaries import statistics

if TYPE_CHECKING:
    from hetero_bench.dataset import Dataset
    from hetero_bench.provenance import Provenance


def card(dataset: Dataset) -> str:
    """Writes a dataset's card: what it is, how it was made, where it is from, its statistics.

    Args:
        dataset: Memory-mapped or in memory.

    Returns:
        Markdown.
    """
    facts = statistics(dataset)
    drawn = [("size", dataset.size), ("draw", dataset.draw)]
    return _join(
        _heading(dataset.spec, ", ".join(f"{name} {n}" for name, n in drawn if n is not None)),
        _size_section(dataset.spec, facts),
        _origin_section(dataset.spec),
        _schedule_section(dataset.spec),
        _provenance_section(dataset.provenance),
        _notes_section("Notes", facts["notes"]),
        _notes_section("Notes on the dataset it was drawn from", facts["parent_notes"]),
        _environment_section(dataset.spec),
        statistics_section(facts),
        heteroskedasticity_section(dataset),
        _measurements_section(dataset.spec),
        _reference_section(dataset.spec),
        _differences_section(dataset.spec),
        _licence_section(dataset.spec),
    )


def manifest_card(spec: DatasetSpec) -> str:
    """Writes what the manifest says about a dataset, without its data.

    Args:
        spec: The dataset's specification.

    Returns:
        Markdown.
    """
    return _join(
        _heading(spec),
        _size_section(spec, {"transitions": spec.transitions, "episodes": spec.episodes}),
        _origin_section(spec),
        _schedule_section(spec),
        _environment_section(spec),
        _measurements_section(spec),
        _reference_section(spec),
        _differences_section(spec),
        _licence_section(spec),
    )


def _join(*sections: str) -> str:
    return "\n\n".join(section for section in sections if section) + "\n"


def _heading(spec: DatasetSpec, drawn: str = "") -> str:
    title = f"{spec.id} ({drawn})" if drawn else spec.id
    return f"# {title}\n\n{spec.summary}"


def _size_section(spec: DatasetSpec, facts: dict[str, Any]) -> str:
    rows = [
        ("Family", spec.family),
        ("Transitions", facts["transitions"]),
        ("Episodes", facts["episodes"]),
    ]
    if "terminations" in facts:
        rows.append(("Episodes that terminate", facts["terminations"]))
        rows.append(("Episodes that are truncated", facts["truncations"]))
    rows += [("Observations", _array(spec.observation)), ("Actions", _array(spec.action))]
    rows.append(("Rewards", spec.rewards.semantics))
    if (spec.rewards.scale, spec.rewards.shift) != (1.0, 0.0):
        scale, shift = spec.rewards.scale, spec.rewards.shift
        scaled = "reward" if scale == 1 else f"{scale:g} · reward"
        rows.append(
            ("Conventional transform", f"{scaled} {'-' if shift < 0 else '+'} {abs(shift):g}")
        )
    return markdown_table(("", ""), rows)


def _array(spec: ArraySpec | None) -> str | None:
    if spec is None:
        return None
    if spec.n is not None and spec.shape == ():
        return f"discrete, {spec.n}"
    extent = "" if spec.low is None or spec.high is None else f" in [{spec.low:g}, {spec.high:g}]"
    return f"{' × '.join(map(str, spec.shape)) or 'scalar'} {spec.dtype}{extent}"


def _origin_section(spec: DatasetSpec) -> str:
    lines = []
    for source in spec.sources:
        if source.kind == "build" and spec.recipe is not None:
            lines.append(
                f"- Built here by the recipe `{spec.recipe.name}` (version {spec.recipe.version}) "
                f"with seed {spec.recipe.seed}.\n{_parameters(spec.recipe.parameters)}"
            )
        elif source.kind == "subset" and spec.subset is not None:
            lines.append(
                f"- {spec.subset.size:,} transitions of `{spec.subset.parent}`, whole "
                "trajectories drawn without replacement; the last one is cut and marked truncated."
            )
        elif source.kind == "bundled":
            reason = f" {source.reason}." if source.reason else ""
            lines.append(f"- Comes with the package, in part: see `registry/data`.{reason}")
        elif isinstance(source, D4RLSource) and source.path is None:
            lines.append(f"- Published in D4RL's layout at {source.url}")
        elif isinstance(source, D4RLSource):
            lines.append(f"- Read from a file in D4RL's layout: `{source.path}`")
        elif isinstance(source, MinariSource):
            lines.append(f"- Read from a Minari dataset: `{source.path}`")
    return "## How it was made\n\n" + "\n".join(lines)


def _parameters(parameters: dict[str, Any]) -> str:
    """Returns a table, with an empty line before it; nothing where there are none."""
    rows = [(f"`{name}`", f"`{json.dumps(value)}`") for name, value in parameters.items()]
    return "\n" + markdown_table(("Parameter", "Value"), rows) if rows else ""


def _schedule_section(spec: DatasetSpec) -> str:
    """Draws the action noise over x that a dataset was collected with, where there is any."""
    schedule = dataset_schedule(spec)
    if schedule is None:
        return ""
    header = ("x, metres", "noise (standard deviation)", "bias")
    return "## Action noise by place\n\n" + markdown_table(header, schedule_rows(schedule))


def _provenance_section(provenance: Provenance) -> str:
    rows = [
        ("Status", provenance.status),
        ("Source", provenance.source),
        ("Digest", f"`{provenance.digest}`"),
        ("Made at", provenance.made_at),
        ("With", ", ".join(f"{name} {v}" for name, v in provenance.versions.items())),
    ]
    if provenance.status == "rebuilt":
        rows.insert(3, ("Digest in the registry", f"`{provenance.expected_digest}`"))
    if provenance.parent is not None:
        parent = f"{provenance.parent.status}, digest `{provenance.parent.digest}`"
        rows.append(("Parent", parent))
    return "## Provenance\n\n" + markdown_table(("", ""), rows)


def _notes_section(title: str, notes: dict[str, Any]) -> str:
    if not notes:
        return ""
    return f"## {title}\n\n" + markdown_table(("", ""), _note_rows(notes))


def _note_rows(notes: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in notes.items():
        label = prefix + name.replace("_", " ")
        if isinstance(value, dict):
            yield from _note_rows(value, f"{label}: ")
        elif isinstance(value, list):
            yield label, ", ".join(map(str, value))
        else:
            yield label, value


def _environment_section(spec: DatasetSpec) -> str:
    environment = spec.environment
    if environment is None:
        return "## Evaluation environment\n\nNone given; the dataset cannot be evaluated on."
    text = (
        f"`{environment.id}`, at most {environment.max_episode_steps:,} steps, "
        f"{spec.evaluation_episodes} evaluation episodes by default."
    )
    return f"## Evaluation environment\n\n{text}\n{_parameters(environment.kwargs)}".rstrip()


def _measurements_section(spec: DatasetSpec) -> str:
    origin = whole_spec(spec)
    title = "Measured" if origin is spec else f"Measured on {origin.id}"
    return _notes_section(title, origin.measurements)


def _differences_section(spec: DatasetSpec) -> str:
    text = whole_spec(spec).differences
    return f"## Differences from the dataset it rebuilds\n\n{text}" if text else ""


def _reference_section(spec: DatasetSpec) -> str:
    if spec.reference is None:
        return ""
    reference = spec.reference
    rows = [("0: random", reference.random), ("100: expert", reference.expert)]
    table = markdown_table(("Score", "Undiscounted return"), rows)
    return f"## Reference scores\n\n{table}\n\nSource: {reference.source}"


def _licence_section(spec: DatasetSpec) -> str:
    text = f"## Licence and citation\n\nLicence: {spec.licence}"
    return f"{text}\n\n{spec.citation}" if spec.citation else text
