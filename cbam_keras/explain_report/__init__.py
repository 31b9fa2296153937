"""The work of `cbam-keras explain`: models and images in files.

- `report`: the output folder, with figures, arrays and results.
- `settings`: how images are explained.
- `models`: models loaded from files.
- `runs`: the models and the dataset in the folder of a run.
- `images`: images from files, folders and datasets.
- `explaining`: the maps, batch by batch.
- `results`: the results, as tables, JSON and arrays.
"""

from cbam_keras.explain_report.images import from_data, from_paths
from cbam_keras.explain_report.models import ENDINGS, load_model
from cbam_keras.explain_report.report import explain_files
from cbam_keras.explain_report.runs import files_of_run
from cbam_keras.explain_report.settings import Settings
