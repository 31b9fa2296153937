"""A run that is explained: its networks, and how its images were split."""

import dataclasses
import pathlib

import keras

from cbam_keras import _files, _graph, data, study
from cbam_keras._files import Json
from cbam_keras.layers import AttentionLayer


@dataclasses.dataclass(frozen=True)
class Run:
    """The output folder of a run, with networks and how images were split.

    `files` are the best network of a search and else those of the first seed,
    those of the last table first. `images` describes the images that they were
    trained and tested on. There is no `source` of arrays and data frames.
    """

    folder: pathlib.Path
    content: Json
    files: list[pathlib.Path]
    source: data.Source | None
    images: Json

    @property
    def has_masks(self) -> bool:
        return self.source is not None and self.source.masks is not None

    @property
    def class_names(self) -> list[str]:
        return self.content["class_names"]

    @property
    def seed(self) -> int:
        """The seed of the split, and of the choice of images."""
        return self.images["seed"]

    def split(self) -> data.Dataset:
        """Returns the images as they were split, unless they have changed."""
        if self.source is None:
            raise ValueError(
                "A run must say where its images are. Received: "
                f'"{self.folder}", whose images are arrays or data frames. '
                "Give others, by --images FOLDER"
            )
        folds = self.images.get("folds"), self.images.get("fold", 0)
        dataset = self.source.split(self.seed, *folds)
        if self.images.get("fingerprint") not in (None, dataset.fingerprint):
            raise ValueError(
                "The data of a run must be as they were, or its test images "
                f'may be others. Received: "{self.source.data}", which has '
                "changed since. Give --images to explain it as it is"
            )
        return dataset


def read_run(folder: pathlib.Path) -> Run:
    """Returns the run in a folder, which must have networks."""
    results = study.Results.read(folder)
    content = study.read_content(folder)
    files = [folder / name for name in results.networks()]
    files = [file for file in files if file.exists()]
    if not files:
        raise ValueError(
            f'A folder of a run must hold models. Received: "{folder}", where '
            "none is finished yet. Run the same command again to resume it"
        )
    first, descriptions = results.first_run, results.settings["data"]
    images = descriptions.get(first.name, next(iter(descriptions.values())))
    images = {"seed": first.seed, **images}
    if results.folds is not None:
        # The best network of a search may be of a new seed.
        best = content.get("best_network", {})
        images["seed"] = best.get("seed", first.seed)
        images["fold"] = best.get("fold", first.fold)
    source = content["source"] and data.Source.from_description(
        content["source"]
    )
    return Run(folder, content, files, source, images)


def load_classifier(path: pathlib.Path) -> keras.Model:
    """Returns the model of a run on classes in a file."""
    try:
        model = _files.load_model(path)
    # Keras raises errors of many types for a damaged file or another format.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            "A model must be a complete file that keras.saving.load_model "
            f'loads. Received: "{path}" ({reason[0]}). For custom layers, '
            "import the module that registers them with --import MODULE"
        ) from error
    model = _graph.with_graph("model", model)
    outputs = [tuple(x.shape) for x in model.outputs]
    if outputs == [(None, 1)]:
        # A run trains a single unit for two classes.
        model.loss = "binary_crossentropy"
    return model


def has_attention(model: keras.Model) -> bool:
    """Returns whether a model has layers of this package."""
    layers = _graph.layers_within(model)
    return any(isinstance(layer, AttentionLayer) for layer in layers)
