"""data."""

from cbam_keras.data.decoding import (
    evaluation_box,
    headers,
    pil_decode,
    pil_resize,
)
from cbam_keras.data.folder import ENDINGS
from cbam_keras.data.loading import AUGMENTATIONS, EMBEDDED, ImageData, load
from cbam_keras.data.records import SPLITS, Records
from cbam_keras.data.sources import find
