"""Bar charts as SVG: one panel for each cell, one bar for each server, and its spread as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 760
LABEL: Final = 170  # left of the bars
ROOM: Final = 110  # right of them, for the figure
BAR: Final = 20
GAP: Final = 34  # above each panel's bars

OURS: Final = "#2563eb"
THEIRS: Final = "#94a3b8"


@dataclass(frozen=True)
class Bar:
    name: str
    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    bars: Sequence[Bar]


def svg(panels: Sequence[Panel]) -> str:
    """Return the whole file. It has its own background, so that it is legible on a dark page."""
    parts: list[str] = []
    top = 10
    for panel in panels:
        parts.append(f'<text x="10" y="{top + 18}" class="title">{escape(panel.title)} ({escape(panel.unit)})</text>')
        top += GAP
        most = max(bar.high for bar in panel.bars) or 1.0
        for bar in panel.bars:
            parts.append(_bar(bar, top, (WIDTH - LABEL - ROOM) / most))
            top += BAR
        top += 10
    style = "text{font:12px sans-serif;fill:#0f172a}.title{font-weight:bold}.name{text-anchor:end}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}">\n'
        f'<style>{style}</style>\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(bar: Bar, top: int, scale: float) -> str:
    length, low, high = (value * scale for value in (bar.value, bar.low, bar.high))
    colour = OURS if bar.name.startswith("nexus") else THEIRS
    middle = top + BAR / 2
    return (
        f'<text x="{LABEL - 8}" y="{middle + 4:.0f}" class="name">{escape(bar.name)}</text>'
        f'<rect x="{LABEL}" y="{top + 3}" width="{length:.1f}" height="{BAR - 6}" fill="{colour}"/>'
        f'<line x1="{LABEL + low:.1f}" x2="{LABEL + high:.1f}" y1="{middle:.0f}" y2="{middle:.0f}" stroke="#0f172a"/>'
        f'<text x="{LABEL + high + 8:.1f}" y="{middle + 4:.0f}">{escape(bar.text)}</text>'
    )
