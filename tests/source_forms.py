"""Source as it is pasted, whose attention `check_source` reports."""

# Own forms: CBAM of functions in the style of Keras 2, with old paths.
HALVES = """
from keras import backend as K
from keras.engine.topology import Layer
from keras.layers.core import Activation, Dense
from tensorflow.keras.layers import *
from tensorflow.python.keras.layers import Reshape


def pool_gate(features, ratio=8):
    channels = K.int_shape(features)[-1]
    one, two = Dense(channels // ratio, "relu"), Dense(channels)
    mean = two(one(GlobalAveragePooling2D()(features)))
    most = two(one(GlobalMaxPooling2D()(features)))
    factors = Activation("sigmoid")(Add()([mean, most]))
    return Multiply()([features, Reshape((1, 1, channels))(factors)])


def place_gate(features):
    mean = K.mean(features, axis=-1, keepdims=True)
    maps = K.concatenate([mean, K.max(features, axis=-1, keepdims=True)])
    conv = Conv2D(1, 7, padding="same", activation="sigmoid", use_bias=False)
    return Multiply()([features, conv(maps)])
"""
NETWORK = """

def build(input_shape, classes=3):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(32, 3, activation="relu")(inputs)
    {}
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))
"""
SQUEEZE = """
import keras
from keras import layers


def se_block(x, ratio=8):
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Dense(x.shape[-1] // ratio, activation="relu")(y)
    return x * layers.Dense(x.shape[-1], activation="sigmoid")(y)
"""
EFFECTS = (
    SQUEEZE
    + """
import os
import pathlib
import numpy as np
import package_of_nobody
import argparse

config = argparse.ArgumentParser().parse_args()
marker = open(MARKER, "w")
saved = np.save(MARKER, np.ones(3))
RATIO, shape = 4 * 2, np.zeros((1, 1)).shape
if True:
    pathlib.Path(MARKER).touch()
for RATIO_OF_LOOP in [8]:
    pathlib.Path(MARKER).touch()

class Gate(layers.Layer):
    pathlib.Path("relative").touch()
    (listed,) = os.listdir()

    def call(self, x):
        return x * keras.ops.sigmoid(x)

def se_of_config(x):
    return se_block(x, config.ratio)

def se_of_package(x):
    return x * package_of_nobody.factors(x)

def se_of_loop(x):
    return se_block(x, RATIO_OF_LOOP)

def se_of_old_keras(x):
    return x * layers.merge(x)

def se_of_options(x, options):
    return x * options

def se_of_ratio(x, reduction, name):
    return se_block(x, RATIO)

@package_of_nobody.decorate
def se_decorated(x):
    return x * x
"""
)
OF_AXIS_1 = """
import keras
from keras import ops
from keras.layers import Dense

def se_block(x):
    y = Dense(x.shape[1] // 4, "relu")(ops.mean(x, axis=(2, 3)))
    return x * Dense(x.shape[1], "sigmoid")(y)[:, :, None, None]
"""
MLP_FOR_EACH = """
from keras.layers import *

def channel_attention(x):
    pools = GlobalAveragePooling2D()(x), GlobalMaxPooling2D()(x)
    logits = [Dense(32)(Dense(4, "relu")(pool)) for pool in pools]
    return multiply([x, Activation("sigmoid")(add(logits))])
"""
FILES = {
    "halves.py": HALVES,
    "whole.py": """
from halves import place_gate, pool_gate

import keras

def cbam_block(x):
    return place_gate(pool_gate(x))


def cbam(x):
    return pool_gate(x)


def eca_block(x):
    return pool_gate(x)
""",
    "assigned.py": """
import logging
from functools import partial

import namex
from keras import layers

logger = logging.getLogger(__name__)
ACTIVATIONS = frozenset({"relu", "silu"})
Gate = partial(layers.Dense, activation="sigmoid")


class listed(namex.export):
    def __init__(self, path):
        super().__init__(package="own", path=path)


@listed("own.SEBlock")
class SEBlock(layers.Layer):
    def call(self, x, activation="relu"):
        assert activation in ACTIVATIONS
        logger.info("a gate is called")
        return self.excite(self.squeeze(x)) * x

    def build(self, shape):
        self.squeeze = layers.GlobalAveragePooling2D(keepdims=True)
        self.excite = keras.Sequential(
            [layers.Dense(8, "relu"), Gate(shape[-1])]
        )
""",
    "used.py": SQUEEZE + NETWORK.format("se_block(x); x = se_block(x)"),
    "lost.py": SQUEEZE + NETWORK.format("x = x"),
    "inline.py": "import keras"
    + NETWORK.format(
        """y = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = x * keras.layers.Dense(32, "sigmoid")(y)"""
    ),
    "effects.py": EFFECTS,
    "exits.py": """
import keras, os
class SEBlock(keras.layers.Layer):
    os._exit(0)
""",
    "asks.py": """
import keras
class SEBlock(keras.layers.Layer):
    input()
""",
    "raises.py": """
import keras
class SEBlock(keras.layers.Layer):
    raise SystemExit(1)
""",
    "syntax.py": "import keras\ndef se_block(x):\n    print 'x'",
    "forms.py": """
import tensorflow as tf
from tensorflow.keras import layers

def eca_block(x):
    y = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
    y = tf.reshape(y, [tf.shape(y)[0], tf.shape(y)[-1], 1])
    y = layers.Conv1D(1, 3, padding="same", use_bias=False)(y)
    y = tf.reshape(y, [tf.shape(x)[0], 1, 1, tf.shape(x)[-1]])
    return x * tf.sigmoid(y)

def eca_mixed(x):
    y = layers.Reshape((1, 32))(layers.GlobalAveragePooling2D()(x))
    return x * layers.Conv1D(32, 3, padding="same", activation="sigmoid")(y)

def SEBlock(input_filters, ratio=0.25):
    def block(inputs):
        y = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
        y = layers.Dense(input_filters * ratio, activation="relu")(y)
        y = layers.Dense(input_filters, activation="sigmoid")(y)
        return layers.multiply([inputs, y])

    return block

def attention_gate(x, g, inter_channels):
    y = layers.add([layers.Conv2D(inter_channels, 1)(z) for z in (x, g)])
    y = layers.Conv2D(1, 1, activation="sigmoid")(tf.nn.relu(y))
    return layers.multiply([x, y])
""",
    "fragment.py": """
def se_block(x):
    y = Dense(4, "relu")(GlobalAveragePooling2D()(x))
    return multiply([x, Dense(32, "sigmoid")(y)])
""",
    "sequential.py": """
import keras
from keras import ops
from keras.layers import *

def cbam_block(x, ratio=8):
    mlp = keras.Sequential([Dense(32 // ratio, "relu"), Dense(32)])
    s = mlp(ops.max(x, (1, 2), keepdims=True))
    x = x * ops.sigmoid(s + mlp(ops.mean(x, (1, 2), keepdims=True)))
    y = [f(x, 3, keepdims=True) for f in (ops.mean, ops.max)]
    y = Conv2D(1, 7, padding="same")(ops.concatenate(y, 3))
    return x * ops.sigmoid(y)

def train(data):
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, cbam_block(Conv2D(32, 1)(inputs)))
    history = model.fit(data)
    return history
""",
    "shapes.py": """
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras.layers import *

def AttnGatingBlock(x, g, inter_shape):
    small = Conv2D(inter_shape, 2, strides=2, padding="same")(x)
    steps = small.shape[1] // g.shape[1]
    g = Conv2D(inter_shape, 1)(g)
    g = Conv2DTranspose(inter_shape, 3, strides=steps, padding="same")(g)
    factors = Conv2D(1, 1, activation="sigmoid")(tf.nn.relu(g + small))
    sides = x.shape[1] // factors.shape[1], x.shape[2] // factors.shape[2]
    return multiply([x, UpSampling2D(sides)(factors)])

def attention_gate(g, s, num_filters):
    y = Conv2D(num_filters, 1)(g) + Conv2D(num_filters, 1)(s)
    return Conv2D(1, 1, activation="sigmoid")(tf.nn.relu(y)) * s

def _squeeze(inputs, hidden_channel, ratio, block_id):
    y = GlobalAveragePooling2D(keepdims=True)(inputs)
    y = Dense(32 // ratio, activation="relu")(y)
    return multiply([inputs, Dense(hidden_channel, "sigmoid")(y)])

def SEBlock(x: keras.Model):
    y = GlobalAveragePooling2D(keepdims=True)(x)
    return x * Dense(32, "sigmoid")(Dense(4, "relu")(y))

class Network:
    def __init__(self, shape, unusual):
        self.shape = shape

    def se_block(self, inputs):
        return SEBlock(inputs)
""",
    "places.py": """
import keras
from keras.layers import *

if keras.__version__:
    def eca_block(x):
        return x * Dense(32, "sigmoid")(x)

    class ChannelAttention(Layer):
        def call(self, x):
            return x / 2

    class CBAMConfig:
        ratio = 8

def network():
    def cbam_block(x):
        return x * Dense(32, "sigmoid")(x)
    return [cbam_block]

class SEBlock(Layer):
    def __init__(self):
        super().__init__()
        def call(self, x):
            return x

class ECALayer(Layer):
    def forward(self, x):
        return x

def test_cbam():
    keras.Input(cbam_block)

def load_cbam(path):
    return open(path)
""",
    "axis_1.py": OF_AXIS_1,
    "axis_1_set.py": OF_AXIS_1
    + 'keras.config.set_image_data_format("channels_first")',
    "axis_1_permuted.py": OF_AXIS_1
    + """
def rows_of(x):
    return se_block(ops.transpose(x, (0, 3, 1, 2)))
""",
    "added.py": """
from halves import place_gate, pool_gate

def cbam(x):
    return x + place_gate(pool_gate(x))
""",
    "mlp_for_each.py": MLP_FOR_EACH,
    "mlp_again.py": MLP_FOR_EACH,
    "plain.py": "import keras\ndef block(x):\n    return x",
    "of_torch.py": "import torch\nclass SE(torch.nn.Module):\n    pass",
    "first.py": """
import tensorflow as tf
def se_block(x):
    return x * tf.get_variable("x")
""",
    "legacy.py": """
from tf_keras import layers
class SEBlock(layers.Layer):
    pass
""",
    ".hidden/gate.py": SQUEEZE,
    "site-packages/gate.py": SQUEEZE,
    "own/pyvenv.cfg": "",
    "own/gate.py": SQUEEZE,
}
CELLS = [
    "%pip install keras\n!ls\nimport keras",
    "%%bash\nrm -r *",
    "this is no Python",
    "def se_block(x):\n    return x",
    "%%time\n" + SQUEEZE,
]
