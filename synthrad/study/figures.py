"""A figure of the report with what belongs to it: vector graphics, the numbers behind it, and words for those who cannot see it."""

from __future__ import annotations

import io
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure

from synthrad.study.plots import STYLE
from synthrad.study.tables import Table, as_link

SALT = "synthrad"  # names of parts inside an SVG: without it they differ from run to run


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Args:
        svg: the picture. alt: what it shows, for a reader who does not see it. caption: below it.
        table: the numbers behind it; its name is that of the figure's files.
    """

    svg: bytes
    alt: str
    caption: str
    table: Table

    @property
    def name(self) -> str:
        """Of its files, without suffix."""
        return self.table.name

    @property
    def uri(self) -> str:
        """As a `data:` address."""
        return as_link(self.svg, "image/svg+xml")


def as_svg(figure: Figure) -> bytes:
    """A figure as SVG with letters as outlines; no date inside, so that the same numbers give the same bytes."""
    buffer = io.BytesIO()
    with rc_context({**STYLE, "svg.hashsalt": SALT, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def drawing(figure: Figure | None, table: Table, alt: str, caption: str) -> Drawing | None:
    """A figure with its numbers; None where nothing was drawn."""
    return None if figure is None else Drawing(as_svg(figure), alt, caption, table)
