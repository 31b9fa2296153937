"""Images of any source as batches.

- `loading`: `load`.
- `image_data`: `ImageData`, which it returns.
- `sources`: which source a name stands for.
- `arrays`, `digits`, `folder`, `tfds`: the sources.
- `records`: images and labels before batching.
- `splitting`: splits with the same fraction of each class.
- `decoding`: encoded images to arrays of one size.
- `batches`: records as a dataset for `fit`, shuffled, shared by processes.
- `augmentation`: random flips, crops, RandAugment, MixUp, CutMix.
"""

from cbam_keras.data.augmentation import AUGMENTATIONS
from cbam_keras.data.decoding import (
    evaluation_box,
    headers,
    pil_decode,
    pil_resize,
)
from cbam_keras.data.digits import EMBEDDED, mnist_digits
from cbam_keras.data.folder import ENDINGS
from cbam_keras.data.image_data import ImageData
from cbam_keras.data.loading import load
from cbam_keras.data.records import SPLITS, Records, digest
from cbam_keras.data.sources import PATH_STARTS, dataset_name, find_source
from cbam_keras.data.splitting import stratified
from cbam_keras.data.tfds import prepared_builder

__all__ = ["AUGMENTATIONS", "EMBEDDED", "ImageData", "load"]
