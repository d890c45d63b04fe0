"""Line charts as SVG, for the pages of `bench/`: no library is worth two polylines."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 34
_COLOURS = ("#1b6ca8", "#b3541e", "#3a7d44")
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """A name and its points."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(
    title: str, across: str, charts: Sequence[Sequence[Line]], marks: Sequence[tuple[float, str]] = ()
) -> str:
    """Charts below each other over the same axis; ``marks`` are moments on it, with their names."""
    most_x = max((x for lines in charts for line in lines for x, _ in line.points), default=1.0) or 1.0
    box = f"0 0 {WIDTH} {HEIGHT * len(charts) + 20}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, lines in enumerate(charts):
        parts.append(f'<g transform="translate(0 {number * HEIGHT + 10})">')
        parts += _chart(lines, most_x, marks)
        parts.append("</g>")
    middle, foot = WIDTH // 2, HEIGHT * len(charts) + 14
    parts.append(f'<text x="{middle}" y="{foot}" text-anchor="middle">{escape(across)}</text></svg>\n')
    return "\n".join(parts)


def _chart(lines: Sequence[Line], most_x: float, marks: Sequence[tuple[float, str]]) -> list[str]:
    most_y = max((y for line in lines for _, y in line.points), default=1.0) * 1.1 or 1.0
    inner_x, inner_y = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x / most_x * inner_x, _TOP + inner_y - y / most_y * inner_y

    parts = []
    for tick in range(_TICKS + 1):
        (left, y), (x, bottom) = at(0, most_y * tick / _TICKS), at(most_x * tick / _TICKS, 0)
        parts.append(f'<path d="M{left} {y:.1f}H{WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most_y * tick / _TICKS:.0f}</text>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{most_x * tick / _TICKS:.0f}</text>'
        )
    for moment, name in marks:
        x, top = at(moment, most_y)
        mark = f'<path d="M{x:.1f} {top}V{_TOP + inner_y}" stroke="#c00" stroke-dasharray="2 3" opacity=".5">'
        parts.append(f"{mark}<title>{escape(name)}</title></path>")
    for colour, (number, line) in zip(_COLOURS, enumerate(lines), strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line.points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        place = _LEFT + 8 + number * 150
        parts.append(f'<text x="{place}" y="{_TOP - 6}" fill="{colour}">{escape(line.name)}</text>')
    return parts
