"""Networks built from a seed, checked and compiled for training."""

import functools
import hashlib
import json
import math
import re
import types
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress

import keras
import numpy as np

from cbam_keras import _checks, _graph, profiling
from cbam_keras.data.examples import SEVERAL
from cbam_keras.models.losses import IntegerLabels
from cbam_keras.study.plans.recipes import FOCAL
from cbam_keras.study.plans.stages import check_frozen, unfrozen

# The shape of the output of a network with one value for two classes.
SINGLE = (None, 1)
# These parts of a configuration say how a network has been used.
USED = ("build_config", "compile_config")
# Where attention, losses and hypermodels may hold code of users.
HELD = ("layer", "options", "loss", "fn", "model", "layers")
# The types of values that are no code.
PLAIN_TYPES = (bool, int, float, type(None))
# The name of a layer, and the number that Keras has added.
NUMBERED = r"(.*?)(?:_(\d+))?"


def build_network(study, variant, run, data):
    """Returns a new network of a variant, after checking that it fits."""
    network, _ = build_drawn(study, variant, run, data)
    return network


def build_drawn(study, variant, run, data):
    """Builds a new network of a variant, after checking that it fits.

    Returns:
        Tuple of the network, and a list of its random values, `Drawn`, which
        another seed can draw again without building the network anew. The list
        is empty where the network must be built for each seed.
    """
    recipe = study.recipe_for(variant, run)
    model = build_seeded(functools.partial(variant.build, data), recipe)
    # An instance that is trained in place keeps its values.
    drawn = [] if "layers" in study.settings else find_drawn(model)
    draw_values(drawn, recipe.seed)
    study.task.check(model, data)
    check_frozen(model, recipe)
    return in_units(standardize(model, data), data), drawn


def build_seeded(build, recipe):
    """Calls `build` with the seed of a recipe in effect."""
    keras.utils.set_random_seed(recipe.seed)
    model = build()
    if not isinstance(model, keras.Model):
        raise TypeError(
            "The function for a network must return a keras.Model. Received: "
            f"{_checks.shown(model)}"
        )
    return model


def is_of_package(value: object) -> bool:
    """Returns whether a value holds no code but of Keras and this package."""
    if isinstance(value, type):
        return value in PLAIN_TYPES or not _checks.is_of_others(value)
    if isinstance(value, types.FunctionType):
        # `functools.wraps` gives a function the module of another one.
        package = str(value.__globals__.get("__name__")).partition(".")[0]
        held = [x.cell_contents for x in value.__closure__ or ()]
        is_ours = package in ("keras", "cbam_keras")
        return is_ours and all(map(is_of_package, held))
    if isinstance(value, str):
        # Keras looks up names among what users have registered.
        return is_of_package(keras.saving.get_registered_object(value))
    if type(value) is functools.partial:
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        parts = [*value]
    elif isinstance(value, keras.losses.Loss) or (
        _checks.package_of(value) == "cbam_keras"
        and not isinstance(value, keras.Layer)
    ):
        parts = [type(value), *(getattr(value, x, None) for x in HELD)]
    else:
        return type(value) in PLAIN_TYPES
    return all(map(is_of_package, parts))


def is_by_name(study, variant, model):
    """Returns whether networks of other seeds differ in values alone."""
    layers = map(type, _graph.layers_within(model))
    loss = study.recipe_for(variant).loss
    used = variant.build, loss, type(study.task), *layers
    return all(map(is_of_package, used))


# A weight, what draws it, and its path.
Drawn = tuple[keras.Variable, keras.initializers.Initializer, str]


def draw_values(drawn: Iterable[Drawn], seed: int) -> None:
    """Draws initial values by seed and path, so shared layers start alike."""
    for weight, initializer, place in drawn:
        entropy = np.random.SeedSequence([seed, *place.encode()])
        # Keras' own seeds are not larger.
        number = int(entropy.generate_state(1)[0]) % 10**9
        config = {**initializer.get_config(), "seed": number}
        new = type(initializer).from_config(config)
        weight.assign(new(weight.shape, dtype=weight.dtype))


def find_drawn(model: keras.Model) -> list[Drawn]:
    """Returns the weights that are as initializers without a seed draw."""
    places, drawn = _places_of(model), []
    for layer in _graph.layers_within(model):
        held = [*vars(layer).values(), *vars(layer).get("_clones", ())]
        initializers = [
            value
            for value in held
            if isinstance(value, keras.initializers.Initializer)
            and isinstance(getattr(value, "seed", None), int)
            and value.get_config()["seed"] is None
        ]
        if not initializers:
            continue
        inner = [x.weights for x in _graph.layers_within(layer)[1:]]
        ids = {id(weight) for weights in inner for weight in weights}
        for weight in layer.weights:
            if id(weight) in ids:
                continue
            # Operations of JAX would be compiled for each shape.
            values = keras.ops.convert_to_numpy(weight.value)
            for initializer in initializers:
                start = initializer(weight.shape, dtype=weight.dtype)
                if np.array_equal(keras.ops.convert_to_numpy(start), values):
                    drawn.append((weight, initializer, places[id(weight)]))
                    break
    return drawn


def _places_of(model):
    """Returns the path of each weight by its id, in any process the same."""
    numbers, split = {}, {}
    for weight in model.weights:
        path = weight.path.removeprefix(f"{model.name}/").split("/")
        # The names before one, and its two parts.
        split[id(weight)] = [
            (*path[:i], *re.fullmatch(NUMBERED, name).groups("-1"))
            for i, name in enumerate(path)
        ]
        for *kind, number in split[id(weight)]:
            numbers.setdefault(tuple(kind), set()).add(int(number))
    return {
        key: "/".join(
            f"{kind[-1]}_{sorted(numbers[tuple(kind)]).index(int(number))}"
            for *kind, number in path
        )
        for key, path in split.items()
    }


def check_network(model, images):
    """Raises unless the model takes these images and has their classes."""
    shape, labels = images.output_shape, getattr(images, "labels", None)
    values = f"{shape[0]} values"
    output = tuple(model.output_shape) if takes(model, images) else None
    is_head = output == (None, *shape)
    if labels is not None:
        values = f"values of shape {shape}, without activation"
        if labels == SEVERAL:
            values += " or by a sigmoid"
        is_head = is_head and _ends_rightly(model, labels)
    elif shape == (2,):
        values += " (or one, of a sigmoid or a logit: a softmax of one is 1)"
        is_head |= output == SINGLE and _graph.kind_of_head(model) != "softmax"
    if not is_head:
        raise ValueError(
            f'A network for the dataset "{images.name}" must take '
            f"{images.kind} of shape {images.input_shape} and give {values}, "
            "as a functional or Sequential keras.Model that begins with "
            f'keras.Input. Received: model "{model.name}" with '
            f"input_shape={getattr(model, 'input_shape', None)}, "
            f"output_shape={getattr(model, 'output_shape', None)}"
        )
    is_single = output == SINGLE or labels is not None
    if not is_single and _graph.kind_of_head(model) == "sigmoid":
        _checks.warn(
            f'Model "{model.name}" ends in a sigmoid of {values}. Each '
            "image has one class, so the model is trained as if these were "
            "logits. End it in a softmax or in logits"
        )


def _ends_rightly(model, labels):
    """Returns whether a model can end so for numbers, or several labels."""
    if labels == SEVERAL:
        return _graph.kind_of_head(model) in (None, "sigmoid")
    linear = None, keras.activations.linear
    return getattr(model.layers[-1], "activation", None) in linear


def in_units(model, data):
    """Returns the network with a layer that gives numbers in their units."""
    if getattr(data, "targets", None) is None:
        return model
    outputs = keras.layers.Normalization(
        -1, *data.targets, invert=True, dtype="float32", name="in_units"
    )(model.output)
    return _like(model, model.input, outputs)


def _like(model, inputs, outputs):
    """Returns a network of other ends that trains as the class of a model."""
    new = keras.Model(inputs, outputs, name=model.name)
    if isinstance(model, type(new)):
        set_since = vars(model).keys() - vars(new).keys()
        new.__class__ = type(model)
        vars(new).update({name: vars(model)[name] for name in set_since})
    return new


def takes(model, data):
    """Returns whether a model takes such examples; several inputs by name."""
    if not isinstance(data.input_shape, Mapping):
        shape = getattr(model, "input_shape", None) or ()
        return _checks.fits(shape[1:], data.input_shape)
    names = _graph.input_names(model) if _graph.is_graph(model) else ()
    return {*names} == {*data.input_shape} and all(
        _checks.fits(x.shape[1:], data.input_shape[name])
        for name, x in zip(names, model.inputs, strict=True)
    )


def standardize(model, data):
    """Returns a network behind layers that standardize its inputs."""
    measured = getattr(data, "standardization", None)
    if not measured:
        return model
    model = _graph.with_graph("model", model)
    names, axis = _graph.input_names(model), -1
    if not isinstance(data.input_shape, Mapping):
        measured = dict.fromkeys(names, *measured.values())
        if keras.config.image_data_format() == "channels_first":
            axis = 1
    inputs, values = {}, []
    for name, given in zip(names, model.inputs, strict=True):
        x = keras.Input(batch_shape=given.shape, dtype=given.dtype, name=name)
        inputs[name] = x
        if name in measured and "float" in given.dtype:
            mean, variance = measured[name]
            x = keras.layers.Normalization(
                axis,
                mean,
                variance,
                # Half precision may not hold the values.
                dtype="float32",
                name=f"standardize_{name}",
            )(x)
        values.append(x)
    outputs = _graph.replay(
        model, values, lambda layer, *args, **kwargs: layer(*args, **kwargs)
    )
    is_several = isinstance(data.input_shape, Mapping)
    return _like(
        model,
        inputs if is_several else [*inputs.values()][0],
        keras.tree.pack_sequence_as(_graph.structure(model)[1], outputs),
    )


def compile_network(model, recipe, steps_per_epoch, loss=None, metrics=None):
    """Compiles a model for integer labels, or with this loss and metrics."""
    optimizer = recipe.make_optimizer(steps_per_epoch)
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        # Keras would add it in `fit`, but not save it.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    if loss is None:
        loss, metrics = loss_and_metrics(model, recipe.loss)
    model.compile(optimizer, loss, metrics=metrics, auto_scale_loss=False)
    # TensorFlow traces a step again if the first trace creates variables.
    optimizer.build(model.trainable_variables)


def loss_and_metrics(model, loss=None):
    """Returns the loss and the metrics of a classifier of integer labels."""
    kind = _graph.kind_of_head(model)
    if getattr(model, "output_shape", None) == SINGLE:
        from_logits = kind != "sigmoid"
        threshold = 0.0 if from_logits else 0.5
        return make_loss(loss, "Binary", from_logits), [
            keras.metrics.BinaryAccuracy("accuracy", threshold=threshold),
            keras.metrics.AUC(name="auc", from_logits=from_logits),
        ]
    is_default, from_logits = loss is None, kind != "softmax"
    if is_default:
        loss = keras.losses.SparseCategoricalCrossentropy()
    loss = make_loss(loss, "Categorical", from_logits)
    return loss if is_default else IntegerLabels(loss), [
        keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    ]


def make_loss(loss, kind, from_logits):
    """Returns the loss of a recipe, `"Binary"` or `"Categorical"`."""
    if loss == FOCAL:
        loss = getattr(keras.losses, f"{kind}FocalCrossentropy")()
    elif not isinstance(loss, keras.losses.Loss):
        smooth = getattr(keras.losses, f"{kind}Crossentropy")
        loss = smooth(label_smoothing=loss or 0)
    config = loss.get_config()
    if "from_logits" not in config:
        return loss
    return type(loss).from_config({**config, "from_logits": from_logits})


def count_parameters(model, recipe):
    """Returns the number of trainable parameters, frozen first or not."""
    stages = unfrozen(model) if recipe.starts_frozen else nullcontext()
    with stages:
        return sum(math.prod(v.shape) for v in model.trainable_variables)


def count_network_macs(model, data=None):
    """Returns the multiply-accumulates for one image, if all are known."""
    # Data of one's own have the shape of their images.
    image_shape = getattr(data, "image_shape", None)
    shape = getattr(data, "input_shape", image_shape)
    try:
        if isinstance(shape, Mapping):
            shape = [shape[name] for name in _graph.input_names(model)]
        profile = profiling.profile_model(model, shape)
    except (TypeError, ValueError, AttributeError):
        return None
    # A total without layers of unknown kinds would be too low.
    return None if profile.uncounted else profile.macs


def fingerprint(model):
    """Returns a hash of a network, or raises if it cannot be saved."""
    try:
        # Keras changes what it loads.
        config = keras.saving.serialize_keras_object(model)
        text = json.dumps(config)
        keras.saving.deserialize_keras_object(json.loads(text))
    except Exception as error:
        cause = str(error).strip().split("\n")[0]
        raise ValueError(
            "A network must be one that Keras can save and load. Received: "
            f'model "{model.name}" ({type(error).__name__}: {cause}). '
            "Decorate your own layers and functions with "
            "@keras.saving.register_keras_serializable(), and give layers a "
            "get_config that returns their arguments"
        ) from error
    layers = _graph.layers_within(model)
    # What the code of a layer or model builds may be in no configuration.
    built = [
        [type(layer).__name__, _config_of(layer)]
        for layer in layers
        if not _graph.is_graph(layer)
    ]
    shapes = [list(weight.shape) for weight in model.weights]
    places = {layer.name: None for layer in layers}
    nameless = without_names([config, built, shapes], places)
    text = json.dumps(nameless, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _config_of(layer):
    """Returns the configuration of a layer, which need not have one."""
    with suppress(Exception):
        config = keras.saving.serialize_keras_object(layer)
        json.dumps(config)
        return config


def without_names(value, places):
    """Returns a configuration in which layers are known by their places."""
    if isinstance(value, dict):
        if "input_layers" in value:
            names = [layer["name"] for layer in value["layers"]]
            places = places | {name: i for i, name in enumerate(names)}
        # Other things have names too, such as dtype policies.
        is_layer = "trainable" in value or str(value.get("name")) in places
        left_out = ("name", *USED) if is_layer else USED
        return {
            str(key): without_names(each, places)
            for key, each in value.items()
            if key not in left_out
        }
    if isinstance(value, list | tuple):
        if len(value) == 3 and str(value[0]) in places:
            return [places[str(value[0])], *value[1:]]
        return [without_names(each, places) for each in value]
    return value
