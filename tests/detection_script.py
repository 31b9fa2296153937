"""Loads a detector in a fresh process, and saves what it finds.

Arguments: the `.keras` file, a `.npy` file of images, the `.npz` to write.
"""

import sys

import numpy as np

from cbam_keras import detection

detector = detection.load_model(sys.argv[1])
np.savez(sys.argv[3], **detector.detect(np.load(sys.argv[2])))
