"""`PyramidBackbone`: a network as KerasHub's detectors and segmenters take it.

Imported late, since it subclasses a class of KerasHub.
"""

from collections.abc import Mapping

import keras
import keras_hub


@keras.saving.register_keras_serializable(package="cbam_keras")
class PyramidBackbone(keras_hub.models.FeaturePyramidBackbone):
    """Network with `pyramid_outputs`; see `detection.feature_pyramid`.

    Its config holds the network itself, so that it can be loaded whatever the
    network is made of.

    Args:
        network: Functional `keras.Model` that takes images.
        levels: Mapping of `"P3"` and so on to names of its layers.
        dtype: See `keras.Model`. Defaults to `None`.
        **kwargs: See `keras.Model`.
    """

    def __init__(
        self,
        network: keras.Model,
        levels: Mapping[str, str],
        dtype=None,
        **kwargs,
    ):
        maps = {
            level: network.get_layer(levels[level]).output
            for level in sorted(levels)
        }
        super().__init__(
            inputs=network.inputs[0],
            outputs=maps[max(maps)],
            dtype=dtype,
            **kwargs,
        )
        self.network = network
        self.levels = dict(levels)
        # What KerasHub's tasks read.
        self.image_shape = tuple(network.inputs[0].shape[1:])
        self.pyramid_outputs = maps

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "levels": self.levels,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["network"], dict):
            config["network"] = keras.saving.deserialize_keras_object(
                config["network"]
            )
        return cls(**config)
