"""Draws `docs/figures/first-sight.png`: what a trained network attends to.

cbam-keras train --attention cbam --epochs 5 --output runs/first
cbam-keras explain runs/first --draw 6 --count 6 --output runs/first-seen
python docs/first_sight.py runs/first-seen
"""

import json
import pathlib
import sys

import numpy as np

from cbam_keras import plotting

FILE = pathlib.Path(__file__).parent / "figures" / "first-sight.png"
# The layer whose gates are shown, and how each row is called.
LAYER = "stage2_block1_attention"
ROWS = ("input", "channel\ngate", "spatial gate", "Grad-CAM")


def draw(folder):
    """Returns the figure of a folder that `cbam-keras explain` has written."""
    with np.load(folder / "arrays.npz") as file:
        arrays = {name: file[name] for name in file.files}
    described = json.loads((folder / "explain.json").read_text())["images"]
    images = arrays["images"] / 255
    channel, spatial = (
        arrays[f"cbam/attention/{LAYER}/{kind}"]
        for kind in ("channel", "spatial")
    )
    figure = plotting.new_figure(1.7 * len(images), 6.2, "")
    panels = figure.subplots(
        len(ROWS), len(images), height_ratios=(1, 0.45, 1, 1)
    )
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for row, name in zip(panels, ROWS, strict=True):
        row[0].set_ylabel(name, fontsize=11)
    over = plotting.gate_colors()
    for number, image in enumerate(images):
        own = panels[:, number]
        gray = plotting.luminance(image)
        own[0].imshow(gray, cmap="gray")
        own[1].bar(range(channel.shape[1]), channel[number], color="#d07a1e")
        own[1].set_ylim(0, channel.max())
        shown = own[2].imshow(gray, cmap="gray", vmin=-0.45, vmax=1.45)
        own[2].imshow(
            spatial[number],
            cmap=over,
            vmin=0,
            vmax=spatial.max(),
            extent=shown.get_extent(),
        )
        own[3].imshow(gray, cmap="gray", vmin=-0.45, vmax=1.45)
        own[3].imshow(
            arrays["cbam/heat_maps"][number],
            cmap=plotting.heat_colors(),
            vmin=0,
            vmax=1,
        )
        found = described[number]["models"]["cbam"]
        own[3].set_xlabel(
            f"{found['predicted_class']} ({found['predicted_probability']:.0%})"
            f", true {described[number]['true_class']}"
        )
    return figure


if __name__ == "__main__":
    draw(pathlib.Path(sys.argv[1])).savefig(FILE, dpi=110)
