"""The work of `cbam-keras explain`: models and images on disk.

- `report`: the folder with figures, maps and findings.
- `models`: models loaded and checked.
- `images`: images from files, folders and datasets.
- `findings`: what the maps say, in words and numbers.
"""

from cbam_keras.explain_report.images import from_data, from_paths
from cbam_keras.explain_report.models import ENDINGS
from cbam_keras.explain_report.report import Settings, explain_files
