"""Images of any source as batches.

- `loading`: `load`.
- `image_data`: `ImageData`, what it returns.
- `sources`: which source a name stands for.
- `records`: images and labels before they become batches.
- `splitting`: splits with the same fraction of each class.
- `arrays`, `folder`, `digits`, `tfds`: the sources.
- `decoding`: one image file to an array.
- `preloading`: whole datasets decoded before training.
- `augmentation`: random flips, crops, MixUp and the rest.
- `plan`: which image is where in which batch.
- `batches`, `tensorflow_batches`: the batches themselves.
"""

from cbam_keras.data.augmentation import AUGMENTATIONS
from cbam_keras.data.decoding import evaluation_box, pil_decode, pil_resize
from cbam_keras.data.digits import EMBEDDED
from cbam_keras.data.folder import ENDINGS
from cbam_keras.data.image_data import ImageData
from cbam_keras.data.loading import load
from cbam_keras.data.preloading import headers
from cbam_keras.data.records import SPLITS, Records
from cbam_keras.data.sources import dataset_name, find_source

__all__ = ["AUGMENTATIONS", "EMBEDDED", "ImageData", "load"]
