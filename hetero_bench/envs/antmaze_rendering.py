"""Pictures of an AntMaze seen from straight above."""

# MuJoCo's compiled modules come without type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy

import mujoco
import numpy as np

DEFAULT_IMAGE_SIZE = 480
"""Pixels of the longer side."""
_FIELD_OF_VIEW = 10.0
"""Degrees. Narrow, so that walls hide little of the floor behind them."""
_WALL_COLOUR = (0.29, 0.31, 0.34, 1.0)
_FLOOR_COLOUR = (0.93, 0.92, 0.9, 1.0)
_ANT_COLOUR = (0.8, 0.36, 0.18, 1.0)
_GOAL_COLOUR = (0.18, 0.63, 0.26, 1.0)
_GOAL_HALF_HEIGHT = 0.02


class TopDownRenderer:
    """Renders the whole maze off screen, x to the right and y upwards.

    Args:
        model: The ant in its maze.
        bounds: Edges x_min, x_max, y_min, y_max to show, metres.
        image_size: Pixels of the longer side.

    Raises:
        ValueError: If ``image_size`` is no positive integer.
        RuntimeError: If MuJoCo cannot open an OpenGL context here.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        bounds: tuple[float, float, float, float],
        image_size: int = DEFAULT_IMAGE_SIZE,
    ) -> None:
        check_image_size(image_size)
        x_min, x_max, y_min, y_max = bounds
        width, height = x_max - x_min, y_max - y_min
        scale = image_size / max(width, height)
        self._model = _with_view(model, round(width * scale), round(height * scale))
        try:
            self._renderer = mujoco.Renderer(
                self._model, round(height * scale), round(width * scale)
            )
        except Exception as error:
            raise RuntimeError(
                f"MuJoCo could not open an OpenGL context ({error}). Without a display, set the "
                "environment variable MUJOCO_GL=egl before Python starts (Debian: libegl1)"
            ) from error
        self._camera = mujoco.MjvCamera()
        self._camera.lookat[:] = ((x_min + x_max) / 2, (y_min + y_max) / 2, 0.0)
        self._camera.distance = height / 2 / np.tan(np.deg2rad(_FIELD_OF_VIEW) / 2)
        self._camera.azimuth, self._camera.elevation = 90.0, -90.0

    def render(self, data: mujoco.MjData, goal: np.ndarray, radius: float) -> np.ndarray:
        """Returns (height, width, 3) uint8 with the goal region (2,) drawn as a disc."""
        self._renderer.update_scene(data, self._camera)
        scene = self._renderer.scene
        mujoco.mjv_initGeom(
            scene.geoms[scene.ngeom],
            mujoco.mjtGeom.mjGEOM_CYLINDER,
            np.array([radius, _GOAL_HALF_HEIGHT, 0.0]),
            np.array([goal[0], goal[1], _GOAL_HALF_HEIGHT]),
            np.eye(3).ravel(),
            np.array(_GOAL_COLOUR, dtype=np.float32),
        )
        scene.ngeom += 1
        return self._renderer.render()

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._renderer.close()


def check_image_size(image_size: int) -> None:
    """Raises ValueError unless ``image_size`` is a positive integer."""
    if not isinstance(image_size, int | np.integer) or image_size < 1:
        raise ValueError(f"image_size is {image_size!r}; expected a number of pixels from 1")


def _with_view(model: mujoco.MjModel, width: int, height: int) -> mujoco.MjModel:
    """Returns a copy of the model with camera, picture size, light and colours for this view."""
    viewed = copy.copy(model)
    view = viewed.vis
    view.global_.fovy = _FIELD_OF_VIEW
    view.global_.offwidth = max(width, view.global_.offwidth)
    view.global_.offheight = max(height, view.global_.offheight)
    view.headlight.ambient[:], view.headlight.diffuse[:], view.headlight.specular[:] = 0.6, 0.4, 0
    viewed.light_active[:] = 0
    viewed.geom_matid[:] = -1
    viewed.geom_rgba[:] = _ANT_COLOUR
    viewed.geom_rgba[viewed.geom_type == mujoco.mjtGeom.mjGEOM_BOX] = _WALL_COLOUR
    floor = viewed.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    viewed.geom_rgba[floor] = _FLOOR_COLOUR
    viewed.geom_size[floor, :2] = 0  # drawn without an end; as an obstacle it has none anyway
    return viewed
