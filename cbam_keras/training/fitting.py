"""Training of one network, epoch by epoch, resumable after each."""

import math
import sys
import time

import keras

from cbam_keras import _process
from cbam_keras.training.checkpoints import State, random_states
from cbam_keras.training.distribution import ALONE
from cbam_keras.training.networks import (
    check_averages,
    count_parameters,
    fingerprint,
)

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


class Diverged(ArithmeticError):
    """The loss of a network is no longer a finite number."""


def fit(
    model,
    name,
    images,
    recipe,
    progress,
    *,
    epochs=None,
    announce=None,
    after_epoch=None,
    callbacks=(),
    stop_if_diverged=False,
    devices=ALONE,
    metrics=METRICS,
):
    """Trains a network from its last finished epoch, and returns its state.

    Args:
        model: A compiled `keras.Model`. A checkpoint replaces it if there is
            one.
        name: String, the name under which the state is saved.
        images: An `ImageData`.
        recipe: A `Recipe`.
        progress: A `Progress`.
        epochs: Integer, the epoch to train to. Defaults to `None`, which
            means those of the recipe.
        announce: Function that gets the number of finished epochs before
            the training starts. Defaults to `None`.
        after_epoch: Function that gets the state after each epoch, when it
            has been saved. Defaults to `None`.
        callbacks: Sequence of further `keras.callbacks.Callback`s.
        stop_if_diverged: Boolean, whether a loss that is not finite raises
            `Diverged`. Defaults to `False`.
        devices: The `Devices` that share the images. Defaults to this
            process alone.
        metrics: Sequence of strings, what the history holds of each epoch.
            Defaults to loss and accuracy in training and validation.

    Returns:
        A `State`.
    """
    epochs = recipe.epochs if epochs is None else epochs
    model, state = _resumed(model, name, progress, epochs)
    if announce is not None and devices.writes:
        announce(state.epochs)
    if state.epochs >= epochs:
        return state
    if not state.epochs and devices.writes:
        check_averages(model, len(images.train), epochs)
    with devices.fitting(model):
        model.fit(
            images.train,
            validation_data=images.validation,
            epochs=epochs,
            initial_epoch=state.epochs,
            callbacks=[
                *callbacks,
                _SaveEpoch(
                    progress,
                    state,
                    images,
                    recipe.seed,
                    after_epoch,
                    stop_if_diverged,
                    devices,
                    metrics,
                ),
            ],
            # The data shuffle themselves, by seed and epoch.
            shuffle=False,
            # A progress bar redraws itself, which log files cannot show. Of
            # several processes one prints.
            verbose=_verbosity() if devices.writes else 0,
        )
    return state


def fit_in(
    folder,
    name,
    build,
    images,
    recipe,
    *,
    title,
    number,
    left,
    devices=ALONE,
    metrics=METRICS,
):
    """Builds and trains one of the networks of an output folder.

    Args:
        folder: A `TrainingFolder`, opened.
        name: See `fit`.
        build: Function that returns a compiled `keras.Model`.
        images: See `fit`.
        recipe: See `fit`.
        title: String, what the network is called in the line before.
        number: Integer from 1, which of the networks it is.
        left: A `TimeLeft` of all networks.
        devices: See `fit`.
        metrics: See `fit`.

    Returns:
        A `State`, and the number of trainable parameters.
    """
    try:
        model = build()
    except Exception:
        folder.forget_if_empty()
        raise
    parameters = count_parameters(model)

    def announce(epochs):
        done = f"after epoch {epochs}" if epochs else "from the start"
        print(
            f"{title} ({number} of {left.total}), {parameters:,} parameters, "
            f"{done}{left.at(number)}",
            flush=True,
        )

    state = fit(
        model,
        name,
        images,
        recipe,
        folder.progress,
        announce=announce,
        after_epoch=lambda state: folder.write_history(state.history),
        callbacks=folder.callbacks(name, model),
        devices=devices,
        metrics=metrics,
    )
    return state, parameters


def _resumed(model, name, progress, epochs):
    """Returns the model to continue with, and its state."""
    state = progress.load(name)
    own = fingerprint(model)
    if state is None:
        return model, State(name, own)
    if state.fingerprint != own:
        raise ValueError(
            "A run must be resumed with the networks it was started with. "
            f'Received: folder="{progress.folder}", changed: the layers of '
            f'network "{name}"'
        )
    if state.epochs < epochs:
        # The file holds the optimizer's state too.
        model = progress.load_model(state.latest)
        for variable, value in zip(
            random_states(model), state.random, strict=True
        ):
            variable.assign(value)
    return model, state


class _SaveEpoch(keras.callbacks.Callback):
    """Seeds each epoch, saves the state after it, ends at a signal."""

    def __init__(
        self,
        progress,
        state,
        images,
        seed,
        after_epoch,
        stop_if_diverged,
        devices,
        metrics,
    ):
        super().__init__()
        self.progress = progress
        self.state = state
        self.images = images
        self.seed = seed
        self.after_epoch = after_epoch
        self.stop_if_diverged = stop_if_diverged
        self.devices = devices
        self.metrics_kept = metrics

    def on_epoch_begin(self, epoch, logs=None):
        self.images.set_epoch(epoch)
        # PyTorch's dropout draws from its global generator.
        keras.utils.set_random_seed((self.seed + epoch) % 2**32)
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        _process.raise_if_noted()

    def on_test_batch_end(self, batch, logs=None):
        _process.raise_if_noted()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        row = {
            "network": self.state.network,
            "epoch": epoch + 1,
            **{key: float(logs[key]) for key in self.metrics_kept},
            "seconds": seconds,
        }
        if self.stop_if_diverged and not math.isfinite(row["loss"]):
            raise Diverged(
                f"The training loss became {row['loss']} in epoch {epoch + 1}"
            )
        self.state.history.append(row)
        with self.devices.apart():
            self.progress.save(self.state, self.model)
        if self.after_epoch is not None:
            self.after_epoch(self.state)
        # No process starts an epoch before the last one is on disk.
        self.devices.wait()


def _verbosity():
    interactive = sys.stdout.isatty() or "ipykernel" in sys.modules
    return 1 if interactive else 2
