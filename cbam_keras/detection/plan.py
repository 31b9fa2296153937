"""What is compared, after all arguments have been checked."""

import dataclasses
from typing import Any

import keras

from cbam_keras import _checks, comparison, training
from cbam_keras._run_folder import default_output
from cbam_keras.detection import networks
from cbam_keras.detection.anchors import Anchors, choose_anchors
from cbam_keras.detection.loading import DetectionData, load_data
from cbam_keras.detection.results import BASELINE
from cbam_keras.layers import ATTENTION

DEFAULT_RECIPE = training.Recipe(epochs=12, batch_size=16, learning_rate=2e-3)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared, and how."""

    backbone: str
    attentions: dict[str, Any]
    layer_options: dict[str, Any]
    images: Any
    data_options: dict[str, Any]
    recipe: training.Recipe
    seeds: tuple[int, ...]
    # Of the first seed.
    loaded: DetectionData
    anchors: Anchors

    @classmethod
    def of(
        cls,
        attentions,
        backbone,
        images,
        recipe,
        layer_options,
        data_options,
        seeds,
    ):
        names = _checks.subset("attention", attentions, [BASELINE, *ATTENTION])
        _checks.one_of("backbone", backbone, networks.BACKBONES)
        recipe = training.find_recipe(
            DEFAULT_RECIPE if recipe is None else recipe
        )
        chosen = training.check_seeds(seeds)
        # Needed only later, but checked before any work.
        for module in ("keras_hub", "pycocotools.cocoeval"):
            _checks.require(module, extra="detect")
        _checks.require("matplotlib.figure", extra="plot")
        if len(chosen) > 1:
            _checks.require("scipy.stats", extra="tune")
        made, options = comparison.attention_layers(
            names, backbone, layer_options
        )
        own = dict(data_options or {})
        loaded = _loaded(images, recipe, own, chosen[0])
        encoder = networks.build_backbone(backbone, loaded.image_shape, None)
        levels = networks.levels_for(loaded.image_shape, encoder)
        anchors = choose_anchors(
            loaded.train.records, loaded.image_shape[:2], *levels
        )
        return cls(
            *(backbone, made, options, images, own, recipe, chosen),
            *(loaded, anchors),
        )

    @property
    def names(self) -> list[tuple[int, str]]:
        """Seed and attention of each detector, in the order of training."""
        return [(seed, name) for seed in self.seeds for name in self.attentions]

    def default_output(self):
        """Returns the default folder."""
        return default_output("detect", self.loaded.name, self.backbone)

    def settings(self):
        """Returns the settings of the run, as plain values."""
        recipe = dataclasses.asdict(self.recipe)
        del recipe["seed"]
        return {
            "data": self.loaded.describe(),
            "recipe": recipe,
            "networks": list(self.attentions),
            "model": self.backbone,
            "layer_options": self.layer_options,
            "anchors": dataclasses.asdict(self.anchors),
            "backend": keras.backend.backend(),
        }

    def data_of(self, seed):
        """Returns the images of a seed."""
        if seed == self.loaded.seed:
            return self.loaded
        return _loaded(self.images, self.recipe, self.data_options, seed)


def _loaded(images, recipe, options, seed):
    by_recipe = {
        "batch_size": recipe.batch_size,
        "augment": recipe.augment,
        "image_size": recipe.image_size,
        "seed": seed,
    }
    for key in options:
        if key in by_recipe:
            raise ValueError(
                f"`{key}` is an option of the recipe, not of the data. "
                f"Received: data_options={options!r}"
            )
    return load_data(images, **by_recipe, **options)
