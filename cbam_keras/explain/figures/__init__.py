"""Figures of heat maps, attention maps and masks, of `matplotlib.figure`.

- `maps`: heat maps, attention maps and masks over images and signals.
- `shown`: a figure that displays itself in notebooks.
- `style`: colors, axes, legends, texts and panels of all figures.
"""

from cbam_keras.explain.figures import style
from cbam_keras.explain.figures.maps import (
    plot_attention_maps,
    plot_grad_cam,
    plot_masks,
)
from cbam_keras.explain.figures.style import new_figure
