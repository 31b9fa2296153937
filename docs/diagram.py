"""Draws the module: `python docs/diagram.py` writes `docs/figures/cbam.svg`."""

import pathlib

FILE = pathlib.Path(__file__).parent / "figures" / "cbam.svg"
WIDTH, HEIGHT = 960, 310
TIMES = "\N{MULTIPLICATION SIGN}"
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
STYLE = """
text { font: 15px system-ui, "Segoe UI", Roboto, sans-serif; fill: #1c2128;
  text-anchor: middle }
.small { font-size: 13px; fill: #57606a }
.title { font-weight: 600; font-size: 16px }
.paper { fill: #fff }
.box { fill: #fff; stroke: #8c959f }
.features { fill: #e7ebf8; stroke: #3f51b5 }
.channel { fill: #fdf1e3; stroke: #d07a1e }
.spatial { fill: #e2f4ee; stroke: #1b8a68 }
.line { fill: none; stroke: #57606a; stroke-width: 1.6 }
.head { fill: #57606a }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e8eb } .small { fill: #a3abb5 }
  .paper { fill: #14171c } .box { fill: #14171c; stroke: #6e7681 }
  .features { fill: #232a4d; stroke: #9fa8ff }
  .channel { fill: #3a2a16; stroke: #f0a75a }
  .spatial { fill: #12352b; stroke: #5cc9a7 }
  .line { stroke: #a3abb5 } .head { fill: #a3abb5 }
}"""
# The height of the line from the input to the output.
MAIN = 60
TOP, BOTTOM = 120, 300


def box(x, y, width, height, kind, *lines):
    """Returns a box around its centre, with lines of text."""
    parts = [
        f'<rect class="{kind}" x="{x - width / 2}" y="{y - height / 2}" '
        f'width="{width}" height="{height}" rx="6"/>'
    ]
    for number, line in enumerate(lines):
        below = y + 5 + 18 * (number - (len(lines) - 1) / 2)
        parts.append(f'<text x="{x}" y="{below}">{line}</text>')
    return "".join(parts)


def text(x, y, line, kind="small"):
    return f'<text class="{kind}" x="{x}" y="{y}">{line}</text>'


def arrow(*points):
    """Returns a line through points, with a head at the last."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline class="line" points="{path}" marker-end="url(#head)"/>'


def features(x, name):
    """Returns a feature map as three sheets."""
    sheets = [
        f'<rect class="features" x="{x - 24 + d}" y="{MAIN - 26 - d}" '
        'width="44" height="44" rx="3"/>'
        for d in (10, 5, 0)
    ]
    return "".join(sheets) + text(x - 2, MAIN + 1, name, "")


def product(x):
    return (
        f'<circle class="box" cx="{x}" cy="{MAIN}" r="13"/>'
        f'<path class="line" d="M{x - 6} {MAIN - 6}L{x + 6} {MAIN + 6}'
        f'M{x + 6} {MAIN - 6}L{x - 6} {MAIN + 6}"/>'
    )


def gate(left, width, kind, title):
    """Returns the frame of a gate."""
    frame = (
        f'<rect class="{kind}" x="{left}" y="{TOP}" width="{width}" '
        f'height="{BOTTOM - TOP}" rx="10"/>'
    )
    return frame + text(left + width / 2, TOP + 26, title, "title")


def draw():
    """Returns the diagram as SVG."""
    low, high, middle = 262, 204, 233
    parts = [
        features(50, "F"),
        text(50, MAIN + 44, f"H {TIMES} W {TIMES} C"),
        arrow((84, MAIN), (437, MAIN)),
        product(452),
        arrow((467, MAIN), (846, MAIN)),
        product(861),
        arrow((876, MAIN), (892, MAIN)),
        features(924, "F\N{DOUBLE PRIME}"),
        # Channel attention.
        gate(110, 365, "channel", "Channel attention: what"),
        arrow((128, MAIN), (128, high), (142, high)),
        arrow((128, MAIN), (128, low), (142, low)),
        box(188, high, 88, 40, "box", "avg pool"),
        box(188, low, 88, 40, "box", "max pool"),
        arrow((232, high), (252, high), (252, middle - 8), (264, middle - 8)),
        arrow((232, low), (252, low), (252, middle + 8), (264, middle + 8)),
        box(311, middle, 92, 76, "box", "shared", "MLP", "C/r"),
        arrow((357, middle), (374, middle)),
        box(405, middle, 58, 40, "box", f"+  {SIGMA}"),
        arrow((434, middle), (452, middle), (452, MAIN + 15)),
        text(424, BOTTOM - 14, f"1 {TIMES} 1 {TIMES} C"),
        # Spatial attention.
        gate(505, 380, "spatial", "Spatial attention: where"),
        arrow((523, MAIN), (523, high), (537, high)),
        arrow((523, MAIN), (523, low), (537, low)),
        box(597, high, 118, 40, "box", "mean over C"),
        box(597, low, 118, 40, "box", "max over C"),
        arrow((656, high), (670, high), (670, middle - 8), (682, middle - 8)),
        arrow((656, low), (670, low), (670, middle + 8), (682, middle + 8)),
        box(733, middle, 100, 76, "box", "convolution", f"k {TIMES} k"),
        arrow((783, middle), (800, middle)),
        box(824, middle, 46, 40, "box", SIGMA),
        arrow((847, middle), (861, middle), (861, MAIN + 15)),
        text(838, BOTTOM - 14, f"H {TIMES} W {TIMES} 1"),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
        f'{HEIGHT}" role="img" aria-labelledby="title"><title id="title">'
        "CBAM multiplies features by a weight per channel, then by a weight "
        f"per position</title><style>{STYLE}</style><defs>"
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>'
        # Dark viewers may show it on white, and the other way round.
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        + "\n".join(parts)
        + "</svg>\n"
    )


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
