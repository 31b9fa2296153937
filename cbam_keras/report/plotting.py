"""All figures, drawn with matplotlib."""

from cbam_keras.explain.figures import (
    plot_attention_maps,
    plot_grad_cam,
    plot_masks,
)
from cbam_keras.study.results.figures import plot_history

__all__ = [
    "plot_grad_cam",
    "plot_attention_maps",
    "plot_masks",
    "plot_history",
]
