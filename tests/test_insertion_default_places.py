"""Default places for attention in networks of many kinds."""

import keras
import pytest
from insertion_checks import (
    Blocks,
    branch,
    conv,
    network,
    norm,
    paths,
    stem,
    vgg_with_one_activation,
)
from keras import layers, ops

from cbam_keras.insertion import insert_attention


def bottleneck(x):
    y = layers.ReLU()(norm("bn1")(conv(4, "conv1", 1)(x)))
    y = layers.ReLU()(norm("bn2")(conv(4, "conv2")(y)))
    y = norm("bn3")(conv(8, "conv3", 1)(y))
    return layers.ReLU()(layers.Add()([conv(8, "shortcut", 1)(x), y]))


def preactivation(x):
    x = stem(x)
    y = conv(8, "conv1")(layers.ReLU()(norm("bn1")(x)))
    y = conv(8, "conv2")(layers.ReLU()(norm("bn2")(y)))
    return layers.ReLU()(norm("bn3")(layers.Add()([x, y])))


def projection(x):
    shortcut = norm("shortcut_bn")(conv(8, "shortcut", 1, strides=2)(x))
    y = branch(x, "block", strides=2)
    return layers.ReLU()(layers.Add()([y, shortcut]))


def padded_shortcut(x):
    # As in ResNets for CIFAR-10: strided, with zeros for the new channels.
    x = stem(x, 4)
    shortcut = layers.MaxPooling2D(1, strides=2)(x)
    shortcut = layers.Concatenate()([shortcut, shortcut * 0.0])
    return layers.Add()([shortcut, branch(x, "block", strides=2)])


def plus(x):
    x = stem(x)
    return ops.relu(x + branch(x, "block"))


def scaled_branch(x):
    x = stem(x)
    return layers.Add()([x, branch(x, "block") * 0.5])


def scaled_layers(x):
    x = stem(x)
    y = layers.Rescaling(0.3)(branch(x, "block"))
    y = layers.Activation("linear")(layers.SpatialDropout2D(0.1)(y))
    return layers.Add()([x, y])


def three_way(x):
    x = stem(x)
    return layers.Add()([branch(x, "one"), x, branch(x, "two")])


def squeezed_and_excited(x):
    x = stem(x)
    y = branch(x, "block")
    weights = layers.GlobalAveragePooling2D(keepdims=True)(y)
    weights = layers.Conv2D(8, 1, activation="sigmoid")(weights)
    y = layers.Multiply(name="excited")([y, weights])
    return layers.Add()([x, y])


def growing(x):
    shortcut = conv(8, "shortcut", 1)(layers.UpSampling2D()(x))
    return layers.Add()([shortcut, branch(layers.UpSampling2D()(x), "block")])


def one_activation_for_all(x):
    relu, add = layers.ReLU(name="relu"), layers.Add(name="add")
    x = relu(conv(8, "stem_conv")(x))
    for name in ("one", "two"):
        y = relu(norm(f"{name}_bn1")(conv(4, f"{name}_conv1")(x)))
        y = relu(norm(f"{name}_bn2")(conv(8, f"{name}_conv2")(y)))
        x = relu(add([x, y]))
    return x


def vgg(x):
    for level in (1, 2, 3):
        x = conv(4 * level, f"conv{level}_1", activation="relu")(x)
        x = conv(4 * level, f"conv{level}_2", activation="relu")(x)
        x = layers.MaxPooling2D(2)(layers.Dropout(0.2)(x))
    return x


def padded_by_hand(x):
    for level in (1, 2):
        x = layers.ReLU(name=f"relu{level}")(conv(8, f"conv{level}")(x))
        x = layers.ZeroPadding2D(1, name=f"pad{level}")(x)
        x = layers.Conv2D(8, 3, strides=2, name=f"down{level}")(x)
    return layers.ReLU(name="relu3")(x)


def valid_padding(x):
    # Its sizes shrink by the border of each convolution.
    for level in (1, 2):
        x = layers.Conv2D(8, 3, name=f"conv{level}_1")(x)
        x = layers.Conv2D(8, 3, name=f"conv{level}_2")(x)
        x = layers.MaxPooling2D(2)(x)
    return x


def densenet(x):
    for level in (1, 2):
        for i in (1, 2):
            y = conv(4, f"conv{level}_{i}")(layers.ReLU()(x))
            x = layers.Concatenate(name=f"concat{level}_{i}")([x, y])
        if level == 1:
            x = conv(4, "transition", 1)(norm("transition_bn")(x))
            x = layers.AveragePooling2D(2)(x)
    return layers.ReLU(name="relu")(norm("bn")(x))


def unet(x):
    skips = []
    for level in (1, 2):
        x = conv(4 * level, f"down{level}_1", activation="relu")(x)
        x = conv(4 * level, f"down{level}_2", activation="relu")(x)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = conv(16, "deep_1", activation="relu")(x)
    x = conv(16, "deep_2", activation="relu")(x)
    for level in (2, 1):
        x = layers.Conv2DTranspose(
            4 * level, 2, strides=2, name=f"up{level}_0"
        )(x)
        x = layers.Concatenate(name=f"joined{level}")([skips.pop(), x])
        x = conv(4 * level, f"up{level}_1", activation="relu")(x)
    return x


def pyramid(x):
    levels = []
    for level in (1, 2, 3):
        x = conv(8, f"down{level}", strides=2, activation="relu")(x)
        levels.append(x)
    x = conv(4, "top", 1)(x)
    for level in (2, 1):
        lateral = conv(4, f"lateral{level}", 1)(levels[level - 1])
        x = layers.Add()([lateral, layers.UpSampling2D()(x)])
        x = conv(4, f"smoothed{level}")(x)
    return x


def hourglass(x):
    x = stem(x)
    y = conv(8, "low", activation="relu")(layers.MaxPooling2D(2)(x))
    y = conv(8, "high", activation="relu")(layers.UpSampling2D()(y))
    return layers.Add(name="joined")([x, y])


def sums_in_a_cell(x):
    x = stem(x)
    parts = [
        layers.Add(name=f"sum{i}")([x, conv(8, f"conv{i}", i)(x)])
        for i in (1, 3, 5)
    ]
    return layers.Concatenate(name="cell")(parts)


def second_exit(x):
    x = stem(x)
    inside = conv(8, "inside")(x)
    sum_ = layers.ReLU()(layers.Add()([x, conv(8, "end")(inside)]))
    return layers.Concatenate(name="joined")([sum_, inside])


def two_equal_branches(x):
    x = stem(x)
    x = layers.Add(name="add")([branch(x, "one"), branch(x, "two")])
    return layers.ReLU(name="end")(x)


def custom_blocks(x):
    for level in (1, 2):
        x = Blocks(name=f"stage{level}")(x)
        x = layers.MaxPooling2D(2)(x)
    return x


def pools_one_axis(x):
    for level in (1, 2, 3):
        x = conv(8, f"conv{level}")(x)
        x = layers.MaxPooling2D((2, 1))(x)
    return x


PLACES = {
    # Ends of residual branches.
    bottleneck: ["bn3"],
    preactivation: ["conv2"],
    projection: ["block_bn2"],
    padded_shortcut: ["block_bn2"],
    plus: ["block_bn2"],
    scaled_branch: ["block_bn2"],
    scaled_layers: ["block_bn2"],
    three_way: ["one_bn2", "two_bn2"],
    squeezed_and_excited: ["excited"],
    growing: ["block_bn2"],
    one_activation_for_all: ["one_bn2", "two_bn2"],
    # The last layer at each resolution.
    vgg: ["conv1_2", "conv2_2", "conv3_2"],
    vgg_with_one_activation: ["bn1", "bn2"],
    padded_by_hand: ["relu1", "relu2", "relu3"],
    valid_padding: ["conv1_2", "conv2_2"],
    densenet: ["transition", "relu"],
    unet: ["down1_2", "down2_2", "deep_2"],
    pyramid: ["down1", "down2", "down3"],
    hourglass: ["stem_relu", "low"],
    sums_in_a_cell: ["cell"],
    second_exit: ["joined"],
    two_equal_branches: ["end"],
    custom_blocks: ["stage1", "stage2"],
    pools_one_axis: ["conv1", "conv2", "conv3"],
}


@pytest.mark.parametrize("body", PLACES, ids=lambda body: body.__name__)
def test_default_places(body):
    model = network(body, (32, 32, 3))
    assert paths(insert_attention(model, dry_run=True)) == PLACES[body]


@pytest.mark.parametrize("body", [padded_shortcut, valid_padding, unet])
def test_unknown_sizes_have_the_same_places(body):
    model = network(body, (None, None, 3))
    assert paths(insert_attention(model, dry_run=True)) == PLACES[body]


def probabilities(x):
    x = conv(8, "features", activation="relu")(x)
    return conv(3, "probabilities", 1, activation="softmax")(x)


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


def nothing_but_a_head(x):
    return conv(3, "head", activation="softmax")(x)


HEADS = {
    probabilities: ["features"],
    logits_and_softmax: ["features"],
    coarse_logits: ["features"],
    image_of_a_generator: ["low", "features"],
    nothing_but_a_head: ["head"],
}


@pytest.mark.parametrize("body", HEADS, ids=lambda body: body.__name__)
def test_attention_comes_before_the_head(body):
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, body(inputs))
    assert paths(insert_attention(model, dry_run=True)) == HEADS[body]
