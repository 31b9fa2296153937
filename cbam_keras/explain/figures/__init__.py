"""Figures of heat maps and attention maps, as `matplotlib.figure.Figure`.

- `maps`: heat maps and attention maps over images and signals.
- `masks`: masks, predictions, and where they differ.
- `grid`: panels of images with maps over them, and their color bar.
- `style`: colors, axes, legends and texts of all figures.
"""

from cbam_keras.explain.figures import style
from cbam_keras.explain.figures.grid import luminance
from cbam_keras.explain.figures.maps import (
    MAX_ROWS,
    plot_attention_maps,
    plot_grad_cam,
)
from cbam_keras.explain.figures.masks import plot_masks
from cbam_keras.explain.figures.style import new_figure
