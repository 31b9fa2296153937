"""Images of any source as batches.

- `loading`: `load`, and `ImageData`, which it returns.
- `sources`: arrays, and which source a name stands for.
- `folders`, `tables`: folders of images; CSV files and data frames of them.
- `digits`, `tfds`: the embedded datasets, those of TensorFlow Datasets.
- `examples`: images and labels, before resizing and batching.
- `splits`: how they are split, also into folds.
- `decoding`: encoded images to arrays of one size.
- `augmentation`: random flips, shifts and crops.
- `keras_layers`: Keras' random layers as augmentation.
- `memory`: whether batches fit into it.
- `batches`: examples as a dataset for `fit`: shuffled, augmented, shared by
  processes.
"""

from cbam_keras.data.augmentation import AUGMENTATIONS, check_augmentations
from cbam_keras.data.decoding import (
    ENDINGS,
    bits_of,
    evaluation_box,
    formats,
    headers,
    left_out,
    pil_decode,
    pil_resize,
    threads,
    why_left_out,
)
from cbam_keras.data.digits import EMBEDDED, mnist_digits
from cbam_keras.data.examples import Examples, counted, digest
from cbam_keras.data.folders import entered, image_files
from cbam_keras.data.keras_layers import LAYERS, Augmentation, plain
from cbam_keras.data.loading import SIDE, ImageData, Images, load
from cbam_keras.data.memory import check_memory
from cbam_keras.data.sources import (
    PATH_STARTS,
    dataset_name,
    find_dataset,
    is_batches,
)
from cbam_keras.data.splits import SPLITS, check_folds, stratified
from cbam_keras.data.tables import is_table
from cbam_keras.data.tfds import (
    ensure_prepared,
    find_builder,
    wrong_features,
)

__all__ = [
    "load",
    "ImageData",
    "EMBEDDED",
    "AUGMENTATIONS",
    "LAYERS",
]
