"""The gates that can be constants, by what that costs on some images."""

import collections
import contextlib
import dataclasses
import functools
import math
import statistics
import time

import keras
import numpy as np

from cbam_keras import _graph
from cbam_keras.explain.classes import kind_of_classes, require_one_output
from cbam_keras.explain.importance import choose_labels, replace_each
from cbam_keras.profiling import profile_model

BATCH = 32
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Cost:
    """Accuracy, size and time of a model.

    Attributes:
        accuracy: Float, of the labels; without labels, the agreement with the
            given model. That is the fraction of images whose predicted class is
            the same. NaN if the model does not give classes.
        parameters: Integer, trainable parameters.
        macs: Integer, multiply-accumulates of one image.
        seconds: Float, the median time of a compiled prediction. It is of a
            batch, up to 32 of the images.
    """

    accuracy: float
    parameters: int
    macs: int
    seconds: float


class ConstantSearch:
    """Counts the images whose class a model predicts with constant gates."""

    def __init__(self, model, graph, inputs, labels, of_batches, is_free):
        """Raises if labels, or a choice that `is_free`, need classes."""
        self.model, self.inputs = model, inputs
        self.has_labels, self.before = labels is not None, math.nan
        output = graph.outputs[0]
        count = len(inputs[0]) if len(output.shape) == 2 else None
        try:
            require_one_output(model)
            self.kind = kind_of_classes(model, graph, 0, count)
        except ValueError:
            if is_free or self.has_labels:
                raise
            self.truth = None
            return
        self.truth = predicted = self._predict(model)
        given = labels, of_batches
        self.has_labels = any(x is not None for x in given)
        if self.has_labels:
            if predicted.ndim > 1:
                given = (x if x is None else np.ravel(x) for x in given)
            classes = max(output.shape[-1], 2)
            truth = choose_labels(*given, predicted.size, classes)
            self.truth = truth.reshape(predicted.shape)
        self.before = self.accuracy(model)

    def accuracy(self, model, context=contextlib.nullcontext):
        """Returns it as a fraction; each batch runs in a context."""
        if self.truth is None:
            return math.nan
        return float((self._predict(model, context) == self.truth).mean())

    def choose(self, steps, hooks, constants, tolerance):
        """Returns gates that cost little together, and why others stay."""
        right = self._count_each(steps, hooks, constants)
        order = sorted(constants, key=lambda gate: -right[gate])
        reasons = {}
        # So many cost little enough; more than `high` do not. All are tried
        # first.
        low, high, number = 0, len(order), len(order)
        while low < high:
            trial = {gate: constants[gate] for gate in order[:number]}
            context = functools.partial(hooks.replaced, trial)
            loss = self.before - self.accuracy(self.model, context)
            if loss <= tolerance + 1e-9:
                low = number
            else:
                high = number - 1
                why = f"with it, {100 * loss:.2f} points would be lost"
                reasons |= dict.fromkeys(order[high:], why)
            number = (low + high + 1) // 2
        return order[:low], reasons

    def _count_each(self, steps, hooks, constants):
        """Returns how many are right with each gate replaced by itself."""
        right = collections.Counter()
        both = [*self.inputs, self.truth]
        for *batch, truth in _graph.batches(both, BATCH):
            for key, outputs in replace_each(
                steps, hooks, batch, {"constant": constants}
            ):
                if key is not None:
                    is_right = self._classes(outputs) == truth
                    right[key[0]] += int(is_right.sum())
        return right

    def costs(self, slim):
        """Yields the cost of the model and of a new one, timed by turns."""
        models = self.model, slim
        batch = next(_graph.batches(self.inputs, BATCH))
        seconds = [[] for _ in models]
        # The first run compiles.
        for _ in range(1 + REPEATS):
            for model, times in zip(models, seconds, strict=True):
                start = time.perf_counter()
                model.predict_on_batch(_graph.as_input(model, batch))
                times.append(time.perf_counter() - start)
        shapes = [x.shape[1:] for x in self.inputs]
        shape = shapes[0] if len(shapes) == 1 else shapes
        accuracies = self.before, self.accuracy(slim)
        for model, accuracy, times in zip(
            models, accuracies, seconds, strict=True
        ):
            profile = profile_model(model, shape)
            yield Cost(
                accuracy,
                profile.parameters,
                profile.macs,
                statistics.median(times[1:]),
            )

    def _predict(self, model, context=contextlib.nullcontext):
        classes = []
        for batch in _graph.batches(self.inputs, BATCH):
            with context():
                outputs = _graph.run_model(model, _graph.as_input(model, batch))
            classes.append(self._classes(keras.tree.flatten(outputs)))
        return np.concatenate(classes)

    def _classes(self, outputs):
        values = _graph.to_float32(outputs[0])
        rows = values.reshape(-1, values.shape[-1])
        classes = _graph.as_probabilities(rows, self.kind).argmax(axis=1)
        return classes.reshape(values.shape[:-1])


def as_constant(gate, mean):
    """Returns the mean of a map, of size 1 but for the channels, if any."""
    return mean.mean(axis=_positions(gate, mean), keepdims=True)[None]


def deviation(gate, mean):
    """Returns how much a map differs by position, as a fraction of it."""
    axes = _positions(gate, mean)
    level = np.abs(mean.mean(axis=axes))
    return float((mean.std(axis=axes) / np.maximum(level, 1e-12)).max())


def _positions(gate, mean):
    channel = gate.layer._channel_axis(mean.ndim + 1) - 1
    return tuple(x for x in range(mean.ndim) if x != channel)
