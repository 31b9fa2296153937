"""convert."""

from cbam_keras.convert.loading import Report, load_torch_weights
