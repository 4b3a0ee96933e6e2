"""Figures of a report as SVG text: inline, readable on light and dark pages, distinguished by shape as well as by colour."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from buckler.report.tables import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, LINES = "#010203", "#040506"
"""Stand for the page's text colour and its line colour, which differ between light and dark."""
COLOURS = ("#d55e00", "#3d8fd1", "#0f9d75", "#e0a100", "#c875a8", "#8a8a8a", "#56b4e9", "#a6761d")
"""After Okabe and Ito: distinguishable with every common colour blindness, and seen on white and on black."""
SHAPES = "osD^vPX*"
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "buckler",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": LINES,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINES,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One figure."""

    title: str
    alt: str
    """What it shows, for who does not see it; the page shows it as the caption."""
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A figure before it is drawn."""

    title: str
    alt: str
    size: tuple[float, float]
    """Inches."""
    draw: Callable[[Figure], None]


def draw_all(sketches: Iterable[Sketch], prefix: str = "figure") -> list[Drawing]:
    """The figures of one section; `prefix` keeps the ids of several on one page apart."""
    return [
        Drawing(title=one.title, alt=one.alt, svg=_svg(one.draw, f"{prefix}-{at}", one.size, f"{one.title}. {one.alt}"))
        for at, one in enumerate(sketches)
    ]


def _svg(draw: Callable[[Figure], None], name: str, size: tuple[float, float], alt: str) -> str:
    """The figure as an SVG element that can stand in a page: no prologue, no addresses, ids of its own."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **SETTINGS}):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'((?<= )id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor").replace(LINES, "var(--line)")
    return svg.replace("<svg ", '<svg role="img" ', 1).replace(">", f">\n <title>{escape(alt)}</title>", 1).strip()


def point(axis: Axes, x: Cell, y: Cell, colour: str, marker: str, *, hollow: bool = False) -> None:
    """A marker with the intervals of both numbers; nothing where one is not known."""
    if x.value is None or y.value is None:
        return
    axis.errorbar(x.value, y.value, xerr=arms(x), yerr=arms(y), color=colour, elinewidth=0.8, alpha=0.5, fmt="none")
    face, edge = ("none", 1.4) if hollow else (colour, 0)
    axis.plot([x.value], [y.value], linestyle="none", marker=marker, markersize=9, color=colour, mfc=face, markeredgewidth=edge)


def arms(cell: Cell) -> list[list[float]] | None:
    """How far the interval reaches to both sides, as matplotlib wants it."""
    if cell.value is None or cell.low is None or cell.high is None:
        return None
    return [[max(0.0, cell.value - cell.low)], [max(0.0, cell.high - cell.value)]]
