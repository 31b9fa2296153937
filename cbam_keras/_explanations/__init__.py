"""Networks in files, explained on images in files and datasets.

What `cbam-keras explain` does, and the explanations in reports.

- `explanation`: predictions explained, drawn and written.
- `networks`: networks from files and output folders.
- `images`: images from files, folders and datasets.
- `classes`: the names of classes, and true classes.
- `tables`: what is written, as rows of text.
"""

from cbam_keras._explanations.explanation import Settings, explain_files
from cbam_keras._explanations.images import Source, from_data, from_paths
from cbam_keras._explanations.networks import load_model, networks_of
from cbam_keras._explanations.tables import means, predictions
