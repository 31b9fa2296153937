"""Figures of results, as `matplotlib.figure.Figure`.

- `maps`: heat maps and attention maps over images, signals and volumes.
- `curves`: training curves; means, seeds and intervals.
- `costs`: accuracy against cost.
- `search`: accuracy by ratio and kernel size, and the Pareto front.
- `grid`: panels of images with maps over them, and their color bar.
- `style`: colors, axes, legends and texts.
"""

from cbam_keras.plotting.costs import plot_costs
from cbam_keras.plotting.curves import plot_ablation, plot_history
from cbam_keras.plotting.grid import draw_box, luminance
from cbam_keras.plotting.maps import (
    MAX_ROWS,
    plot_attention_maps,
    plot_grad_cam,
)
from cbam_keras.plotting.search import plot_pareto, plot_search
from cbam_keras.plotting.style import new_figure

__all__ = [
    "plot_grad_cam",
    "plot_attention_maps",
    "plot_history",
    "plot_search",
    "plot_pareto",
    "plot_costs",
    "plot_ablation",
]
