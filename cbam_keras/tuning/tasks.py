"""What the networks of a search are trained and compared by."""

import contextlib
import pathlib
from typing import Any, cast

import keras
import numpy as np

from cbam_keras import _files, study
from cbam_keras.study import Recipe
from cbam_keras.study.plans.tasks import ImageTask


class KeepsCompiled(ImageTask):
    """Networks that come compiled keep how they are, but for the metrics."""

    def check(self, model: keras.Model, data: Any) -> None:
        """Raises, too, if a loss of Keras does not learn integer labels."""
        super().check(model, data)
        loss = model.loss if model.compiled else None
        # A dictionary or function of one's own may be of anything.
        loss = None if isinstance(loss, dict | list) else keras.losses.get(loss)
        if not loss or not loss.__module__.startswith("keras."):
            return
        _, *sides, count = [x or 1 for x in model.output_shape]
        labels = np.arange(max(count, 2), dtype="float32")
        right = np.eye(count, dtype="float32") if count > 1 else labels
        labels = labels.reshape(-1, *[1] * len(sides))
        right = right.clip(0.01, 0.99).reshape(*labels.shape, count)
        # Each backend has errors of its own for what does not fit.
        with contextlib.suppress(Exception):
            wrong = keras.ops.mean(loss(labels, np.roll(right, 1, axis=0)))
            if wrong > keras.ops.mean(loss(labels, right)) + 1e-3:
                return
        kind = "sparse_categorical" if count > 1 else "binary"
        raise ValueError(
            "A compiled network must have a loss for labels that are integers, "
            f'as "{kind}_crossentropy". Received: loss={model.loss!r}'
        )

    def compile(self, model: keras.Model, recipe: Recipe, data: Any) -> None:
        if not model.compiled:
            super().compile(model, recipe, data)
            return
        _, metrics = self.loss_and_metrics(model, recipe, data)
        model.compile(
            model.optimizer,
            model.loss,
            metrics=metrics,
            run_eagerly=model.run_eagerly,
            steps_per_execution=model.steps_per_execution,
            jit_compile=model.jit_compile,
            auto_scale_loss=False,
        )

    def measure_file(
        self, path: pathlib.Path, recipe: Recipe, data: Any
    ) -> dict[str, float]:
        """Returns the metrics of the network in a file."""
        model = _files.load_model(path)
        self.compile(model, recipe, data)
        return cast(study.Task, self).evaluate(model, data)


class KeptClassification(KeepsCompiled, study.Classification):
    """The task of the confirmation."""


class KeptSegmentation(KeepsCompiled, study.Segmentation):
    """The task of the confirmation, for masks."""


class ByValidation(KeptClassification):
    """Trials are compared by their validation images, not by those to test."""

    measure = "val_accuracy"
    measure_name = "validation accuracy"
    split = "validation"

    def evaluate(self, model: keras.Model, data: Any) -> dict[str, float]:
        return self.validate(model, data)


class MasksByValidation(KeptSegmentation):
    """The same for masks, whose validation `fit` measures."""

    split = "validation"

    def evaluate(self, model: keras.Model, data: Any) -> dict[str, float]:
        return self.validate(model, data)
