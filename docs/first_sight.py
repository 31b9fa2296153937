"""Draws the figures of the front page: heat maps of photographs and a signal.

python docs/first_sight.py
"""

import pathlib

import nbformat
import numpy as np
import skimage
from keras import layers, ops
from matplotlib import patches, patheffects
from PIL import Image

from cbam_keras import explain, insert_attention, models
from cbam_keras.explain import figures
from cbam_keras.explain.figures import maps, style

DOCS = pathlib.Path(__file__).parent
FIGURES = DOCS / "figures"
NOTEBOOK = DOCS.parent / "notebooks" / "08_attend_to_signals.ipynb"
# Of scikit-image: class of ImageNet, and a box drawn by hand around the object
# in the middle square of 224 pixels: y_min, x_min, y_max, x_max.
PHOTOGRAPHS = {
    "chelsea.png": ("Egyptian cat", 285, (40, 30, 195, 215)),
    "coffee.png": ("espresso", 967, (10, 40, 125, 165)),
    "motorcycle_left.png": ("moped", 665, (32, 20, 190, 224)),
}
# The size of the text in points is large, since a phone shows the figures at
# half of their size.
TEXT = 17


def photograph(name):
    """Returns the middle square of a photograph, `(224, 224, 3)`."""
    path = pathlib.Path(skimage.__file__).parent / "data" / name
    # Notebook 04 resizes in the same way, so the probabilities agree.
    square = layers.Resizing(224, 224, crop_to_aspect_ratio=True)
    whole = np.asarray(Image.open(path).convert("RGB"))
    return ops.convert_to_numpy(square(whole)).round().astype("uint8")


def draw_box(axes, box):
    """Draws a box `y_min, x_min, y_max, x_max` of pixels, around them."""
    y_min, x_min, y_max, x_max = np.subtract(box, 0.5)
    drawn = patches.Rectangle((x_min, y_min), x_max - x_min, y_max - y_min)
    # A black outline can be seen on every image.
    outline = patheffects.withStroke(linewidth=2.7, foreground="black")
    drawn.set(fill=False, edgecolor="white", linewidth=1.5)
    drawn.set_path_effects([outline])
    axes.add_patch(drawn)


def draw_photographs():
    """Returns the figure of a trained network with CBAM inserted."""
    photographs = np.stack([photograph(name) for name in PHOTOGRAPHS])
    model = models.EfficientNetLite0(weights="imagenet")
    model = insert_attention(model, "cbam")
    scaled = (photographs - np.float32(127)) / 128
    predicted = model.predict(scaled, verbose=0)
    heat = explain.grad_cam(model, scaled)
    figure = figures.new_figure(8.4, 3.2, "")
    panels = figure.subplots(1, len(PHOTOGRAPHS))
    scale = style.color_scale("inferno", (0, 1), first=0.25, alpha=maps.OPACITY)
    for number, (name, index, box) in enumerate(PHOTOGRAPHS.values()):
        if predicted[number].argmax() != index:
            raise ValueError(f'The photograph is not seen as "{name}".')
        axes = panels[number]
        gray = style.luminance(photographs[number] / 255)
        axes.imshow(gray, cmap="gray", vmin=-0.3, vmax=1.3)
        axes.imshow(heat[number], cmap=scale.cmap, norm=scale.norm)
        draw_box(axes, box)
        axes.set(xticks=[], yticks=[])
        chance = predicted[number, index]
        axes.set_xlabel(
            f"{name}, {100 * chance:.0f}%", fontsize=TEXT, labelpad=8
        )
    return figure


def draw_signals():
    """Returns the figure of a heart beat of notebook 08 that is anomalous."""
    names = {}
    for source in cells(until="explain.grad_cam("):
        exec(source, names)
    signals = names["sick_signals"][:1]
    gates = explain.attention_maps(names["model"], signals)
    _, gate = list(gates.values())[-1]
    beat = names["LENGTH"] * names["sick_beats"][0]
    rows = {
        "Grad-CAM of the class “anomaly”": (names["heat"][:1], "Oranges"),
        "Spatial gate of the last CBAM": (gate, "viridis"),
    }
    figure = figures.new_figure(8, 4.2, "")
    panels = figure.subplots(len(rows))
    end = len(signals[0])
    for axes, (title, (values, colors)) in zip(
        panels, rows.items(), strict=True
    ):
        low, high = signals.min() - 0.2, signals.max() + 0.2
        axes.imshow(
            values, cmap=colors, extent=(0, end, low, high), aspect="auto"
        )
        for color, width in (("white", 5), ("black", 1.8)):
            axes.plot(signals[0], color=color, linewidth=width)
        axes.axvspan(
            beat + names["start"],
            beat + names["end"],
            fill=False,
            edgecolor="#0072B2",
            linewidth=3,
        )
        axes.set(xlim=(0, end), ylim=(low, high), xticks=[], yticks=[])
        axes.set_title(title, fontsize=TEXT, loc="left")
    return figure


def cells(until):
    """Yields the code of the notebook after its installation."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [x.source for x in notebook.cells if x.cell_type == "code"]
    for source in code[1:]:
        yield source.replace("%matplotlib inline\n", "")
        if until in source:
            return


if __name__ == "__main__":
    draw_photographs().savefig(FIGURES / "first-sight.png", dpi=90)
    draw_signals().savefig(FIGURES / "signals.png", dpi=90)
