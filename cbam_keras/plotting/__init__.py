"""plotting."""

from cbam_keras.plotting.ablation import plot_ablation
from cbam_keras.plotting.attention_maps import plot_attention_maps
from cbam_keras.plotting.grad_cam import plot_grad_cam
from cbam_keras.plotting.history import plot_history
from cbam_keras.plotting.pareto import plot_pareto
from cbam_keras.plotting.pictures import MOST_ROWS, grey
from cbam_keras.plotting.search import plot_search
