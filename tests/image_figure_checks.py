"""Images and maps to draw, and what is read back from their figures."""

import numpy as np
import pytest

B, H, W = 2, 6, 9


RNG = np.random.default_rng(0)


IMAGES = RNG.integers(0, 256, (B, H, W, 3), dtype="uint8")


HEAT = {name: RNG.random((B, H, W)) for name in ("baseline", "SE", "CBAM")}


CHANNEL, SPATIAL = RNG.random((B, 16)), RNG.random((B, 2, 3))


MAPS = {
    "stage1_attention": (CHANNEL, SPATIAL),
    "stage2_attention": (CHANNEL[:, :7], SPATIAL[:, :1, :1]),
}


def panels(figure):
    """Returns the axes that show images, row after row."""
    shown = [axes for axes in figure.axes if axes.images]
    return sorted(shown, key=lambda a: (-round(a.bbox.y1), a.bbox.x0))


def bar(figure):
    (found,) = (axes for axes in figure.axes if axes.get_ylabel())
    return found


def below(figure):
    return [axes.get_xlabel() for axes in panels(figure)]


def names(figure):
    """Returns the names over panels, as they were before broken to lines."""
    return [axes.get_title().replace("\n", "") for axes in panels(figure)]


def pixels(axes):
    """Returns what is seen within axes, but for their frame."""
    agg = pytest.importorskip("matplotlib.backends.backend_agg")
    canvas = agg.FigureCanvasAgg(axes.figure.figure)
    canvas.draw()
    seen = np.asarray(canvas.buffer_rgba())[::-1]
    left, bottom, right, top = axes.bbox.extents
    inner = seen[int(bottom) + 3 : int(top) - 2, int(left) + 3 : int(right) - 2]
    return inner[..., :3].astype(int)
