"""A flame graph as an SVG that needs nothing to be looked at: widths are time, a tooltip says how much."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from pyinstrument import Profiler
from pyinstrument.frame import Frame

_WIDTH, _HEIGHT = 1200, 17
_LEAST = 0.003
"""Frames that took less of the whole are left out."""
_LETTER = 6.3
_COLOURS = {"appfn": "#e5734f", "aiohttp": "#7fa7d8", "sqlalchemy": "#8fbf8f", "prometheus_client": "#c8a2d6"}
_LOOP = "asyncio.runners.run"
"""What is below it is what the event loop ran."""


@dataclass(slots=True)
class _Node:
    time: float = 0.0
    children: "dict[str, _Node]" = field(default_factory=dict)

    def add(self, frame: Frame) -> None:
        """Take in what a frame called: calls of the same function are one box."""
        for child in frame.children:
            if child.function != "[self]":
                node = self.children.setdefault(_name(child), _Node())
                node.time += child.time
                node.add(child)


def svg(root: Frame) -> str:
    """Return the graph of all that the event loop ran."""
    whole = _Node()
    _gather(root, whole)
    whole.time = sum(child.time for child in whole.children.values())
    boxes: list[str] = []
    height = _draw(whole, x=0.0, level=0, total=whole.time, boxes=boxes) * _HEIGHT
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="10.5">'
    return "\n".join([head, *boxes, "</svg>\n"])


def _gather(frame: Frame, whole: _Node) -> None:
    for child in frame.children:
        if _name(child) == _LOOP:
            whole.add(child)
        else:
            _gather(child, whole)


def _draw(node: _Node, *, x: float, level: int, total: float, boxes: list[str]) -> int:
    """Draw what a node called, the largest first; return how many rows there are."""
    rows = level
    for name, child in sorted(node.children.items(), key=lambda item: -item[1].time):
        share = child.time / total
        if share < _LEAST:
            continue
        boxes.append(_box(name, x=x, y=level * _HEIGHT, share=share))
        rows = max(rows, level + 1, _draw(child, x=x, level=level + 1, total=total, boxes=boxes))
        x += share * _WIDTH
    return rows


def _box(name: str, *, x: float, y: int, share: float) -> str:
    width = share * _WIDTH
    colour = _COLOURS.get(name.partition(".")[0], "#d9d2c4")
    place = f'x="{x:.1f}" y="{y}" width="{max(0.3, width - 0.4):.1f}" height="{_HEIGHT - 1}"'
    shown = name[-int(width / _LETTER) :] if width > 4 * _LETTER else ""
    text = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(shown)}</text>' if shown else ""
    return f'<g><title>{escape(name)} {share:.1%}</title><rect {place} fill="{colour}"/>{text}</g>'


def _name(frame: Frame) -> str:
    """Return module and function, without a path of the machine."""
    path = frame.file_path or ""
    for root in ("/site-packages/", "/operator/", "/python3.11/"):
        path = path.rpartition(root)[2]
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"{module}.{frame.function}" if module and not module.startswith(("<", ".")) else frame.function


@contextmanager
def written(path: str) -> Iterator[None]:
    """Profile what runs meanwhile and write the graph to a file; do neither where the path is empty."""
    if not path:
        yield
        return
    profiler = Profiler(interval=0.0005, async_mode="disabled")
    with profiler:
        yield
    session = profiler.last_session
    root = session.root_frame() if session else None
    assert root is not None, "a run this short shows nothing"
    Path(path).write_text(svg(root))
