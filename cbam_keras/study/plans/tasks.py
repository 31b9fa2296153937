"""`ImageTask`, what tasks of images share, and `Classification`."""

import copy
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, data
from cbam_keras.data import ImageData, Images, Source, for_fit
from cbam_keras.study.plans.measures import (
    ACCURACY,
    MEASURES,
    SHOWN,
    Measure,
    compute,
    probabilities_and_labels,
    sensitivity_of,
    validation_key,
)
from cbam_keras.study.plans.recipes import Recipe, as_field
from cbam_keras.study.plans.study import Task
from cbam_keras.study.running.networks import (
    check_network,
    compile_network,
    loss_and_metrics,
)

# The splits of which predictions are kept.
PREDICTED = ("test", "validation")
# Arguments of `data.load` that a recipe decides.
BY_RECIPE = ("batch_size", "seed", "augment", "image_size")


class ImageTask(Task[ImageData]):
    """What tasks share whose images come from `data.load` or the like."""

    # What is compared in addition to the usual measure, if anything.
    score: str | None = None
    # The images by which networks are compared.
    split = "test"

    def __init__(self, images: Images, make_source: Callable, options: Mapping):
        self.data, self.options = images, options
        loaded = images if isinstance(images, ImageData) else None
        # Images that are loaded, or where they are.
        self.source = loaded or make_source()
        if loaded and options:
            raise ValueError(
                "`data_options` must be left out for images that are loaded "
                f'already. Received: images of "{loaded.name}", data_options='
                f"{dict(options)!r}"
            )
        if loaded and (loaded.batch_size is None or loaded.boxes):
            raise ValueError(
                "`data` must come in batches of images and labels only. "
                f"Received: images loaded with batch_size={loaded.batch_size}, "
                f"boxes={loaded.boxes}"
            )

    @property
    def measures(self) -> "tuple[Measure, ...]":
        """What is compared, and the usual measure if it is another one."""
        shown = SHOWN.get(str(self.score), {})
        compared = self._on_split(self.measure, self.measure_name, **shown)
        if self.score is None:
            return (compared,)
        return compared, self._on_split(
            type(self).measure, type(self).measure_name
        )

    def _on_split(self, key, heading, **shown):
        if self.split == "validation":
            key = validation_key(key)
            heading = f"validation {heading.removeprefix('test ')}"
        return Measure(key, heading, **shown)

    def on_validation(self) -> "ImageTask":
        """Returns the task measured on validation images, for a search."""
        task = copy.copy(self)
        task.split = "validation"
        return task

    @property
    def is_loaded(self) -> bool:
        """Whether the data are loaded already, for one seed."""
        return isinstance(self.data, ImageData)

    @property
    def name(self) -> str:
        """The name of the dataset, known before it is loaded."""
        return self.source.name

    def load(
        self, recipe: Recipe, folds: int | None = None, fold: int = 0
    ) -> ImageData:
        if isinstance(self.source, ImageData):
            return self.source
        by_recipe = {name: getattr(recipe, name) for name in BY_RECIPE}
        return data.load_source(
            self.source, **by_recipe, folds=folds, fold=fold
        )

    def compile(
        self, model: keras.Model, recipe: Recipe, data: ImageData
    ) -> None:
        loss, metrics = self.loss_and_metrics(model, recipe, data)
        compile_network(model, recipe, len(data.train), loss, metrics)

    def loss_and_metrics(
        self, model: keras.Model, recipe: Recipe, data: Any
    ) -> tuple[keras.losses.Loss, list[keras.metrics.Metric]]:
        """Returns what a network is compiled with."""
        return loss_and_metrics(model, recipe.loss)


class Classification(ImageTask):
    """Classification of images, measured by accuracy on the test images.

    Args:
        data: Anything that `cbam_keras.data.load` accepts, or its result.
            Loaded data are the same for every seed.
        measure: The measure that networks are compared by: `"test_accuracy"`,
            `"balanced_accuracy"`, `"macro_f1"`, `"auc"`, `"ece"` or `"brier"`.
            For classes of unlike size there are `"balanced_accuracy"` (the mean
            recall of the classes), `"macro_f1"` (the mean of their F1 scores)
            and `"auc"` (the area under the ROC curve; of three classes or more
            the mean over each against the others), by scikit-learn, after the
            epoch of the best validation accuracy. Classes without test images
            do not count. `"ece"` is the expected calibration error of 15 bins
            of equally many images, `"brier"` the Brier score: lower is better.
            Defaults to `"test_accuracy"`.
        threshold: For two classes, how to choose the probability from which
            the second one counts as predicted, for sensitivity and specificity
            in reports: `"youden"` (their highest sum on the validation images),
            or a minimum sensitivity there, as `"sensitivity=0.95"`. All other
            results take the more probable class. Defaults to `None`: 0.5.
        options: Further arguments of `data.load`, as `download=True`. A recipe
            or a study decides the others.

    Raises:
        TypeError: If `data` is of another kind.
        ValueError: If there is no such measure or threshold, if `data.load` has
            no such argument, or if loaded data cannot be trained on.
        ImportError: If scikit-learn is needed and missing.
    """

    measure = ACCURACY
    measure_name = "test accuracy"
    metrics = ("loss", "accuracy", "val_loss", "val_accuracy")

    def __init__(
        self,
        data: Images,
        *,
        measure: str = ACCURACY,
        threshold: str | None = None,
        **options: Any,
    ):
        self.threshold = threshold
        if threshold is not None:
            sensitivity_of(threshold)
        _checks.one_of("measure", measure, [ACCURACY, *MEASURES])
        if measure != ACCURACY:
            _checks.require("sklearn.metrics", extra="plot")
            self.score = self.measure = measure
            self.measure_name = f"test {MEASURES[measure]}"
        check_options(options, inspect.signature(Source).parameters)
        super().__init__(data, lambda: Source(data, **options), options)

    def load(
        self, recipe: Recipe, folds: int | None = None, fold: int = 0
    ) -> ImageData:
        loaded = super().load(recipe, folds, fold)
        if self.threshold is not None and len(loaded.class_names) != 2:
            raise ValueError(
                "`threshold` is for two classes. Received: threshold="
                f'"{self.threshold}", {len(loaded.class_names)} classes in '
                f'"{loaded.name}"'
            )
        return loaded

    def check(self, model: keras.Model, data: ImageData) -> None:
        check_network(model, data)

    def evaluate(self, model: keras.Model, data: ImageData) -> dict[str, float]:
        return self.test(model, data)[0]

    def predict(
        self, model: keras.Model, data: ImageData
    ) -> dict[str, np.ndarray]:
        """Returns names, labels and probabilities of images, by their split."""
        return _in_half(_predict_splits(model, data))

    def test(
        self, model: keras.Model, data: ImageData
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        if self.split != "test":
            return self.validate(model, data), {}
        arrays = _predict_splits(model, data)
        return self._measure(model, data, arrays), _in_half(arrays)

    def _measure(self, model, data, arrays):
        """Returns the measures of a network and of its predictions."""
        measured = model.evaluate(
            for_fit(data.test), verbose=0, return_dict=True
        )
        # Keras computes it in float32: this is the fraction that was meant.
        images = data.sizes["test"]
        fraction = round(float(measured.pop("accuracy")) * images) / images
        del measured["loss"]
        metrics = {ACCURACY: fraction, **measured}
        if self.score is not None:
            for split in PREDICTED:
                if f"{split}/labels" in arrays:
                    key = self.score
                    if split == "validation":
                        key = validation_key(key)
                    metrics[key] = compute(
                        self.score,
                        arrays[f"{split}/probabilities"],
                        arrays[f"{split}/labels"],
                    )
        return metrics

    def validate(self, model: keras.Model, data: ImageData) -> dict[str, float]:
        """Returns the measure, if another than the accuracy, of validation."""
        if self.score is None:
            return {}
        key = validation_key(self.score)
        both = probabilities_and_labels(model, data.validation)
        return {key: compute(self.score, *both)}


def _predict_splits(model, data):
    """Returns names, labels and probabilities of images, by their split."""
    return {
        f"{split}/{name}": array
        for split in PREDICTED
        if (batches := getattr(data, split))
        for name, array in _predict(model, batches, split).items()
    }


def _in_half(arrays):
    """Returns arrays as files keep them, for which half of the size does."""
    return {
        name: x.astype("float32") if x.dtype == "float64" else x
        for name, x in arrays.items()
    }


def _predict(model, batches, split):
    """Returns names, labels and probabilities of images."""
    scores, labels = probabilities_and_labels(model, batches)
    names = [
        name if isinstance(name, str) else f"{split} {row}"
        for row, name in itertools.zip_longest(
            range(len(labels)), getattr(batches, "names", ())
        )
    ]
    arrays = {
        "images": np.array(names),
        "labels": labels,
        "probabilities": scores,
    }
    groups = getattr(batches, "groups", None)
    if groups is not None:
        arrays["groups"] = groups.astype(str)
    return arrays


def check_options(options: Mapping, names: Iterable[str]) -> None:
    """Raises unless options are arguments of `data.load` or the like.

    Those that a recipe or a study decides are none.
    """
    data.refuse_removed(options)
    for name, value in options.items():
        written = as_field(name, value)
        if written or name in ("folds", "fold"):
            owner = f"recipe: write {written}" if written else "study"
            raise ValueError(
                f"`{name}` is an argument of the {owner}. Received: "
                f"data_options={{{name!r}: {_checks.shown(value)}}}"
            )
        known = {*names} - {"data", "masks"}
        _checks.one_of("data_options", name, sorted(known))
