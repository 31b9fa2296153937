"""plotting."""

from cbam_keras.plotting.pictures import MOST_ROWS, grey
from cbam_keras.plotting.search import (
    plot_ablation,
    plot_attention_maps,
    plot_grad_cam,
    plot_history,
    plot_pareto,
    plot_search,
)
