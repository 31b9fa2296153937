"""Networks to insert attention into, and checks of the result."""

import collections
import math

import keras
import networks
import numpy as np
from keras import layers, ops
from layer_checks import to_numpy

from cbam_keras import _graph


def conv(filters, name, size=3, **options):
    return layers.Conv2D(filters, size, padding="same", name=name, **options)


def norm(name, **options):
    return layers.BatchNormalization(name=name, **options)


def branch(x, name):
    x = conv(8, f"{name}_conv1")(x)
    x = norm(f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = conv(8, f"{name}_conv2")(x)
    return norm(f"{name}_bn2")(x)


def block(x, name="block"):
    y = branch(x, name)
    return layers.ReLU(name=f"{name}_relu")(
        layers.Add(name=f"{name}_add")([x, y])
    )


def stem(inputs):
    return layers.ReLU(name="stem_relu")(conv(8, "stem_conv")(inputs))


def head(x, name="predictions"):
    x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    return layers.Dense(5, name=name)(x)


def network(body, shape=(8, 8, 3)):
    """Returns a classifier whose features are `body(inputs)`."""
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, head(body(inputs)), name="network")


def small():
    return network(lambda inputs: block(stem(inputs)))


def ours():
    return networks.resnet(
        (1, 1), block="bottleneck", classifier_activation=None, name="ours"
    )


def body_model(name="body", channels=8, body=block):
    inputs = keras.Input((8, 8, channels))
    return keras.Model(inputs, body(inputs), name=name)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.network = [
            *(conv(8, "first"), layers.ReLU(), conv(8, "second")),
            *(layers.GlobalAveragePooling2D(), layers.Dense(5)),
        ]

    def call(self, inputs):
        for layer in self.network:
            inputs = layer(inputs)
        return inputs


def subclassed():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, Subclassed(name="own")(inputs))


def wrapped():
    """Returns a network for videos, of one for images."""
    images = body_model("backbone", 3, lambda x: head(block(stem(x)), "vector"))
    inputs = keras.Input((7, 8, 8, 3))
    x = layers.TimeDistributed(images, name="frames")(inputs)
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))


class Framed(Subclassed):
    def compute_output_shape(self, input_shape):
        return (*input_shape[:1], 5)


def wrapped_subclassed():
    inputs = keras.Input((7, 8, 8, 3))
    own = Framed(name="own")
    own(inputs[:, 0])
    frames = layers.TimeDistributed(own, name="frames")
    return keras.Model(inputs, frames(inputs))


def nested_twice():
    inner = body_model()
    outer_inputs = keras.Input((8, 8, 8))
    outer = keras.Model(outer_inputs, block(inner(outer_inputs)), name="outer")
    return network(lambda inputs: outer(stem(inputs)))


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            conv(8, "conv"),
            norm("bn"),
            keras.Sequential([conv(8, "inner_conv")], name="body"),
            layers.GlobalMaxPooling2D(name="pool"),
            layers.Dense(5, name="predictions"),
        ]
    )


def siamese():
    body = body_model(channels=3, body=lambda x: block(stem(x)))
    left, right = (keras.Input((8, 8, 3), name=n) for n in ("left", "right"))
    apart = layers.Subtract(name="apart")([body(left), body(right)])
    return keras.Model([left, right], head(apart))


def shared_layer():
    shared = conv(8, "shared")
    inputs = keras.Input((8, 8, 3))
    first = shared(inputs)
    second = shared(layers.UpSampling2D(name="larger")(inputs))
    return keras.Model(inputs, [head(first), head(second, "more_predictions")])


def several_inputs_and_outputs():
    # The order is not that of the alphabet: Keras sorts the keys.
    inputs = {
        "photo": keras.Input((8, 8, 3), name="photo"),
        "depth": keras.Input((8, 8, 1), name="depth"),
        "age": keras.Input((4,), name="age"),
    }
    x = layers.Concatenate(name="both")([inputs["photo"], inputs["depth"]])
    x = block(stem(x))
    age = layers.Dense(5, name="age_dense")(inputs["age"])
    return keras.Model(inputs, [head(x) + age, {"features": x, "age": age}])


def operations():
    def body(inputs):
        x = stem(inputs)
        y = ops.relu(branch(x, "block"))
        y = ops.concatenate([y, y * 2.0], axis=-1)
        y = ops.sum(ops.reshape(y, (-1, 8, 8, 2, 8)), axis=3)
        y = conv(8, "last_conv")(ops.clip(y, -1.0, 4.0))
        return (x + y) / 2.0

    return network(body)


@keras.saving.register_keras_serializable(package="tests")
class Blocks(layers.Layer):
    """Has layers in a list, and weights of one shape without a name."""

    def __init__(self, depth=2, **kwargs):
        super().__init__(**kwargs)
        self.depth = depth
        self.steps = []
        for _ in range(depth):
            self.steps.append(conv(8, None))
            self.steps.append(layers.BatchNormalization())

    def build(self, input_shape):
        self.scale, self.offset = (
            self.add_weight((8,), initializer="ones") for _ in range(2)
        )
        for step in self.steps:
            step.build(input_shape)
            input_shape = step.compute_output_shape(input_shape)

    def call(self, inputs, training=None):
        for i, step in enumerate(self.steps):
            inputs = step(inputs, training=training) if i % 2 else step(inputs)
        return inputs * self.scale + self.offset

    def get_config(self):
        return {**super().get_config(), "depth": self.depth}


def layers_in_a_list():
    return network(lambda inputs: Blocks(name="blocks")(stem(inputs)))


def preprocessing():
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(2).normal(3, 2, (20, 8, 8, 3)))

    def body(inputs):
        scaled = layers.Lambda(
            lambda x, by: x * by, output_shape=(8, 8, 3), arguments={"by": 3.0}
        )
        return block(stem(scaled(adapted(inputs))))

    return network(body)


def vary(model, seed=1):
    """Sets the weights of a network as if it were trained."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        # Integers are states of random generators and the like, and
        # `Normalization` is adapted to its data.
        if "float" not in variable.dtype or variable.path.startswith(
            "normaliz"
        ):
            continue
        if len(shape) > 1:
            # Depthwise kernels end in 1.
            fan_in = math.prod(shape[: -2 if shape[-1] == 1 else -1])
            values = rng.normal(0, (2 / fan_in) ** 0.5, shape)
        elif variable.name in ("beta", "bias", "moving_mean"):
            values = rng.normal(0, 0.3, shape)
        else:
            values = rng.uniform(0.5, 1.5, shape)
        variable.assign(values)
    return model


def data_for(model, batch=3, size=6):
    """Returns random inputs in the structure that a model takes."""
    rng = np.random.default_rng(0)

    def one(x):
        shape = [size if axis is None else axis for axis in x.shape[1:]]
        # Samples of different means, which global pooling does not remove.
        offset = rng.normal(0, 2, (batch,) + (1,) * len(shape))
        return (offset + rng.normal(size=(batch, *shape))).astype(x.dtype)

    return keras.tree.map_structure(one, _graph.structure(model)[0])


def predictions(model, x):
    """Returns the outputs, run operation by operation."""
    return [to_numpy(y) for y in keras.tree.flatten(model(x, training=False))]


def assert_predicts_the_same(new, old, x):
    structures = _graph.structure(new), _graph.structure(old)
    keras.tree.assert_same_structure(*structures)
    for found, expected in zip(
        predictions(new, x), predictions(old, x), strict=True
    ):
        # Equal outputs for all samples would prove nothing.
        values = expected.astype("float64")
        assert np.ptp(values, axis=0).max() > 0.01 * np.abs(values).max() > 0
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()


def contents(variables):
    """Returns the number of variables with each content."""
    return collections.Counter(to_numpy(v).tobytes() for v in variables)


def assert_holds_all_of(new, old):
    assert not contents(old.variables) - contents(new.variables)


def attention_of(model):
    """Returns the attention layers, also of nested models."""
    return list(_graph.gate_paths(model))


def paths(places):
    return [place.layer for place in places]
