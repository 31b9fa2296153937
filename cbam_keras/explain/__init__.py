"""Grad-CAM and attention maps, and the work of `cbam-keras explain`.

- `cam`: Grad-CAM, Grad-CAM++ and HiResCAM.
- `attention`: the attention maps of every layer.
- `classes`: class probabilities, and the class that is explained.
- `pointing`: the fraction of heat inside boxes.
- `targets`: the feature map that is explained.
- `gradients`: the gradient at an intermediate tensor, on each backend.

Models and images in files:

- `report`: the output folder, with figures, arrays and results.
- `settings`: how images are explained.
- `models`: models loaded from files.
- `runs`: the models and the dataset in the folder of a run.
- `images`: images from files, folders and datasets.
- `explaining`: the maps, batch by batch.
- `results`: the results, as tables, JSON and arrays.
"""

from cbam_keras.explain.attention import attention_maps
from cbam_keras.explain.cam import METHODS, grad_cam
from cbam_keras.explain.classes import class_probabilities
from cbam_keras.explain.gradients import gradient_at as gradient_at
from cbam_keras.explain.images import from_data, from_paths
from cbam_keras.explain.models import ENDINGS, load_model
from cbam_keras.explain.pointing import pointing_game
from cbam_keras.explain.report import explain_files, explain_run
from cbam_keras.explain.runs import files_of_run
from cbam_keras.explain.settings import Settings

__all__ = [
    "METHODS",
    "attention_maps",
    "class_probabilities",
    "grad_cam",
    "pointing_game",
]
