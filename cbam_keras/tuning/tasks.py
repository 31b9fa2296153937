"""What the networks of a search are trained and compared by."""

import pathlib
from typing import Any, cast

import keras

from cbam_keras import _files, study
from cbam_keras.study import Recipe
from cbam_keras.study.plans.tasks import ImageTask


class KeepsCompiled(ImageTask):
    """Networks that come compiled keep how they are, but for the metrics."""

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
