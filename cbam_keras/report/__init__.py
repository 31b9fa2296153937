"""The output folder of a run as one HTML page.

- `report`: `write`, and what the page says of each kind of run.
- `page`: what a page holds, and the file that it becomes.
- `explanations`: networks explained on images, drawn and written.
- `networks`, `images`: networks of files and runs; the images they are shown.
- `plotting`: all figures of the package, by one name.
"""

from cbam_keras.report.explanations import (
    Settings,
    explain_files,
    list_means,
    list_predictions,
)
from cbam_keras.report.networks import find_networks
from cbam_keras.report.report import MAX_NETWORKS, write

__all__ = ["write"]
