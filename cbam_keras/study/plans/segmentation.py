"""`Segmentation`: a class for each pixel, measured by the mean IoU."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _graph
from cbam_keras.data import Given, ImageData, source_of_masks
from cbam_keras.models import losses
from cbam_keras.study.plans.networks import make_loss, takes
from cbam_keras.study.plans.recipes import Recipe, class_weights
from cbam_keras.study.plans.tasks import ImageTask

# What sentences call the scores.
OF_MASKS = {"miou": "mIoU", "iou": "foreground IoU", "dice": "foreground Dice"}


class Segmentation(ImageTask):
    """Segmentation of images, measured on the pixels of the test images.

    The loss is `losses.PixelCrossentropy`. Pixels of `ignore_index` are neither
    learned nor counted. `class_weight="balanced"` of the recipe is by the
    pixels of the training images. IoU and Dice are of all pixels of a split
    together, the mean IoU over the classes in its masks or predictions, as that
    of `keras.metrics.MeanIoU`. The best epoch is by this measure.

    Args:
        data: Images that `data.load_masks` accepts, or its result. Defaults to
            `None`, with `images` in its place.
        masks: Masks as `data.load_masks` takes them. Defaults to `None`.
        images: Pattern of images in a folder, or images in place of `data`.
            Defaults to `None`.
        measure: The measure that networks are compared by: `"miou"`, or for two
            classes `"iou"` or `"dice"` of the second one, the foreground.
            Defaults to `"miou"`.
        dice_weight: Non-negative number, the weight of soft Dice in the loss.
            It is added to crossentropy. Defaults to `0.0`.
        **options: Further arguments of `data.load_masks`. A recipe or a study
            decides some.

    Raises:
        TypeError: If an argument is of another kind, or unknown.
        ValueError: If there is no such measure, or loaded data cannot be used.

    Example:
        >>> from cbam_keras import comparison, study, training
        >>> images = np.random.randint(0, 256, (10, 16, 16, 3), "uint8")
        >>> task = study.Segmentation(images, images[..., 0] > 127)
        >>> results = comparison.compare(
        ...     task=task, model="unet-tiny", seeds=1, output=folder,
        ...     recipe=training.Recipe(epochs=1, batch_size=4),
        ... )  # doctest: +ELLIPSIS
        7 images of 2 classes (0, 1) in train, 1 in ...
        ...
        >>> results.measures[0].heading
        'mIoU'
    """

    measure = "test_miou"
    measure_name = OF_MASKS["miou"]
    noun = "mean IoU"

    def __init__(
        self,
        data: Given | ImageData = None,
        masks: Given = None,
        *,
        images: Given = None,
        measure: str = "miou",
        dice_weight: float = 0.0,
        # The other arguments of `data.load_masks`, which documents them.
        **options: Any,
    ):
        _checks.one_of("measure", measure, losses.SCORES)
        self.masks, self.kind = masks, measure
        names = dict.fromkeys(["loss", "miou", measure])
        self.metrics = (*names, *(f"val_{name}" for name in names))
        self.dice_weight = _checks.positive_number(
            "dice_weight", dice_weight, or_zero=True
        )
        if measure != "miou":
            self.score, self.measure = measure, f"test_{measure}"
            self.measure_name = OF_MASKS[measure]
        if isinstance(data, ImageData) and (
            data.ignore_index is None or masks is not None
        ):
            has = "classes" if masks is None else "`masks` beside them"
            raise ValueError(
                "`data` must have masks, as cbam_keras.data.load_masks loads "
                f'them. Received: images of "{data.name}" with {has}'
            )
        if images is not None:
            options["images"] = images
        make_source = functools.partial(source_of_masks, data, masks, **options)
        super().__init__(data, options, make_source=make_source)

    def check(self, model: keras.Model, data: ImageData) -> None:
        classes = len(data.class_names)
        size = data.output_shape[:-1]
        shape: tuple = getattr(model, "input_shape", None) or ()
        output: tuple = getattr(model, "output_shape", None) or ()
        counts = (classes, 1) if classes == 2 else (classes,)
        fits = takes(model, data) and any(
            _checks.fits(output[1:], (*size, count)) for count in counts
        )
        # A softmax of one unit is 1; several sigmoids learn to be 1.
        wrong = "softmax" if output[-1:] == (1,) else "sigmoid"
        if not fits or _graph.kind_of_head(model) == wrong:
            single = ""
            if classes == 2:
                single = " (or one, of a sigmoid or a logit)"
            raise ValueError(
                f'A network for the masks of "{data.name}" must take images of '
                f"shape {data.input_shape} and give {classes} values{single} "
                f"for each pixel, {(*size, classes)}, by a softmax or as "
                "logits, as models.UNet does. Received: model "
                f'"{model.name}" with input_shape={shape or None}, '
                f"output_shape={output or None}"
            )
        if self.kind != "miou" and classes != 2:
            raise ValueError(
                f'`measure="{self.kind}"` is for two classes, the second of '
                f"which is the foreground. Received: {classes} classes, "
                f"{_checks.first_few(data.class_names)}"
            )

    def loss_and_metrics(
        self, model: keras.Model, recipe: Recipe, data: ImageData
    ) -> tuple[keras.losses.Loss, list[keras.metrics.Metric]]:
        weights = class_weights(data, recipe) or {}
        from_logits, loss = _graph.kind_of_head(model) is None, recipe.loss
        if loss is not None:
            kind = "Binary" if model.output_shape[-1] == 1 else "Categorical"
            loss = make_loss(loss, kind, from_logits)
        loss = losses.PixelCrossentropy(
            class_weight=[weights[x] for x in sorted(weights)] or None,
            dice_weight=self.dice_weight,
            from_logits=from_logits,
            loss=loss,
        )
        classes = len(data.class_names)
        return loss, [
            losses.PixelIoU(classes, score, from_logits=from_logits)
            for score in dict.fromkeys(["miou", self.kind])
        ]

    def evaluate(self, model: keras.Model, data: ImageData) -> dict[str, float]:
        """Returns the scores of the test images, and the IoU of each class."""
        if self.split != "test":
            # `fit` measures them.
            return {}
        matrix = confusion_matrix(model, data.test, data)
        scores = losses.SCORES if len(matrix) == 2 else losses.SCORES[:1]
        metrics = {
            f"test_{x}": float(losses.score_of(matrix, x, np)) for x in scores
        }
        sums = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
        for name, both, union in zip(
            data.class_names, np.diag(matrix), sums, strict=True
        ):
            if union:
                metrics[f"iou_{name}"] = float(both / union)
        return metrics


def confusion_matrix(
    model: keras.Model, batches: keras.utils.PyDataset, data: ImageData
) -> np.ndarray:
    """Returns the pixels of each true class (rows) and predicted one."""
    classes, predict = len(data.class_names), make_predictor(model)
    matrix = np.zeros((classes, classes), "int64")
    for index in range(len(batches)):
        images, masks = batches[index]
        predicted = predict(images)
        is_known = masks != data.ignore_index
        pairs = classes * masks[is_known] + predicted[is_known]
        matrix += np.bincount(pairs, minlength=classes**2).reshape(
            classes, classes
        )
    return matrix


def make_predictor(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function of a batch: the class of each pixel, `(B, H, W)`."""
    # Finding the last activation traces the network.
    from_logits = _graph.kind_of_head(model) is None

    def predict(images):
        classes = losses.to_classes(model.predict_on_batch(images), from_logits)
        return keras.ops.convert_to_numpy(classes)

    return predict
