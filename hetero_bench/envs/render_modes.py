"""The check of ``render_mode`` that all environments of the suite make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_render_mode(render_mode: str | None, metadata: Mapping[str, Any]) -> None:
    """Raises ValueError unless ``render_mode`` is ``None`` or one of the metadata's."""
    if render_mode is not None and render_mode not in metadata["render_modes"]:
        raise ValueError(
            f"render_mode is {render_mode!r}; expected None or one of {metadata['render_modes']}"
        )
