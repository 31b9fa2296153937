"""Figures, one file a figure.

- `history`: curves of training.
- `search`: effects of hyperparameters.
- `pareto`: accuracy against cost.
- `ablation`: tables of an ablation, drawn.
- `grad_cam`: heat maps over images.
- `attention_maps`: the gates of each layer.
- `trials`: how kinds of attention are coloured.
- `style`: fonts, sizes and colours.
- `sheet`: grids of images.
- `pictures`: images and maps checked and scaled for drawing.
"""

from cbam_keras.plotting.ablation import plot_ablation
from cbam_keras.plotting.attention_maps import plot_attention_maps
from cbam_keras.plotting.grad_cam import plot_grad_cam
from cbam_keras.plotting.history import plot_history
from cbam_keras.plotting.pareto import plot_pareto
from cbam_keras.plotting.pictures import MOST_ROWS, grey
from cbam_keras.plotting.search import plot_search

__all__ = [
    "plot_ablation",
    "plot_attention_maps",
    "plot_grad_cam",
    "plot_history",
    "plot_pareto",
    "plot_search",
]
