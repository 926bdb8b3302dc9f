"""A picture for the README: CPU time of a relayed token, one bar per proxy, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bench.goals import number
from bench.peers import PEERS, SHOWN
from bench.results import Results

WIDTH, LEFT, RIGHT, BAR, STEP, HEAD = 760, 205, 70, 16, 24, 44
PANELS = (
    ("paced-200", "200 streams, a token each 20 ms"),
    ("burst", "64 streams, 100 tokens in one write"),
)
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .title { font-weight: 600; } .note { fill: #59636e; font-size: 12px; }
  .value { paint-order: stroke; stroke: #ffffff; stroke-width: 5px; } /* grid lines end beside a figure */
  .bar { fill: #9aa4af; } .ours { fill: #2f6feb; } .grid { stroke: #d1d9e0; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .note { fill: #9198a1; } .bar { fill: #656c76; } .ours { fill: #4493f8; }
    .grid { stroke: #3d444d; } .value { stroke: #0d1117; }
  }
"""

Bar = tuple[str, float, bool]
"""Name, µs of CPU per token, whether it is one of ours."""


def bars(results: Results, load: str) -> list[Bar]:
    """Cheapest first."""
    found = [
        (peer.name, cost, peer.name.startswith("chat-proxy"))
        for peer in (PEERS[key] for key in SHOWN)
        if (cost := results.figure((load, peer.name), "cpu_us_per_token"))
    ]
    return sorted(found, key=lambda bar: bar[1])


def draw(results: Results) -> str:
    """The SVG, in both light and dark. Panels without figures are left out."""
    panels = [(title, bars(results, load)) for load, title in PANELS]
    panels = [(title, found) for title, found in panels if found]
    parts, top = [], 8
    for title, found in panels:
        parts += _panel(title, found, top)
        top += HEAD + STEP * len(found) + 12
    body = "\n".join(parts)
    label = "CPU time per relayed token: " + "; ".join(
        f"{title}: " + ", ".join(f"{name} {number(value)} µs" for name, value, _ in found) for title, found in panels
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" aria-label="{escape(label)}">\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _panel(title: str, found: Sequence[Bar], top: int) -> list[str]:
    low = math.floor(math.log10(found[0][1]))
    high = max(math.ceil(math.log10(found[-1][1])), low + 1)
    room = WIDTH - LEFT - RIGHT

    def across(value: float) -> float:
        return LEFT + room * (math.log10(value) - low) / (high - low)

    bottom = top + HEAD + STEP * len(found) - (STEP - BAR)
    parts = [
        f'<text class="title" x="8" y="{top + 14}">{escape(title)}: CPU µs per token, logarithmic, less is better</text>'
    ]
    for power in range(low, high + 1):
        x = across(10.0**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top + HEAD - 6}" y2="{bottom + 4}"/>')
        parts.append(
            f'<text class="note" x="{x:.1f}" y="{top + HEAD - 12}" text-anchor="middle">{10.0**power:,g}</text>'
        )
    for row, (name, value, is_ours) in enumerate(found):
        y, end = top + HEAD + STEP * row, across(value)
        kind = "ours" if is_ours else "bar"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{max(end - LEFT, 1):.1f}" height="{BAR}" rx="2"/>'
        )
        parts.append(f'<text class="note value" x="{end + 6:.1f}" y="{y + 13}">{number(value)}</text>')
    return parts
