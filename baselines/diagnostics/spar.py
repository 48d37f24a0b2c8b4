"""The geometry of residuals around a cloned policy: which of SPAR's models suits a dataset.

Zhao, Pan, Liang and Lin, "SPAR: Support-Preserving Action Rectification", arXiv 2605.27877, 2026,
Eq. 3, section 4.2, appendix C.2.6, Figures 2, 4 and 5. Of Δa = a - π_base(s), networks' units:

- δ_ρ, the 1 - ρ quantile of ‖Δa‖, against the diameter of the dataset's actions (Figure 4);
- the share of the largest eigenvalue in the trace of their covariance;
- the tail of distances to k nearest neighbours, the 95% quantile over the median;
- dense clusters and the share of residuals in none of them, by HDBSCAN; see density_clusters.py.

"A concentrated spectrum with one dense cluster" says MLP, anything else PROJ. The paper gives no
numbers for these words; those here are ours and are printed with the result. Whether a cluster is
dense is asked of a normal distribution with the residuals' covariance, whose tail depends on the
dimension. The spectrum is shown and has no vote: the largest eigenvalue's share is never below one
over the dimension, and a round cloud of one mode is no less compact than a long one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines import spar
from baselines.diagnostics.density_clusters import FEWEST_POINTS, density_clusters
from baselines.diagnostics.support_ratio import NEIGHBOURS, neighbour_distances
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from baselines.parts.residual_losses import robust_values
from hetero_bench.atomic import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_TAIL = 1.5
"""Largest tail of neighbour distances without far-off residuals, in tails of a normal distribution.
In two to eight dimensions Student's t with five degrees of freedom has 1.2 to 1.4, with two 1.8 to
2.3."""
SHOWN_EVERY = 1_000
"""Updates between two lines of progress."""


@dataclass(frozen=True)
class Geometry:
    """What residuals look like.

    Attributes:
        radius: δ_ρ.
        diameter: Largest distance of two actions of the dataset, in the sample.
        top_share: Share of the largest eigenvalue.
        tail: 95% quantile of neighbour distances over their median.
        normal_tail: The same of as many draws from a normal distribution of their covariance.
        clusters: How many there are, at least 1.
        noise: Share of residuals in none of several clusters; 0 if there is one.
    """

    radius: float
    diameter: float
    top_share: float
    tail: float
    normal_tail: float
    clusters: int
    noise: float

    @property
    def recommendation(self) -> Literal["mlp", "proj"]:
        """The variant of SPAR that suits these residuals."""
        dense = self.clusters == 1 and self.tail <= LONGEST_TAIL * self.normal_tail
        return "mlp" if dense else "proj"


def residual_geometry(
    residuals: np.ndarray, actions: np.ndarray, *, rho: float = 0.05, neighbours: int = NEIGHBOURS
) -> Geometry:
    """Returns the geometry of residuals.

    Args:
        residuals: (n, act) Δa. Work grows with n²; a few thousand are enough.
        actions: (n, act) the dataset's actions.
        rho: ρ of Eq. 3.
        neighbours: k.

    Raises:
        ValueError: If there are no more than k residuals or fewer than 100, one is not finite, or
                all are alike.
    """
    from scipy.spatial.distance import pdist

    fewest = max(neighbours + 1, FEWEST_POINTS)
    if len(residuals) < fewest:
        raise ValueError(f"{len(residuals)} residuals; expected at least {fewest}")
    labels = density_clusters(residuals)
    lengths = np.sort(np.linalg.norm(residuals, axis=1))
    eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(residuals, rowvar=False)))
    if not eigenvalues[-1] > 0.0:
        raise ValueError("all residuals are alike; expected a cloud that has a geometry")
    normal = np.random.default_rng(0).normal(size=residuals.shape)
    normal *= np.sqrt(eigenvalues.clip(min=0.0))
    return Geometry(
        radius=float(lengths[int(np.ceil((1.0 - rho) * len(lengths))) - 1]),
        diameter=float(pdist(actions).max()),
        top_share=float(eigenvalues[-1] / eigenvalues.sum()),
        tail=_tail(residuals, neighbours),
        normal_tail=_tail(normal, neighbours),
        clusters=int(labels.max()) + 1,
        noise=float((labels < 0).mean()),
    )


def _tail(points: np.ndarray, neighbours: int) -> float:
    """Returns the 95% quantile of points' mean distances to neighbours, over their median."""
    distances = neighbour_distances(points, points, np.arange(len(points)), neighbours)
    middle, far = np.quantile(distances, [0.5, 0.95])
    return float(far / middle) if middle > 0.0 else float("inf")


@dataclass(frozen=True)
class Measurement:
    """A dataset's residuals, as a file has them.

    Attributes:
        dataset: Canonical id.
        steps: Updates of stage I.
        seed: Seed.
        geometry: What they look like.
        recommendation: The variant of SPAR that suits them.
    """

    dataset: str
    steps: int
    seed: int
    geometry: Geometry
    recommendation: Literal["mlp", "proj"]


class Residuals(NamedTuple):
    """A sample of a dataset's transitions around a cloned policy."""

    residuals: np.ndarray  # (n, act)
    actions: np.ndarray  # (n, act)
    values: np.ndarray  # (n,) Q_rob(s, a)


def residuals_of(trainer: Trainer, count: int, seed: int) -> Residuals:
    """Returns residuals of a population of one, whose stage I is trained.

    Args:
        trainer: SPAR with one member.
        count: How many at most; drawn without replacement.
        seed: Of the draw.
    """
    agent, data = trainer.agent, trainer.data
    if not isinstance(agent, spar.Agent):
        raise ValueError(f"a population of {type(agent).__module__}; expected SPAR's")
    agent.rows.fill(agent.anchor)
    size = int(data.sizes[0])
    chosen = np.sort(np.random.default_rng(seed).permutation(size)[:count])
    rows = (data.offsets[:1, None] + data.sizes.new_tensor(chosen)).clone()
    batch, said = data.take(rows), agent.rows.take(agent.groups, rows)
    penalty = said.data_mean.new_tensor([agent.configs[0].uncertainty_weight])
    values = robust_values(said.data_mean, said.data_std, penalty)
    parts = (batch.actions - said.base_actions, batch.actions, values)
    return Residuals(*(each[0].cpu().numpy() for each in parts))


def picture(found: Residuals, title: str, seed: int = 0) -> Figure:
    """Draws the residuals in two dimensions by t-SNE, coloured by value (Figure 2)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(found.residuals) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(
        found.residuals
    )
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    points = ax.scatter(*places.T, c=found.values, s=3, linewidths=0, cmap="viridis")
    ax.set(title=title, xticks=[], yticks=[], xlabel="t-SNE of residuals")
    figure.colorbar(points, label="Q_rob(s, a)")
    return figure


@dataclass(frozen=True)
class ResidualGeometry:
    """Clone a dataset's policy and say whether residuals around it ask for SPAR-MLP or SPAR-PROJ.

    Trains stage I of SPAR alone. The picture is Figure 2 of the paper for this dataset.
    """

    dataset: str
    """Dataset id."""
    steps: int = 20_000
    """Updates of stage I."""
    seed: int = 0
    """Seed."""
    residuals: int = 4_000
    """How many to look at."""
    rho: float = 0.05
    """ρ of δ_ρ."""
    device: str = "cpu"
    """cpu, or cuda."""
    out: Path = Path("runs/diagnose/spar")
    """Folder; gets <dataset>-seed-<seed>.json and a picture of the same name."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own, as for train."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Trains, prints the geometry, and writes the two files."""
        if not 0.0 <= self.rho < 1.0:
            raise ValueError(f"rho is {self.rho:g}; expected at least 0, less than 1")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")
        if self.residuals < FEWEST_POINTS:
            raise ValueError(f"residuals is {self.residuals}; expected at least {FEWEST_POINTS}")
        for path in self.register:
            hetero_bench.register(path)
        dataset = hetero_bench.load(self.dataset)
        if len(dataset.transitions) < FEWEST_POINTS:
            raise ValueError(
                f"{dataset.id} has {len(dataset.transitions)} transitions; expected at least "
                f"{FEWEST_POINTS}"
            )
        config = spar.METHOD.config_for(dataset.spec)
        # Residuals do not depend on critics, and no more of them are asked than judge the data.
        config = replace(config, variant="base", stage1_steps=self.steps, critics=config.subset)
        trainer = Trainer(
            spar.METHOD, [Member(dataset, config, self.seed)], self.device, steps=self.steps
        )
        for begun in range(0, self.steps, SHOWN_EVERY):
            done = min(begun + SHOWN_EVERY, self.steps)
            trainer.advance(done - begun)
            print(f"stage I: step {done:,} of {self.steps:,}", flush=True)
        found = residuals_of(trainer, self.residuals, self.seed)
        geometry = residual_geometry(found.residuals, found.actions, rho=self.rho)
        show(geometry, dataset.id, self.rho)
        measured = Measurement(dataset.id, self.steps, self.seed, geometry, geometry.recommendation)
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"{dataset.id}-seed-{self.seed}.json"
        write_file(path, json.dumps(asdict(measured), indent=1) + "\n")
        picture(found, dataset.id, self.seed).savefig(path.with_suffix(".png"), dpi=150)
        print(f"wrote {path} and {path.with_suffix('.png').name}")


def show(geometry: Geometry, dataset: str, rho: float) -> None:
    """Prints the geometry with what each number is compared with."""
    table = Table(title=f"Residuals around the cloned policy, {dataset}", title_justify="left")
    for name in ("measure", "value", "for MLP"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    reduced = 2.0 * geometry.radius / geometry.diameter
    table.add_row(f"2 δ_ρ / diameter of actions (ρ = {rho:g})", f"{reduced:.2f}", "")
    table.add_row("largest eigenvalue's share", f"{geometry.top_share:.2f}", "")
    longest = f"≤ {LONGEST_TAIL * geometry.normal_tail:.2f}"
    table.add_row("neighbour distances, q95 / q50", f"{geometry.tail:.2f}", longest)
    table.add_row("clusters", str(geometry.clusters), "1")
    table.add_row("in no cluster", f"{geometry.noise:.0%}", "")
    Console().print(table)
    print(f"recommendation: --config.variant {geometry.recommendation}")
