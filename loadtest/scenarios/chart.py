"""The overview as a picture: a dot for each gateway and scenario, with its interval, as SVG."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

from loadtest.report.plots import COLOURS
from loadtest.scenarios.intervals import Rate

_LEFT, _RIGHT, _TOP, _BOTTOM = 330.0, 24.0, 66.0, 44.0
_WIDTH = 1000.0
_STEP = 9.0
"""From one gateway to the next, within a scenario."""
_BETWEEN = 12.0
_TICKS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_NEAR_NOTHING = 0.1
"""Per cent around which the axis turns from linear to logarithmic, so that 0 has a place."""
_COLOURS = ("#000000", *COLOURS, "#F0C808")


def dots(rows: Mapping[str, Mapping[str, Rate]], names: Sequence[str]) -> str:
    """Draw the rates by scenario and gateway."""
    colours = dict(zip(names, _COLOURS * (1 + len(names) // len(_COLOURS)), strict=False))
    parts = [*_legend(names, colours)]
    y = _TOP
    for title, rates in rows.items():
        height = _STEP * len(names)
        middle = y + height / 2
        parts.append(f'<text x="{_LEFT - 14:g}" y="{middle + 4:g}" text-anchor="end">{escape(title)}</text>')
        for index, name in enumerate(names):
            if name in rates:
                parts += _dot(rates[name], y + _STEP * (index + 0.5), colours[name], name, first=not index)
        y += height + _BETWEEN
        parts.append(f'<path d="M8 {y - _BETWEEN / 2:g}H{_WIDTH - _RIGHT:g}" stroke="#ddd"/>')
    axis = [line for tick in _TICKS for line in _tick(tick, y)]
    axis.append(f'<text x="{_LEFT:g}" y="{y + 36:g}">missed, per cent; lines are intervals at 95 %</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {y + _BOTTOM:g}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>Missed requests by scenario and gateway</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
    )
    return "\n".join([head, *axis, *parts, "</svg>"]) + "\n"


def _legend(names: Sequence[str], colours: Mapping[str, str]) -> list[str]:
    parts = []
    x, y = 16.0, 20.0
    for name in names:
        width = 30 + 7 * len(name)
        if x + width > _WIDTH:
            x, y = 16.0, y + 20
        parts.append(f'<circle cx="{x:g}" cy="{y - 4:g}" r="4" fill="{colours[name]}"/>')
        parts.append(f'<text x="{x + 9:g}" y="{y:g}">{escape(name)}</text>')
        x += width
    return parts


def _dot(rate: Rate, y: float, colour: str, name: str, *, first: bool) -> list[str]:
    share = rate.share
    told = f"<title>{escape(name)}: {escape(rate.told())}</title>"
    dot = f'<circle cx="{_x(share.mean):.1f}" cy="{y:g}" r="{5 if first else 3.5}" fill="{colour}">{told}</circle>'
    if share.low is None or share.high is None:
        return [dot]
    return [f'<path d="M{_x(share.low):.1f} {y:g}H{_x(share.high):.1f}" stroke="{colour}" stroke-width="1.5"/>', dot]


def _tick(per_cent: float, bottom: float) -> list[str]:
    x = _x(per_cent / 100)
    return [
        f'<path d="M{x:.1f} {_TOP - 4:g}V{bottom:g}" stroke="#eee"/>',
        f'<text x="{x:.1f}" y="{bottom + 16:g}" text-anchor="middle">{per_cent:g}</text>',
    ]


def _x(share: float) -> float:
    """Return where a share lies on the axis."""
    most = log10(1 + 100 / _NEAR_NOTHING)
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * log10(1 + 100 * share / _NEAR_NOTHING) / most
