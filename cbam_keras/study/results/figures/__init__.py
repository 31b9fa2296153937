"""Figures of studies, as `matplotlib.figure.Figure`.

- `curves`: training curves, what a study compares.
- `judged`: confusion matrices, ROC and reliability.
"""

from cbam_keras.study.results.figures.curves import (
    plot_comparison,
    plot_history,
)
from cbam_keras.study.results.figures.judged import (
    plot_confusion,
    plot_confusion_change,
    plot_numbers,
    plot_reliability,
    plot_roc,
)
