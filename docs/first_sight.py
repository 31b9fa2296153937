"""Draws `docs/figures/first-sight.png`: photographs, and articles of clothing.

python -m benchmarks.when_it_helps articles
python docs/first_sight.py runs/when-it-helps/articles
"""

import pathlib
import sys

import keras
import numpy as np
import skimage
from PIL import Image

from benchmarks.when_it_helps import arrays
from cbam_keras import explain, insert_attention, models, plotting
from cbam_keras.plotting import style

FILE = pathlib.Path(__file__).parent / "figures" / "first-sight.png"
# Of scikit-image: class of ImageNet, and a box drawn by hand around the object
# in the middle square of 224 pixels: y_min, x_min, y_max, x_max.
PHOTOGRAPHS = {
    "chelsea.png": ("Egyptian cat", 285, (40, 30, 195, 215)),
    "coffee.png": ("espresso", 967, (10, 40, 125, 165)),
    "rocket.jpg": ("missile", 657, (55, 45, 200, 175)),
}
ARTICLES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
# Of the test images, the first of three different classes.
CHOSEN = (0, 1, 4)
# A layer of the network with attention.
LAYER = "stage2_block1_attention"


def photograph(name):
    """Returns the middle square of a photograph, `(224, 224, 3)`."""
    folder = pathlib.Path(skimage.__file__).parent / "data"
    whole = Image.open(folder / name).convert("RGB")
    side = min(whole.size)
    x, y = ((size - side) // 2 for size in whole.size)
    square = whole.crop((x, y, x + side, y + side))
    return np.asarray(square.resize((224, 224), Image.BICUBIC))


def draw(folder):
    """Returns the figure, of networks in a folder of `benchmarks`."""
    figure = plotting.new_figure(13, 7.6, "")
    panels = figure.subplots(3, 6)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])

    photographs = np.stack([photograph(name) for name in PHOTOGRAPHS])
    model = models.EfficientNetLite0(weights="imagenet")
    model = insert_attention(model, "cbam")
    scaled = models.preprocess_efficientnet_lite0(photographs)
    predicted = model.predict(scaled, verbose=0)
    heat = explain.grad_cam(model, scaled)
    for number, (name, index, box) in enumerate(PHOTOGRAPHS.values()):
        if predicted[number].argmax() != index:
            raise ValueError(f'The photograph is not seen as "{name}".')
        shown, over = panels[0, 2 * number : 2 * number + 2]
        shown.imshow(photographs[number])
        shown.set_xlabel("photograph")
        _overlay(over, photographs[number] / 255, heat[number], box)
        chance = predicted[number, index]
        over.set_xlabel(f"Grad-CAM: {name}, {chance:.0%}")

    _, (images, labels), boxes = arrays("articles-36000")
    images = images[list(CHOSEN), ..., None].astype("float32")
    seen = {}
    for name, words in (("none", "without"), ("cbam", "with CBAM")):
        model = keras.saving.load_model(folder / f"{name}-seed0.keras")
        found = model.predict(images, verbose=0)
        seen[words] = found, explain.grad_cam(model, images)
    # Of the last network, that with CBAM.
    maps = explain.attention_maps(model, images)[LAYER][1]
    for number, chosen in enumerate(CHOSEN):
        left, right = panels[1:, 2 * number], panels[1:, 2 * number + 1]
        image, box = images[number] / 255, boxes[chosen]
        left[0].imshow(plotting.luminance(image), cmap="gray")
        plotting.draw_box(left[0], box)
        left[0].set_xlabel(f"test image: {ARTICLES[labels[chosen]]}")
        _overlay(right[0], image, maps[number], box, gate=True)
        right[0].set_xlabel("spatial gate of CBAM")
        for axes, (words, (found, heat)) in zip(
            (left[1], right[1]), seen.items(), strict=True
        ):
            _overlay(axes, image, heat[number], box)
            chance, name = found[number].max(), found[number].argmax()
            axes.set_xlabel(f"{words}: {ARTICLES[name]}, {chance:.0%}")
    for row, (image, label) in {
        0: (panels[0, 1].images[-1], "heat"),
        1: (panels[1, 1].images[-1], "gate"),
        2: (panels[2, 1].images[-1], "heat"),
    }.items():
        figure.colorbar(image, ax=list(panels[row]), label=label, pad=0.01)
    return figure


def _overlay(axes, image, values, box, gate=False):
    """Draws a map over an image in gray, and the box of the object."""
    shown = axes.imshow(
        plotting.luminance(image), cmap="gray", vmin=-0.45, vmax=1.45
    )
    axes.imshow(
        values,
        cmap=style.gate_colors() if gate else style.heat_colors(),
        vmin=0,
        vmax=2 if gate else 1,
        extent=shown.get_extent(),
    )
    plotting.draw_box(axes, box)


if __name__ == "__main__":
    draw(pathlib.Path(sys.argv[1])).savefig(FILE, dpi=90)
