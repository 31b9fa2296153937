"""Figures, one file a figure.

- `history`: loss and accuracy over the epochs.
- `search`: the effects of hyperparameters.
- `pareto`: accuracy against cost.
- `ablation`: the test errors of an ablation.
- `grad_cam`: heat maps over images.
- `signals`: heat behind signals.
- `volumes`: heat over slices of volumes.
- `attention_maps`: attention maps over images.
- `trials`: trials coloured by their kind of attention.
- `style`: colours, axes, legends and labels in lines.
- `sheet`: grids of images with a colour bar.
- `checks`: arguments of the figures of images, checked.
"""

from cbam_keras.plotting.ablation import plot_ablation
from cbam_keras.plotting.attention_maps import plot_attention_maps
from cbam_keras.plotting.checks import MAX_ROWS
from cbam_keras.plotting.grad_cam import plot_grad_cam
from cbam_keras.plotting.history import plot_history
from cbam_keras.plotting.pareto import plot_pareto
from cbam_keras.plotting.search import plot_search
from cbam_keras.plotting.sheet import heat_colors, luminance, transparent_colors
from cbam_keras.plotting.style import new_figure

__all__ = [
    "plot_ablation",
    "plot_attention_maps",
    "plot_grad_cam",
    "plot_history",
    "plot_pareto",
    "plot_search",
]
