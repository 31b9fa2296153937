"""What the networks of a search are trained and compared by."""

import pathlib

import keras

from cbam_keras import _files, study
from cbam_keras.data import ImageData
from cbam_keras.study import Recipe


class Classification(study.Classification):
    """Networks that come compiled keep how they are, but for the metrics."""

    def compile(
        self, model: keras.Model, recipe: Recipe, data: study.Data
    ) -> None:
        if not model.compiled:
            super().compile(model, recipe, data)
            return
        _, metrics = study.loss_and_metrics(model)
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
        self, path: pathlib.Path, recipe: Recipe, data: ImageData
    ) -> dict[str, float]:
        """Returns the metrics of the network in a file."""
        model = _files.load_model(path)
        self.compile(model, recipe, data)
        return self.evaluate(model, data)


class ByValidation(Classification):
    """Trials are compared by their validation images, not by those to test."""

    measure = "val_accuracy"
    measure_name = "validation accuracy"
    split = "validation"

    def evaluate(self, model: keras.Model, data: ImageData) -> dict[str, float]:
        return self.validate(model, data)
