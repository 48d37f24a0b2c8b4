"""A dataset's card in Markdown: what it is, how it was made, where it is from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hetero_bench.formatting import NONE, printable
from hetero_bench.schedule_table import dataset_schedule, schedule_rows
from hetero_bench.spec import ArraySpec, D4RLSource, DatasetSpec, MinariSource
from hetero_bench.summaries import SUMMARY, statistics

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
        _statistics_section(facts),
        _actions_section(facts["actions"]),
        _reference_section(dataset.spec),
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
        _reference_section(spec),
        _licence_section(spec),
    )


def _join(*sections: str) -> str:
    return "\n\n".join(section for section in sections if section) + "\n"


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    header = [*header]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, float):
        return f"{value:.4g}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return printable(" ".join(text.replace("|", "\\|").split()))


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
    return _table(("", ""), rows)


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
            lines.append("- Comes with the package, in part: see `registry/data`.")
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
    return "\n" + _table(("Parameter", "Value"), rows) if rows else ""


def _schedule_section(spec: DatasetSpec) -> str:
    """Draws the action noise over x that a dataset was collected with, where there is any."""
    schedule = dataset_schedule(spec)
    if schedule is None:
        return ""
    header = ("x, metres", "noise (standard deviation)", "bias")
    return "## Action noise by place\n\n" + _table(header, schedule_rows(schedule))


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
    return "## Provenance\n\n" + _table(("", ""), rows)


def _notes_section(title: str, notes: dict[str, Any]) -> str:
    if not notes:
        return ""
    return f"## {title}\n\n" + _table(("", ""), _note_rows(notes))


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


def _statistics_section(facts: dict[str, Any]) -> str:
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
    text = "## Statistics\n\n" + _table(header, rows)
    if "behaviour_entropy" in facts:
        entropy = facts["behaviour_entropy"]
        text += (
            f"\n\nThe behaviour policy is deterministic in {entropy['deterministic']:.1%} of the "
            f"rows; a uniform one has an entropy of {entropy['uniform']:.4g} nats."
        )
    return text


def _actions_section(actions: dict[str, Any]) -> str:
    if "counts" in actions:
        rows = [
            (str(action), count, f"{share:.2%}")
            for action, (count, share) in enumerate(
                zip(actions["counts"], actions["frequencies"], strict=True)
            )
        ]
        return "### Actions\n\n" + _table(("Action", "Count", "Share"), rows)
    columns = [actions[name] for name in ("mean", "std", "min", "max")]
    rows = [(str(i), *values) for i, values in enumerate(zip(*columns, strict=True))]
    return "### Actions\n\n" + _table(("Dimension", "mean", "std", "min", "max"), rows)


def _reference_section(spec: DatasetSpec) -> str:
    if spec.reference is None:
        return ""
    reference = spec.reference
    rows = [("0: random", reference.random), ("100: expert", reference.expert)]
    table = _table(("Score", "Undiscounted return"), rows)
    return f"## Reference scores\n\n{table}\n\nSource: {reference.source}"


def _licence_section(spec: DatasetSpec) -> str:
    text = f"## Licence and citation\n\nLicence: {spec.licence}"
    return f"{text}\n\n{spec.citation}" if spec.citation else text
