"""All figures, drawn with matplotlib."""

from cbam_keras.explain.figures import (
    plot_attention_maps,
    plot_grad_cam,
    plot_masks,
)
from cbam_keras.study.results.figures import (
    plot_confusion,
    plot_history,
    plot_reliability,
    plot_roc,
)

__all__ = [
    "plot_grad_cam",
    "plot_attention_maps",
    "plot_masks",
    "plot_history",
    "plot_confusion",
    "plot_roc",
    "plot_reliability",
]


def __dir__() -> list[str]:
    return __all__
