"""Pages are Jinja templates, each beside the module that has its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2


def fill_template(path: Path, **values: Any) -> str:
    """Returns a Markdown template's text with its values in place.

    Args:
        path: The template.
        values: By the names that it has for them.

    Raises:
        jinja2.UndefinedError: If it names a value that is not given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(path.name).render(**values)
