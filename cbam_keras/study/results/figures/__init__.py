"""Figures of studies, as `matplotlib.figure.Figure`.

- `curves`: training curves, test errors of ablations.
- `costs`: accuracy against cost.
- `search`: accuracy by ratio and kernel size.
- `judged`: confusion matrices, ROC and reliability.
"""

from cbam_keras.study.results.figures.costs import plot_costs
from cbam_keras.study.results.figures.curves import plot_ablation, plot_history
from cbam_keras.study.results.figures.judged import (
    plot_confusion,
    plot_reliability,
    plot_roc,
)
from cbam_keras.study.results.figures.search import plot_pareto, plot_search
