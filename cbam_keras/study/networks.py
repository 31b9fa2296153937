"""Networks built from a seed, checked and compiled for training."""

import functools
import hashlib
import json
import math

import keras
import numpy as np

from cbam_keras import _checks, _inspection, profiling
from cbam_keras.recipes import DTYPES

# Averages that hold more of their initial values are reported.
MOST_LEFT = 0.1
# Fewer steps per epoch are reported.
FEW_STEPS = 5


def build_network(study, variant, seed, data):
    """Returns a new network of a variant, after checking that it fits."""
    model = build_seeded(
        functools.partial(variant.build, data), study.recipe_for(variant, seed)
    )
    study.task.check(model, data)
    return model


def build_seeded(build, recipe):
    """Calls `build` with the seed and the precision of a recipe in effect."""
    keras.utils.set_random_seed(recipe.seed)
    with _inspection.dtype_policy(DTYPES[recipe.mixed_precision]):
        model = build()
    if not isinstance(model, keras.Model):
        raise TypeError(
            "The function for a network must return a keras.Model. Received: "
            f"{model!r}"
        )
    return model


def check_network(model, images):
    """Raises unless the model takes these images and has their classes."""
    classes = len(images.class_names)
    if getattr(model, "input_shape", None) is None:
        raise ValueError(
            "A network must be a functional or Sequential keras.Model with a "
            f"known input shape. Received: {model!r} from the function for a "
            "network"
        )
    fits = _checks.fits(model.input_shape[1:], images.image_shape)
    if not fits or tuple(model.output_shape) != (None, classes):
        raise ValueError(
            f'A network for the dataset "{images.name}" must take images '
            f"of shape {images.image_shape} and give {classes} values. "
            f'Received: model "{model.name}" with input_shape='
            f"{model.input_shape}, output_shape={model.output_shape}"
        )


def check_averages(model, steps_per_epoch, epochs):
    """Returns a warning if averages of batch normalization will lack steps.

    Validation normalizes by averages over the steps so far, which begin at a
    mean of 0 and a variance of 1.
    """
    momentum = max(
        (
            layer.momentum
            for layer in _inspection.layers_within(model)
            if isinstance(layer, keras.layers.BatchNormalization)
            and layer.trainable
            and layer.momentum < 1
            and not np.any(keras.ops.convert_to_numpy(layer.moving_mean))
        ),
        default=0.0,
    )
    left = momentum ** (steps_per_epoch * epochs)
    if left > MOST_LEFT:
        needed = math.log(MOST_LEFT) / math.log(momentum) / steps_per_epoch
        return (
            "The averages of batch normalization, which validation and tests "
            f"use, still hold {left:.0%} of their initial values after "
            f"{steps_per_epoch * epochs} steps with momentum={momentum:g}, so "
            "that accuracy there may be far below that of training. Train "
            f"{math.ceil(needed)} epochs or more, or take a smaller batch_size"
        )
    return None


def print_if_few_steps(recipe, data):
    """Prints how many steps there will be, if they are few."""
    steps = len(data.train)
    if steps < FEW_STEPS:
        print(
            f"Few steps: {data.sizes['train']:,} training images in batches of "
            f"{data.batch_size:,} are {steps} per epoch, "
            f"{steps * recipe.epochs} in all. A smaller batch_size or more "
            "epochs train longer",
            flush=True,
        )


def compile_network(model, recipe, steps_per_epoch, *, one_hot=False):
    """Compiles a model, for integer labels or `one_hot` vectors."""
    optimizer = recipe.make_optimizer(steps_per_epoch)
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        # Keras would add it in `fit`, but not save it.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    kind = "" if one_hot else "Sparse"
    loss = getattr(keras.losses, f"{kind}CategoricalCrossentropy")
    accuracy = getattr(keras.metrics, f"{kind}CategoricalAccuracy")
    model.compile(
        optimizer,
        loss=loss(from_logits=not _ends_in_softmax(model)),
        # Weighted: padding of batches for several devices has weight 0.
        weighted_metrics=[accuracy(name="accuracy")],
        auto_scale_loss=False,
    )
    # TensorFlow traces a step again if the first trace creates variables.
    optimizer.build(model.trainable_variables)


def _ends_in_softmax(model):
    if not _inspection.is_graph(model):
        return _inspection.kind_of_head(model.layers[-1]) == "softmax"
    steps, outputs = _inspection.trace(model, model.inputs)
    return _inspection.find_head(steps, outputs[0]).kind == "softmax"


def count_parameters(model):
    """Returns the number of trainable parameters."""
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def count_macs(model, image_shape):
    """Returns the multiply-accumulates for one image, if all are known."""
    try:
        profile = profiling.profile_model(model, image_shape)
    except (TypeError, ValueError, AttributeError):
        return None
    # A total without layers of unknown kinds would be too low.
    return None if profile.uncounted else profile.macs


def fingerprint(model):
    """Returns a hash of the types and configs of all layers, names aside."""

    def layers_of(model):
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                yield from layers_of(layer)
            else:
                yield layer

    configs = [
        (type(layer).__name__, {**layer.get_config(), "name": None})
        for layer in layers_of(model)
    ]
    text = json.dumps(configs, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
