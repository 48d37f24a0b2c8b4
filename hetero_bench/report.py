"""One self-contained HTML page from titled sections of text, tables and figures.

The page loads nothing: styles are inline, pictures are embedded, there is no script, and a content
security policy keeps it so. All text is escaped. It follows the reader's light or dark preference
and can be printed.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture.

    Attributes:
        caption: What it shows and how to read it.
        alt: What a reader who cannot see it needs to know.
        image: PNG or SVG file content.
        width: Largest width on the page, CSS pixels; None: the picture's own.
    """

    caption: str
    alt: str
    image: bytes
    width: int | None = None

    @property
    def media_type(self) -> str:
        """``image/png`` or ``image/svg+xml``.

        Raises:
            ValueError: The content is neither.
        """
        if self.image.startswith(PNG_MAGIC):
            return "image/png"
        if self.image.lstrip()[:5] in (b"<?xml", b"<svg "):
            return "image/svg+xml"
        raise ValueError(
            f"figure {self.caption!r:.60} starts with {self.image[:8]!r}; expected PNG or SVG bytes"
        )

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` URI."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.image).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text; the first column names the rows.

    Attributes:
        caption: What the table holds.
        columns: Header of each column.
        rows: Cells of each row, as many as there are columns.
        numeric: Indices of the columns that are set flush right.
        strong: Indices of the rows set in bold.
        strong_means: What bold says, in words.
        note: Small print below the table.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()
    strong_means: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.caption!r:.60}: row {index} has {len(row)} cells; "
                    f"expected {len(self.columns)}"
                )


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a report.

    Attributes:
        title: Heading.
        text: Plain text; blank lines separate paragraphs.
        table: A table below the text.
        figures: Pictures below that, side by side where they fit.
    """

    title: str
    text: str = ""
    table: Table | None = None
    figures: tuple[Figure, ...] = field(default=())

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """The text, split at blank lines."""
        return tuple(part.strip() for part in self.text.split("\n\n") if part.strip())


def render(
    title: str,
    sections: Sequence[Section],
    *,
    lead: str = "",
    facts: Sequence[tuple[str, str]] = (),
    warnings: Sequence[str] = (),
    colophon: str = "",
) -> str:
    """Renders a report.

    Args:
        title: Title of the page.
        sections: Its parts, in order.
        lead: What the reader should take away, below the title.
        facts: Name and value of a few figures that characterise the report.
        warnings: What the reader should know before trusting it.
        colophon: How it was made, at the end.

    Returns:
        An HTML document.

    Raises:
        ValueError: A figure is neither PNG nor SVG.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hetero_bench", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        lead=lead,
        facts=list(facts),
        warnings=list(warnings),
        sections=list(sections),
        colophon=colophon,
    )
