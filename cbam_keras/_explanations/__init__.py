"""Networks in files, explained on images in files and datasets.

What `cbam-keras explain` does, and the explanations in reports.

- `explanations`: where networks look, drawn, written and as rows of text.
- `networks`: networks from files and output folders.
- `images`: images from files, a folder or a dataset, and their true classes.
"""

from cbam_keras._explanations.explanations import (
    Settings,
    explain_files,
    list_means,
    list_predictions,
)
from cbam_keras._explanations.networks import find_networks
