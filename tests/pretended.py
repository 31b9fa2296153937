"""`keras.Model.fit` and `evaluate` without training, for tests of folders.

`install` replaces the two methods of Keras, so it serves whatever code calls
them, and leaves out the predictions. Callbacks run and checkpoints are written
as in a real training. Weights change in each epoch by a rule, and every number
is a function of the weights and, in training, of the optimizer's step and the
epoch: a run that resumes from another state than it should ends with others.
"""

import gc
import hashlib
import importlib.util
import os

import keras
import numpy as np
from PIL import Image

from cbam_keras import study
from cbam_keras.study.plans import tasks
from cbam_keras.study.running import trainer

measured = study.Classification.test


def install(patch):
    """Pretends from now on, until the `pytest.MonkeyPatch` is undone."""
    patch.setattr(keras.Model, "fit", fit)
    patch.setattr(keras.Model, "evaluate", evaluate)
    patch.setattr(keras.Model, "predict_on_batch", predict_on_batch)
    patch.setattr(study.Classification, "test", test)
    # All of this takes longer than such a training.
    for module in (tasks, trainer):
        patch.setattr(module, "for_fit", lambda batches: batches)
    patch.setattr(gc, "collect", lambda *_: 0)
    patch.setattr(os, "fsync", lambda descriptor: None)
    if importlib.util.find_spec("matplotlib"):
        patch.setattr("matplotlib.figure.Figure.savefig", savefig)


def predict_on_batch(model, x):
    """Returns what a network predicts, which is not compiled for it."""
    return keras.tree.map_structure(
        keras.ops.convert_to_numpy, model(x, training=False)
    )


def savefig(figure, path, **options):
    """Writes a white picture in the place of a figure."""
    Image.new("RGB", (6, 4), "white").save(path, "PNG")


def test(self, model, data):
    """Returns the measures of a task without its predictions."""
    if self.split != "test":
        return measured(self, model, data)
    arrays = measured(self, model, data)[1] if self.score else {}
    return self._measure(model, data, arrays), {}


def fit(
    self,
    x=None,
    *,
    validation_data=None,
    epochs=1,
    initial_epoch=0,
    callbacks=(),
    **options,
):
    """Runs the callbacks as `keras.Model.fit` does, with one batch an epoch."""
    model = self
    model.stop_training = False
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    listed = keras.callbacks.CallbackList(
        list(callbacks),
        add_history=True,
        model=model,
        # A progress bar is silent.
        verbose=0,
        epochs=epochs,
        steps=1,
    )
    listed.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        listed.on_epoch_begin(epoch)
        listed.on_train_batch_begin(0)
        for variable in model.trainable_variables:
            # Little, so that the outputs of a detector stay finite.
            variable.assign(variable * 0.9 + 1e-4)
        model.optimizer.iterations.assign_add(1)
        loss, accuracy = numbers(model, epoch)
        logs = {"loss": loss, "accuracy": accuracy, "miou": accuracy}
        # The parts of a detector's loss.
        logs |= {"cls_logits_loss": loss / 2, "bbox_regression_loss": loss / 2}
        listed.on_train_batch_end(0, logs)
        if validation_data is not None:
            loss, accuracy = numbers(model, "validation", epoch)
            logs |= {"val_loss": loss, "val_accuracy": accuracy}
            logs["val_miou"] = accuracy
        listed.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    listed.on_train_end(logs if initial_epoch < epochs else None)
    return model.history


def evaluate(model, x=None, *arguments, return_dict=False, **options):
    """Returns loss and accuracy, functions of the weights."""
    loss, accuracy = numbers(model, "test")
    if return_dict:
        return {"loss": loss, "accuracy": accuracy}
    return [loss, accuracy]


def numbers(model, *key):
    """Returns a loss and an accuracy in twentieths, by the model's state."""
    total = sum(
        float(np.sum(np.abs(weight), dtype="float64"))
        for weight in model.get_weights()
    )
    if not np.isfinite(total):
        return np.nan, 0.1
    # A network is tested as it was loaded, often with a new optimizer.
    steps = 0 if key == ("test",) else model.optimizer.iterations
    step = int(keras.ops.convert_to_numpy(steps))
    # Rounded, as other backends and threads add in another order.
    text = repr((f"{total:.4g}", step, *key))
    digest = hashlib.sha256(text.encode()).digest()
    return 1 + digest[0] / 100, digest[1] % 21 / 20
