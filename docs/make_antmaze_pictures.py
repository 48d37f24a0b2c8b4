"""Draws the pictures of docs/antmaze: the controller walking each maze, and where episodes end.

    MUJOCO_GL=egl OMP_NUM_THREADS=1 python docs/make_antmaze_pictures.py

Equal bytes on one machine; another simulator or processor gives other walks.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import hetero_bench
from hetero_bench.ends_plotting import ends_map
from hetero_bench.envs.antmaze import AntMazeEnv
from hetero_bench.envs.antmaze_layout import CELL_SIZE
from hetero_bench.envs.antmaze_model import STEP_SECONDS
from hetero_bench.plotting import INK, to_png
from hetero_bench.policies import Policy
from hetero_bench.recipes.antmaze_controller import AntMazeController
from hetero_bench.recipes.antmaze_planner import waypoints
from hetero_bench.recipes.antmaze_walker import AntMazeWalker

FOLDER = Path(__file__).resolve().parent / "antmaze"
DPI = 200
RENDERED_PIXELS = 1200
"""Longer side of a rendered view, before it is scaled down."""
BORDER = 0.7 * CELL_SIZE
"""Metres of the outer walls that are left out."""
PATH = "#0072b2"
UNDRAWN = 4
"""Last steps of a way that are not drawn, so that the line does not cover the ant."""
MOST_STEPS = 2000


@dataclass(frozen=True)
class Strip:
    """How a maze's walk is laid out.

    Attributes:
        maze: Name of the maze.
        columns: Frames side by side.
        frame_inches: Width of one.
        seed: Of the reset and of the waypoints' jitter.
    """

    maze: str
    columns: int
    frame_inches: float
    seed: int = 0


FRAMES = 6
STRIPS = (
    Strip("umaze", 6, 1.7),
    Strip("medium", 3, 2.6),
    Strip("large", 3, 3.4),
    Strip("ultra", 3, 3.4),
)
NOISE = 1.0
"""Standard deviation of the action noise whose evaluation is drawn."""


@dataclass(frozen=True, eq=False)
class Walk:
    """A way from start to goal.

    Attributes:
        positions: (T + 1, 2) x and y after each step, metres.
        shown: (``FRAMES``,) steps that are shown.
        views: (``FRAMES``, height, width, 3) uint8 the maze at those.
        bounds: x_min, x_max, y_min, y_max of the views, metres.
    """

    positions: np.ndarray
    shown: np.ndarray
    views: np.ndarray
    bounds: tuple[float, float, float, float]


def walk_maze(strip: Strip, controller: AntMazeController) -> Walk:
    """Walks from start to goal along the planner's waypoints, without noise."""
    env = AntMazeEnv(strip.maze, render_mode="rgb_array", image_size=RENDERED_PIXELS)
    rng = np.random.default_rng(strip.seed)
    observation, info = env.reset(seed=strip.seed)
    poses = [env.data.qpos.copy()]
    while not info["success"]:
        if len(poses) > MOST_STEPS:
            raise RuntimeError(f"no goal in {strip.maze} after {MOST_STEPS} steps: another seed")
        point = waypoints(env.layout, info["xy"][None], info["goal"][None], rng.random((1, 2)))
        observation, _, _, _, info = env.step(controller(observation[None], point)[0])
        poses.append(env.data.qpos.copy())
    shown = np.linspace(0, len(poses) - 1, FRAMES).round().astype(int)
    views = []
    for step in shown:
        env.data.qpos[:] = poses[step]
        mujoco.mj_forward(env.model, env.data)
        views.append(env.render())
    env.close()
    return Walk(np.array(poses)[:, :2], shown, np.array(views), env.layout.bounds)


def draw(strip: Strip, walk: Walk) -> Figure:
    """Draws the views with the way walked so far."""
    x_min, x_max, y_min, y_max = walk.bounds
    width, height = x_max - x_min - 2 * BORDER, y_max - y_min - 2 * BORDER
    rows = FRAMES // strip.columns
    inches = strip.frame_inches
    title = 0.22
    size = strip.columns * inches, rows * (inches * height / width + title)
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    for index, (step, view) in enumerate(zip(walk.shown, walk.views, strict=True)):
        row, column = divmod(index, strip.columns)
        left, upper = column * inches, size[1] - row * (size[1] / rows) - title
        lower = upper - inches * height / width
        gap = 0.03
        axes = figure.add_axes(
            (
                (left + gap) / size[0],
                lower / size[1],
                (inches - 2 * gap) / size[0],
                (upper - lower) / size[1],
            )
        )
        axes.imshow(view, extent=walk.bounds)
        walked = walk.positions[: max(step - UNDRAWN, 0) + 1]
        axes.plot(*walked.T, color=PATH, linewidth=1.3, alpha=0.9)
        axes.set_xlim(x_min + BORDER, x_max - BORDER)
        axes.set_ylim(y_min + BORDER, y_max - BORDER)
        axes.set_axis_off()
        axes.set_title(f"{step * STEP_SECONDS:.1f} s", fontsize=9, color=INK, loc="left", pad=2)
    return figure


def noisy(walker: AntMazeWalker) -> Policy:
    """Returns the walker with ``NOISE`` added to its actions."""

    def act(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        means = walker(observations)
        return np.clip(means + NOISE * rng.standard_normal(means.shape), -1.0, 1.0)

    return act


def write(figure: Figure, name: str) -> None:
    """Writes a picture without its alpha channel, packed as tightly as PNG can be."""
    picture = Image.open(io.BytesIO(to_png(figure, DPI))).convert("RGB")
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    print(f"{path.name}: {picture.width} x {picture.height}, {path.stat().st_size // 1024} KiB")


def main(only: tuple[str, ...] = ()) -> None:
    """Draws all pictures.

    Args:
        only: Names of those to draw, if not all.
    """
    FOLDER.mkdir(exist_ok=True)
    controller = AntMazeController.load()
    for strip in STRIPS:
        if not only or strip.maze in only:
            write(draw(strip, walk_maze(strip, controller)), f"walk-{strip.maze}")
    if not only or "ends" in only:
        result = hetero_bench.evaluate(noisy(AntMazeWalker("medium")), "antmaze-medium-noisy")
        print(result, result.ends, sep="\n")
        write(ends_map(result.ends, f"{result.episodes} episodes in medium"), "ends")


if __name__ == "__main__":
    tyro.cli(main)
