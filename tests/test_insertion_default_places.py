"""Default places for attention in networks of many kinds."""

import re

import keras
import networks
import pytest
from insertion_checks import branch, conv, network, norm, paths, stem
from keras import layers

from cbam_keras.insertion import insert_attention


def scaled_layers(x):
    x = stem(x)
    y = layers.Rescaling(0.3)(branch(x, "block") * 0.5)
    y = layers.Activation("linear")(layers.SpatialDropout2D(0.1)(y))
    return layers.Add()([x, y])


def squeezed_and_excited(x):
    x = stem(x)
    y = branch(x, "block")
    weights = layers.GlobalAveragePooling2D(keepdims=True)(y)
    weights = layers.Conv2D(8, 1, activation="sigmoid")(weights)
    y = layers.Multiply(name="excited")([y, weights])
    return layers.Add()([x, y])


def vgg(x):
    # The sizes shrink by the border of each convolution without padding.
    for level in (1, 2):
        x = layers.Conv2D(8, 3, activation="relu", name=f"conv{level}_1")(x)
        x = layers.Conv2D(8, 3, activation="relu", name=f"conv{level}_2")(x)
        x = layers.MaxPooling2D(2)(layers.Dropout(0.2)(x))
    return x


def vgg_with_one_activation(x):
    relu = layers.ReLU(name="relu")
    for level in (1, 2):
        x = relu(norm(f"bn{level}")(conv(4 * level, f"conv{level}")(x)))
        x = layers.MaxPooling2D(2)(x)
    return x


def padded_by_hand(x):
    for level in (1, 2):
        x = layers.ReLU(name=f"relu{level}")(conv(8, f"conv{level}")(x))
        x = layers.ZeroPadding2D(1, name=f"pad{level}")(x)
        x = layers.Conv2D(8, 3, strides=(2, 1), name=f"down{level}")(x)
    return layers.ReLU(name="relu3")(x)


def unet(x):
    x = skip = conv(4, "down", activation="relu")(x)
    x = conv(8, "deep", activation="relu")(layers.MaxPooling2D(2)(x))
    x = layers.Conv2DTranspose(4, 2, strides=2, name="larger")(x)
    x = layers.Concatenate(name="joined")([skip, x])
    return conv(4, "up", activation="relu")(x)


def hourglass(x):
    x = stem(x)
    y = conv(8, "low", activation="relu")(layers.MaxPooling2D(2)(x))
    y = conv(8, "high", activation="relu")(layers.UpSampling2D()(y))
    return layers.Add(name="joined")([x, y])


def one_layer(x):
    x = stem(x)
    return layers.Add()([x, norm("bn")(conv(8, "conv")(x))])


def one_layer_beside_another(x):
    x = stem(x)
    x = layers.Add()([conv(8, "left", 1)(x), conv(8, "right")(x)])
    return layers.ReLU(name="end")(x)


def two_layers_beside_three(x):
    x = stem(x)
    left = conv(8, "left2")(conv(8, "left1")(x))
    right = conv(8, "right2")(conv(8, "right1")(x))
    x = layers.Add()([left, conv(8, "right3")(right)])
    return layers.ReLU(name="end")(x)


def two_branches_and_a_layer(x):
    x = stem(x)
    branches = [branch(x, "one"), branch(x, "two")]
    return layers.Add()([conv(8, "shortcut", 1)(x), *branches])


class Add(layers.Layer):
    """A user's layer, which has the name of another one of Keras."""

    def call(self, inputs):
        return keras.ops.stack(keras.tree.flatten(inputs), axis=-1)[..., 0]


def own_join(x):
    x = stem(x)
    return Add(name="end")([x, branch(x, "block")])


PLACES = {
    # Ends of residual branches.
    scaled_layers: ["block_bn2"],
    squeezed_and_excited: ["excited"],
    one_layer: ["bn"],
    two_branches_and_a_layer: ["one_bn2", "two_bn2"],
    # The last layer at each resolution.
    vgg: ["conv1_2", "conv2_2"],
    vgg_with_one_activation: ["bn1", "bn2"],
    padded_by_hand: ["relu1", "relu2", "relu3"],
    unet: ["down", "deep"],
    hourglass: ["stem_relu", "low"],
    one_layer_beside_another: ["end"],
    two_layers_beside_three: ["end"],
    own_join: ["end"],
}


@pytest.mark.parametrize("body", PLACES, ids=lambda body: body.__name__)
def test_default_places(body):
    model = network(body, (32, 32, 3))
    assert paths(insert_attention(model, dry_run=True)) == PLACES[body]


@pytest.mark.parametrize("body", [vgg, unet])
def test_unknown_sizes_have_the_same_places(body):
    model = network(body, (None, None, 3))
    assert paths(insert_attention(model, dry_run=True)) == PLACES[body]


def logits_and_softmax(x):
    x = conv(8, "features", activation="relu")(x)
    return layers.Softmax(name="softmax")(conv(3, "logits", 1)(x))


def coarse_logits(x):
    x = layers.ReLU(name="features")(conv(8, "conv", strides=2)(x))
    return layers.UpSampling2D(2)(conv(3, "logits", 1)(x))


def image_of_a_generator(x):
    x = conv(8, "low", strides=2, activation="relu")(x)
    x = layers.UpSampling2D(2, name="larger")(x)
    x = conv(8, "features", activation="relu")(x)
    return conv(3, "image", activation="tanh")(x)


HEADS = {
    logits_and_softmax: ["features"],
    coarse_logits: ["features"],
    image_of_a_generator: ["low", "features"],
}


@pytest.mark.parametrize("body", HEADS, ids=lambda body: body.__name__)
def test_attention_comes_before_the_head(body):
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, body(inputs))
    assert paths(insert_attention(model, dry_run=True)) == HEADS[body]


# Of networks that users have: the ends of the residual branches, else the last
# layer at each resolution.
NETWORKS = {
    "ResNet50": "conv2_block{1,2,3}_3_bn conv3_block{1,2,3,4}_3_bn "
    "conv4_block{1,2,3,4,5,6}_3_bn conv5_block{1,2,3}_3_bn",
    "MobileNet": "conv_pw_{1,3,5,11,13}_relu",
    "MobileNetV2": "block_{2,4,5,7,8,9,11,12,14,15}_project_BN",
    "DenseNet121": "conv1_relu pool{2,3,4}_conv relu",
    "VGG16": "block{1,2}_conv2 block{3,4,5}_conv3",
    "InceptionV3": "activation activation mixed{2,7,10}",
}
QUICK = "MobileNet", "MobileNetV2", "VGG16"
SIZES = {"MobileNetV2": 32, "VGG16": 32, "InceptionV3": 107}


def places_of(name):
    """Returns the names of layers, one for each choice in braces."""
    found = []
    for pattern in NETWORKS[name].split():
        start, *rest = re.split("[{}]", pattern)
        choices, end = rest or ("", "")
        found += [f"{start}{choice}{end}" for choice in choices.split(",")]
    return found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=() if x in QUICK else pytest.mark.exhaustive)
        for x in NETWORKS
    ],
)
def test_networks_that_users_have(name):
    """That they predict the same is in test_models_pretrained.py."""
    side, build = SIZES.get(name, 64), getattr(keras.applications, name)
    with networks.without_values():
        model = build(weights=None, input_shape=(side, side, 3))
    found = paths(insert_attention(model, dry_run=True))
    # Keras numbers "activation" globally.
    found = [re.sub(r"^activation_\d+", "activation", path) for path in found]
    assert found == places_of(name)
