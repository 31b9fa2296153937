"""data."""

from cbam_keras.data.augmentation import AUGMENTATIONS
from cbam_keras.data.decoding import evaluation_box, pil_decode, pil_resize
from cbam_keras.data.digits import EMBEDDED
from cbam_keras.data.folder import ENDINGS
from cbam_keras.data.image_data import ImageData
from cbam_keras.data.loading import load
from cbam_keras.data.preloading import headers
from cbam_keras.data.records import SPLITS, Records
from cbam_keras.data.sources import find
