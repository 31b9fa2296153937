"""Draws `docs/figures/first-sight.png`: photographs, and heat maps of them.

python docs/first_sight.py
"""

import pathlib

import numpy as np
import skimage
from PIL import Image

from cbam_keras import explain, insert_attention, models, plotting
from cbam_keras.explain.figures import maps, style

FILE = pathlib.Path(__file__).parent / "figures" / "first-sight.png"
# Of scikit-image: class of ImageNet, and a box drawn by hand around the object
# in the middle square of 224 pixels: y_min, x_min, y_max, x_max.
PHOTOGRAPHS = {
    "chelsea.png": ("Egyptian cat", 285, (40, 30, 195, 215)),
    "coffee.png": ("espresso", 967, (10, 40, 125, 165)),
    "motorcycle_left.png": ("moped", 665, (32, 20, 190, 224)),
}


def photograph(name):
    """Returns the middle square of a photograph, `(224, 224, 3)`."""
    folder = pathlib.Path(skimage.__file__).parent / "data"
    whole = Image.open(folder / name).convert("RGB")
    side = min(whole.size)
    x, y = ((size - side) // 2 for size in whole.size)
    square = whole.crop((x, y, x + side, y + side))
    return np.asarray(square.resize((224, 224), Image.BICUBIC))


def draw():
    """Returns the figure, of a trained network with CBAM inserted."""
    photographs = np.stack([photograph(name) for name in PHOTOGRAPHS])
    model = models.EfficientNetLite0(weights="imagenet")
    model = insert_attention(model, "cbam")
    scaled = models.preprocess_efficientnet_lite0(photographs)
    predicted = model.predict(scaled, verbose=0)
    heat = explain.grad_cam(model, scaled)
    figure = plotting.new_figure(13, 2.5, "")
    panels = figure.subplots(1, 2 * len(PHOTOGRAPHS))
    scale = style.color_scale("inferno", (0, 1), first=0.25, alpha=maps.OPACITY)
    for number, (name, index, box) in enumerate(PHOTOGRAPHS.values()):
        if predicted[number].argmax() != index:
            raise ValueError(f'The photograph is not seen as "{name}".')
        shown, over = panels[2 * number : 2 * number + 2]
        shown.imshow(photographs[number])
        gray = plotting.luminance(photographs[number] / 255)
        over.imshow(gray, cmap="gray", vmin=-0.3, vmax=1.3)
        over.imshow(heat[number], cmap=scale.cmap, norm=scale.norm)
        plotting.draw_box(over, box)
        chance = predicted[number, index]
        over.set_xlabel(f"Grad-CAM: {name}, {chance:.0%}")
    for axes in panels:
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(scale, ax=list(panels), label="heat", pad=0.01)
    return figure


if __name__ == "__main__":
    draw().savefig(FILE, dpi=90)
