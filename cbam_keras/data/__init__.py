"""Images, signals and so on, of any source, as batches.

- `loading`: `load`, and `ImageData`, which it returns.
- `source`: `Source`, which reads and splits every kind of data.
- `arrays`: arrays, and batches of them.
- `folders`, `tables`: folders of images; CSV files and data frames.
- `patterns`, `layouts`: what paths mean; names of splits and masks.
- `groups`: groups that names of files tell of, such as frames of a video.
- `beside`: tables beside images that have their classes.
- `proposals`, `mask_proposals`, `levels`: what reads a folder of several
  meanings, tried on its names.
- `digits`, `tfds`: the embedded datasets, those of TensorFlow Datasets.
- `formats`: files that are not read, and the package that reads them.
- `examples`, `kinds`: examples before batching; images, signals and so on.
- `masks`, `pairs`: classes of pixels; folders of images and of masks.
- `splits`: how they are split, also into folds.
- `decoding`, `augmentation`: images to arrays of one size; random changes.
- `batches`: examples as a dataset for `fit`.
"""

from cbam_keras.data.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    list_augmentations,
)
from cbam_keras.data.batches import for_fit
from cbam_keras.data.decoding import (
    ENDINGS,
    get_threads,
    list_formats,
    pil_decode,
    pil_resize,
    read_all,
    read_example,
    read_header,
)
from cbam_keras.data.digits import EMBEDDED, load_digits
from cbam_keras.data.examples import (
    Dataset,
    Examples,
    Rows,
    describe_counts,
    digest,
)
from cbam_keras.data.kinds import IMAGES, kind_of, noun_of
from cbam_keras.data.layouts import LayoutError
from cbam_keras.data.loading import (
    Given,
    ImageData,
    Images,
    load,
    load_masks,
    load_source,
)
from cbam_keras.data.source import PATH_STARTS, Source, source_of_masks
from cbam_keras.data.splits import SPLITS, check_folds, stratify
from cbam_keras.data.tables import is_table

__all__ = [
    "load",
    "load_masks",
    "for_fit",
    "ImageData",
    "EMBEDDED",
    "AUGMENTATIONS",
]


def __dir__() -> list[str]:
    return __all__
