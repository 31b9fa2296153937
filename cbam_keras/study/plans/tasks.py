"""`ImageTask`, what tasks share, `Classification` and `Regression`."""

import copy
import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _graph, data
from cbam_keras.data import ImageData, Images, Source, for_fit
from cbam_keras.data.examples import NUMBERS, SEVERAL
from cbam_keras.models.losses import StandardizedLoss
from cbam_keras.study.plans import measures, networks
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.plans.recipes import Recipe
from cbam_keras.study.plans.study import Task

PREDICTED = ("test", "validation")
BY_RECIPE = ("batch_size", "seed", "augment", "image_size")


class ImageTask(Task[ImageData]):
    """What tasks share whose images come from `data.load` or the like."""

    # What is compared in addition to the usual measure, if anything.
    score: str | None = None
    # If there are several.
    all_measures: Sequence[Measure] = ()
    # The images by which networks are compared.
    split = "test"
    # What attention may improve.
    noun = "accuracy"

    def __init__(
        self,
        images: Images,
        options: Mapping,
        labels: str | None = None,
        make_source: functools.partial[Source] | None = None,
    ):
        self.data, self.options = images, options
        loaded = images if isinstance(images, ImageData) else None
        if make_source is None:
            make_source = functools.partial(
                Source, images, labels=labels, masks=None, **options
            )
        # A task takes the arguments of its source, too.
        of_source = inspect.signature(make_source.func).parameters
        names = [*inspect.signature(type(self)).parameters, *of_source]
        for name, value in options.items():
            if name not in of_source:
                advice = _checks.next_step(name, value)
                raise _checks.unknown_argument(name, names, advice)
        if loaded and loaded.labels != labels:
            raise ValueError(
                "`data` must not be loaded yet if labels are not classes. "
                f'Received: images of "{loaded.name}"'
            )
        # Images that are loaded, or where they are.
        self.source = loaded or make_source()
        self.name, self.is_loaded = self.source.name, loaded is not None
        if loaded and options:
            raise ValueError(
                "`data_options` must be left out for loaded images. Received: "
                f'images of "{loaded.name}", data_options={dict(options)!r}'
            )
        if loaded and (loaded.batch_size is None or loaded.boxes):
            raise ValueError(
                "`data` must come in batches of images and labels only. "
                f"Received: images loaded with batch_size={loaded.batch_size}, "
                f"boxes={loaded.boxes}"
            )

    @property
    def measures(self) -> Sequence[Measure]:
        every = self.all_measures or super().measures
        return tuple(self._on_split(x) for x in every)

    def _on_split(self, measure):
        """Returns a measure of test images as that of the split."""
        if self.split != "validation":
            return measure
        name = measure.heading.removeprefix("test ")
        return dataclasses.replace(
            measure,
            key=measures.validation_key(measure.key),
            heading=f"validation {name}",
        )

    def on_validation(self) -> "ImageTask":
        """Returns the task measured on validation images, for a search."""
        task = copy.copy(self)
        task.split = "validation"
        return task

    def count_folds(self, folds: int | None) -> int | None:
        if isinstance(self.source, ImageData):
            return folds
        return self.source.count_folds(folds)

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
        networks.compile_network(model, recipe, len(data.train), loss, metrics)

    def loss_and_metrics(
        self, model: keras.Model, recipe: Recipe, data: ImageData
    ) -> tuple[keras.losses.Loss, list[keras.metrics.Metric]]:
        """Returns what a network is compiled with."""
        return networks.loss_and_metrics(model, recipe.loss)


class PredictionTask(ImageTask):
    """What tasks share that keep what networks predict for each image."""

    # What files call it.
    predicted: str
    # Returns predictions and labels of batches, and what is measured of them.
    answer: Callable[..., tuple[np.ndarray, np.ndarray]]
    compute: Callable[..., dict[str, float]]

    def check(self, model: keras.Model, data: ImageData) -> None:
        networks.check_network(model, data)

    def evaluate(self, model: keras.Model, data: ImageData) -> dict[str, float]:
        return self.test(model, data)[0]

    def predict(
        self, model: keras.Model, data: ImageData
    ) -> dict[str, np.ndarray]:
        """Returns names, labels and predictions of images, by their split."""
        return self.test(model, data)[1]

    def test(
        self, model: keras.Model, data: ImageData
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        if self.split != "test":
            return self.validate(model, data), {}
        arrays = {
            f"{split}/{name}": array
            for split in PREDICTED
            if (batches := getattr(data, split))
            for name, array in self._predict(model, batches, split).items()
        }
        measured = self._measure(model, data, arrays)
        for name, x in arrays.items():
            if x.dtype == "float64":
                # Files need no more than half of the digits.
                arrays[name] = x.astype("float32")
        return measured, arrays

    def validate(self, model: keras.Model, data: ImageData) -> dict[str, float]:
        """Returns what `fit` does not measure of validation images, if any."""
        if self.score is None:
            return {}
        measured = self.compute(*self.answer(model, data.validation))
        return {measures.validation_key(key): x for key, x in measured.items()}

    def _measure(self, model, data, arrays):
        """Returns the measures of predictions for test and validation."""
        metrics = {}
        for split in PREDICTED if self.score is not None else ():
            if f"{split}/labels" in arrays:
                predicted = arrays[f"{split}/{self.predicted}"]
                measured = self.compute(predicted, arrays[f"{split}/labels"])
                if split == "validation":
                    keys = map(measures.validation_key, measured)
                    measured = dict(zip(keys, measured.values(), strict=True))
                metrics |= measured
        return metrics

    def _predict(self, model, batches, split):
        """Returns names, labels and predictions of images."""
        predicted, labels = self.answer(model, batches)
        names = [
            name if isinstance(name, str) else f"{split} {row}"
            for row, name in itertools.zip_longest(
                range(len(labels)), getattr(batches, "names", ())
            )
        ]
        arrays = {
            "images": np.array(names),
            "labels": labels,
            self.predicted: predicted,
        }
        groups = getattr(batches, "groups", None)
        if groups is not None:
            arrays["groups"] = groups.astype(str)
        return arrays


class Classification(PredictionTask):
    """Classification of images, measured by accuracy on the test images.

    Args:
        data: Anything that `cbam_keras.data.load` accepts, or its result.
            Loaded data are the same for every seed.
        measure: The measure that networks are compared by, by scikit-learn:
            `"test_accuracy"`, `"balanced_accuracy"` (the mean recall of the
            classes), `"macro_f1"` (the mean of their F1 scores), `"auc"` (the
            area under the ROC curve; of three classes or more the mean over
            each against the others), `"average_precision"` (likewise), or,
            where lower is better, `"ece"` (the expected calibration error of 15
            bins of equally many images) and `"brier"` (the Brier score).
            Classes without test images do not count. Defaults to `None`:
            `"test_accuracy"`, with `multi_label` `"average_precision"`.
        threshold: For two classes, how to choose the probability from which
            the second one counts as predicted, for sensitivity and specificity
            in reports: `"youden"` (their highest sum on the validation images),
            or a minimum sensitivity there, e.g. `"sensitivity=0.95"`. All other
            results take the more probable class. Defaults to `None`: 0.5.
        multi_label: Boolean, whether an image may have several classes. Labels
            are arrays of 0 and 1, `(N, classes)`, networks end in a sigmoid or
            logits, the loss is binary crossentropy, and a class counts as
            predicted from 0.5. The measure is `"average_precision"`,
            `"macro_f1"` or `"auc"`, a mean over classes. Defaults to `False`.
        options: Further arguments of `data.load`, `download=True` etc. A recipe
            or a study decides the others.

    Raises:
        TypeError: If `data` is of another kind, or an argument is unknown.
        ValueError: If there is no such measure or threshold, or if loaded data
            cannot be trained on.
        ImportError: If scikit-learn is needed and missing.
    """

    measure = measures.ACCURACY
    measure_name = "test accuracy"
    metrics: tuple[str, ...] = ("loss", "accuracy", "val_loss", "val_accuracy")
    predicted = "probabilities"

    def __init__(
        self,
        data: Images,
        *,
        measure: str | None = None,
        threshold: str | None = None,
        multi_label: bool = False,
        # The other arguments of `data.load`, which documents them.
        **options: Any,
    ):
        self.threshold = threshold
        if threshold is not None:
            measures.sensitivity_of(threshold)
        self.multi_label = _checks.boolean("multi_label", multi_label)
        if multi_label:
            self.metrics = ("loss", "val_loss")
        self.all_measures = measures.measures_of_classes(measure, multi_label)
        first = self.all_measures[0]
        self.measure, self.measure_name = first.key, first.heading
        if first.key != measures.ACCURACY:
            _checks.require("sklearn.metrics", extra="plot")
            self.score = first.key
        kind = SEVERAL if multi_label else None
        super().__init__(data, options, kind)

    def load(
        self, recipe: Recipe, folds: int | None = None, fold: int = 0
    ) -> ImageData:
        loaded = super().load(recipe, folds, fold)
        has_two = len(loaded.class_names) == 2 and not self.multi_label
        if self.threshold is not None and not has_two:
            raise ValueError(
                "`threshold` is for two classes. Received: "
                f'threshold="{self.threshold}", '
                f'{len(loaded.class_names)} classes in "{loaded.name}"'
            )
        return loaded

    def loss_and_metrics(self, model, recipe, data):
        if not self.multi_label:
            return super().loss_and_metrics(model, recipe, data)
        from_logits = _graph.kind_of_head(model) is None
        return networks.make_loss(recipe.loss, "Binary", from_logits), []

    def answer(self, model, batches):
        outputs, labels = _graph.outputs_and_labels(model, batches)
        kind = _graph.kind_of_head(model)
        if self.multi_label:
            kind, labels = kind or "labels", labels.astype(int)
        else:
            kind = _graph.find_kind(model, kind)
        return _graph.as_probabilities(outputs, kind), labels

    def compute(self, predicted, labels):
        names = measures.OF_SEVERAL if self.multi_label else (str(self.score),)
        return {
            name: measures.compute(name, predicted, labels) for name in names
        }

    def _measure(self, model, data, arrays):
        """Returns the measures of a network and of its predictions."""
        measured = super()._measure(model, data, arrays)
        if self.multi_label:
            return measured
        metrics = model.evaluate(
            for_fit(data.test), verbose=0, return_dict=True
        )
        # Keras computes it in float32: this is the fraction that was meant.
        images = data.sizes["test"]
        fraction = round(float(metrics.pop("accuracy")) * images) / images
        del metrics["loss"]
        return {measures.ACCURACY: fraction, **metrics, **measured}


class Regression(PredictionTask):
    """Regression, measured by the error on the test examples.

    Networks end in a layer without activation, with a value per target. They
    are trained on targets standardized by the training split, and a last layer
    gives numbers in their units, which are measured, reported and saved. The
    loss, of standardized numbers, is the mean squared error, or a
    `keras.losses.Loss` of the recipe.

    Args:
        data: Arrays or batches of examples and targets, `(N,)`, `(N, k)`, or
            for each position `(N, L, k)`; see `cbam_keras.data.load`.
        measure: The measure that networks are compared by, by scikit-learn:
            `"mae"` (the mean absolute error), `"rmse"` (the root of the mean
            squared error), `"r2"` (the coefficient of determination), or a
            function of targets and predictions, both `(N, k)`, called
            `..._score` if higher is better, else `..._error`. Defaults to
            `None`: `"mae"`.
        **options: Further arguments of `data.load`. A recipe decides some.

    Raises:
        TypeError: If `data` is of another kind, or an argument is unknown.
        ValueError: If there is no such measure, or `data` are loaded already.
        ImportError: If scikit-learn is missing.

    Example:
        >>> from cbam_keras import comparison, training
        >>> images = np.random.randint(0, 256, (20, 16, 16, 3), "uint8")
        >>> results = comparison.compare(
        ...     data=(images, images.mean(axis=(1, 2, 3))), task="regression",
        ...     seeds=1, recipe=training.Recipe(epochs=1), output=folder,
        ... )  # doctest: +ELLIPSIS
        14 images in train, 2 in validation, 4 in test; targets from ...
        >>> results.measures[0].heading
        'test MAE'
    """

    noun = "predictions"
    metrics = ("loss", "mae", "val_loss", "val_mae")
    predicted = "numbers"

    def __init__(
        self,
        data: Images,
        *,
        measure: Any = None,
        # The other arguments of `data.load`, which documents them.
        **options: Any,
    ):
        self.function = measure or "mae"
        self.score = self.measure = measures.check_measure_of_numbers(
            self.function
        )
        _checks.require("sklearn.metrics", extra="plot")
        self.all_measures = measures.measures_of_numbers(self.measure)
        super().__init__(data, options, NUMBERS)

    def measures_of(self, data: ImageData) -> Sequence[Measure]:
        every = measures.measures_of_numbers(self.measure, data.deviation)
        return tuple(self._on_split(x) for x in every)

    def load(
        self, recipe: Recipe, folds: int | None = None, fold: int = 0
    ) -> ImageData:
        if not isinstance(recipe.loss, keras.losses.Loss | None):
            raise ValueError(
                "`loss` of numbers must be None or a keras.losses.Loss, e.g. "
                f"keras.losses.Huber(). Received: loss={recipe.loss!r}"
            )
        return super().load(recipe, folds, fold)

    def loss_and_metrics(self, model, recipe, data):
        loss = recipe.loss or keras.losses.MeanSquaredError()
        metrics = [keras.metrics.MeanAbsoluteError(name="mae")]
        return StandardizedLoss(loss, *data.targets), metrics

    answer = staticmethod(_graph.outputs_and_labels)

    def compute(self, predicted, labels):
        return measures.measure_numbers(self.function, predicted, labels)

    def guess(self, data: ImageData) -> float:
        """Returns the measure of the number that is best in training."""
        every = [x.examples.labels for x in data]
        # The folds together test all.
        tested = every[2] if data.folds is None else np.concatenate(every)
        return measures.guess_number(self.function, every[0], tested)
