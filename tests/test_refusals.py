"""Mistakes that are refused before any work: each call, and words of it.

Those that need files, folders or a study are where these are tested.
"""

from functools import partial
from unittest import mock

import keras
import numpy as np
import pytest
from explain_checks import images, tiny
from insertion_checks import (
    conv,
    head,
    several_inputs_and_outputs,
    subclassed,
    wrapped_subclassed,
)
from keras import layers, ops
from networks import linear, resnet
from test_models_unet import encoder

from cbam_keras import (
    CBAM,
    ChannelAttention,
    CoordinateAttention,
    SimAM,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
    comparison,
    explain,
    insert_attention,
    insertion,
    load_torch_weights,
    losses,
    models,
    plotting,
    profile_model,
    remove_attention,
    training,
    tuning,
)
from cbam_keras.layers import Attention, AttentionGate, make_attention
from cbam_keras.models.paper import build_preset


def functional(body, shape=(8, 8, 3)):
    """Returns a model of a function, or of a layer."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, body(inputs))


def per_class(model):
    """Returns a model that gives a video one value per class."""
    return keras.Model(model.input, ops.mean(model.output, axis=1))


# Layers.

ARGUMENTS = [
    (ChannelAttention, "reduction_ratio", 0),
    # Features that belong into a call of the layer.
    (CBAM, "reduction_ratio", np.ones((7, 5, 16))),
    (CBAM, "reduction_ratio", 16.0),
    (SpatialAttention, "kernel_size", 4),
    (CBAM, "kernel_size", (7, 7)),
    (SpatialAttention, "batch_norm_momentum", 1),
    (ChannelAttention, "pool_types", ()),
    (SpatialAttention, "pool_types", ("avg", "avg")),
    (CBAM, "channel_pool_types", ("avg", "conv")),
    (CBAM, "order", "spatial_frist"),
    (CBAM, "data_format", "NHWC"),
    (SimAM, "regularization", 0),
]
INPUTS = [
    (CBAM, (16,), "rank 3, 4 or 5.*Received"),
    (ChannelAttention, (), "rank 2, 3, 4 or 5.*Received"),
    (CoordinateAttention, (7, 16), "rank 4 or 5: .*Received"),
    (TripletAttention, (7, 16), "rank 4: .*Received"),
    (SpatialAttention, (7, 5, None), '"gate" needs a known channel.*Received'),
]
# Gates that cannot be the identity, and why.
GATES = [
    ("tanh", "is 0 at 0"),
    ("softmax", "is 0.2 at 0"),
    (layers.Softmax(axis=0), "is 0.333333 at 0"),
]


class Closed(layers.Layer):
    """Takes no arguments of Keras."""

    def __init__(self, width=3):
        super().__init__()
        self.width = width

    def get_config(self):
        return {**super().get_config(), "width": self.width}


UNNAMED = "unexpected keyword argument"
make = partial(make_attention, name="gate")
SMALL, LARGE = np.ones((1, 4, 4, 2)), np.ones((1, 8, 7, 3))
LAYERS = [
    *(
        (partial(layer, **{name: value}), f"`{name}` must be .*Received: ")
        for layer, name, value in ARGUMENTS
    ),
    *(
        (partial(layer(name="gate"), keras.Input(shape)), words)
        for layer, shape, words in INPUTS
    ),
    *(
        (
            partial(CBAM, identity_init=True, gate_activation=gate),
            f"power of two.*which {cause}",
        )
        for gate, cause in GATES
    ),
    (
        lambda: CBAM(64, 16),
        "=16. The first argument of CBAM is the reduction ratio",
    ),
    (lambda: CBAM(ratio=8), "Write reduction_ratio=8"),
    (lambda: CBAM(kernel=7), "Write kernel_size=7"),
    (lambda: CBAM(channels=64), "reads the channels from its input"),
    (lambda: CBAM(variant="paper"), r"\*\*VARIANTS\['paper'\]"),
    (lambda: CBAM(kernel_size=(7, 7)), "It is one number"),
    (lambda: make("cbm"), '"se".*Received.*cbm'),
    (lambda: make(lambda name: CBAM()), "must give its layer the name"),
    (lambda: AttentionGate()(LARGE, SMALL), "Are they swapped"),
    (lambda: AttentionGate()(LARGE), "takes two tensors"),
    (lambda: AttentionGate(subsampling=9)(SMALL, LARGE), "at most the size"),
    (lambda: AttentionGate()(SMALL[0], LARGE), "of the same rank"),
]


# Networks.


def one_resolution():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, conv(3, "conv")(inputs))


def other_format():
    inputs = keras.Input((2, 8, 8))
    return keras.Model(inputs, encoder()(layers.Permute((2, 3, 1))(inputs)))


def resizing():
    inputs = keras.Input((9, 9, 2))
    return keras.Model(inputs, encoder()(layers.Resizing(8, 8)(inputs)))


def wrapped():
    inputs = keras.Input((7, 8, 8, 2))
    frames = layers.TimeDistributed(encoder(), name="frames")
    return keras.Model(inputs, frames(inputs))


stages = partial(resnet, (1, 1))
unet = partial(models.UNet, classes=2)
RGB = "RGB image or a batch"
NETWORKS = [
    (lambda: models.preprocess_input(np.zeros((7, 3))), RGB),
    (
        lambda: models.preprocess_input(np.zeros((7, 5, 3)), "channels_first"),
        "RGB image.* axis -3",
    ),
    (
        lambda: models.pyramid(keras.Sequential([stages(), layers.Dense(2)])),
        "`model` must have layers named",
    ),
    (lambda: stages(classes=1), '"sigmoid" or None.*activation=.softmax'),
    (lambda: resnet(()), "Received: depths="),
    (lambda: stages(widths=(4, 8, 16)), "must have the same length"),
    (lambda: stages(groups=2), 'belong to block="bottleneck"'),
    (lambda: stages(attention=["cbam"]), "must have one entry per stage"),
    (
        lambda: stages(attention=layers.Dense(3)),
        "give layers that keep the shape",
    ),
    (lambda: stages(input_shape=(8,)), "`input_shape` must have"),
    (lambda: stages(input_shape=(8, 8, None)), "a known number of"),
    (
        lambda: stages(input_tensor=keras.Input((9, 9, 3))),
        "`input_shape` must be left",
    ),
    (
        lambda: models.WideResNet18(width_multiplier=-1.5),
        "`width_multiplier` must be a positive number",
    ),
    (
        lambda: build_preset("resnext50-cbm"),
        "must be one of .*-cbm",
    ),
    (lambda: unet(subclassed()), "several resolutions.*subclassed"),
    (lambda: unet(keras.Sequential()), "Begin it with keras.Input"),
    (lambda: unet(one_resolution()), r"several resol.*\['conv'\]"),
    (lambda: unet(linear()), "several resolutions.*none"),
    (lambda: unet(several_inputs_and_outputs()), "one input.* with 3"),
    (lambda: unet(other_format()), r'"channels_last".*\(None, 2, 8, 8\)'),
    (lambda: unet(wrapped()), r"several resol.*\['frames/"),
    (lambda: unet(resizing()), 'not resize.*"resizing'),
    (
        lambda: unet(encoder(), decoder_widths=(8, 8, 8)),
        r"each decoder block, 2 with.*decoder_widths=\(8, 8, 8\)",
    ),
    (lambda: unet(encoder(), classes=1), "its softmax is always 1"),
    (lambda: unet(encoder(), decoder_widths=8), "decoder_widths=8"),
    (lambda: unet(encoder(), attention="gate"), 'skip_attention="gate"'),
]
MASKS = np.arange(24).reshape(2, 4, 3) % 3
LOGITS = np.zeros((2, 4, 3, 3), "float32")


def loss_of(masks=MASKS, weight=None):
    return losses.PixelCrossentropy(class_weight=weight)(masks, LOGITS)


LOSSES = [
    (
        lambda: loss_of(np.eye(3)[MASKS]),
        r"argmax.*\(2, 4, 3, 3\), y_pred.shape",
    ),
    (lambda: loss_of(MASKS[:1]), r"pixel of the predictions, \(2, 4, 3\)"),
    (lambda: loss_of(weight=[5.0]), r"of the 3 classes.*=\[5.0\]"),
    (lambda: loss_of(weight=[1, -1, 1]), "a non-negative number for each"),
]


# Places for attention.

three = partial(resnet, (1, 1, 1))
features = partial(three, include_top=False)
at_top = partial(insert_attention, stages="top")
planned = partial(comparison.plan, data="mnist5k")
own = Attention("se", stages="last")
FORM = '`stages` must be "all", .* such as "last 2", "top", or numbers.*'
LACKING = "network has places for attention: 1, 2, 3, top. Received: stages="
NO_TOP = r"attention: [1-3, ]+\. .* that predict masks"


class OwnGate(SqueezeExcite):
    def attention_map(self, inputs, training=None, mask=None):
        return 1 - super().attention_map(inputs, training, mask)


class Block(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.gate = SqueezeExcite(2, name="inner")

    def call(self, inputs):
        return self.gate(inputs)


def masked(inputs):
    return CBAM(name="gate")(layers.Masking()(inputs))


def mapped(x):
    gate = SqueezeExcite(name="mapped")
    return layers.Multiply()(gate(x, return_attention_maps=True))


def inside(x):
    gate = layers.TimeDistributed(SqueezeExcite(name="inside"))
    return head(gate(x))


def to_core(gate, shape=(5, 5, 8)):
    return insertion.to_core(functional(gate, shape))


PLACES = [
    (lambda: three(stages="lasst"), f"{FORM}'lasst'"),
    (lambda: Attention("se", stages="last 0"), f"{FORM}'last 0'"),
    (lambda: three(stages=0.5), f"{FORM}=0.5"),
    (lambda: three(stages="4", attention="se"), f"{LACKING}'4'"),
    (lambda: insert_attention(three(), stages="last 4"), f"{LACKING}'last 4'"),
    (lambda: planned("se", stages=["all", "1,4"]), f"{LACKING}'1,4'"),
    (lambda: three(attention=own, stages="1"), "`stages` must be given once"),
    (lambda: own(name="gate"), "passed to a builder of cbam_keras.models"),
    (lambda: planned([own]), "To `compare`, pass `stages`"),
    (lambda: planned("se", stages=["last", "3"]), "several different choices"),
    (
        lambda: planned("se", stages="each", model=lambda attention: linear()),
        "which ignores them",
    ),
    (lambda: unet(features(), attention="se", stages="top"), NO_TOP),
    (lambda: at_top(unet(features())), NO_TOP),
    (lambda: at_top(functional(lambda x: conv(2, "b", 1)(x))), "predict masks"),
    (lambda: at_top(features(), after="stem_relu"), NO_TOP),
    (lambda: insert_attention(encoder(), "gate"), 'skip_attention="gate"'),
    (lambda: to_core(masked, (5, 8)), "gate.*takes a mask"),
    (
        lambda: to_core(partial(CBAM(name="gate"), return_attention_maps=True)),
        "gate.*is called with `training`",
    ),
    (lambda: to_core(OwnGate(2, name="own")), "own.*class OwnGate"),
    (lambda: to_core(Block(name="block")), "inner.*inside"),
    (
        lambda: remove_attention(functional(inside)),
        'gate "[a-z]+": its layer is inside another layer',
    ),
    (
        lambda: remove_attention(functional(mapped)),
        'gate "mapped": its map is an output of its layer',
    ),
    (
        lambda: remove_attention(tiny(), ["stage1_atention"]),
        "stage2_block1_attention.*'stage1_atention'",
    ),
    (
        lambda: insert_attention(encoder(), instead_of="se"),
        "found: none",
    ),
    (
        lambda: insert_attention(tiny(), instead_of="cbam", after="stem_conv"),
        "`after` and `into` must be None",
    ),
    (lambda: insert_attention(tiny(), after=3), "of which 3 finds none"),
    (
        lambda: insert_attention(tiny(), instead_of="bam"),
        r'"stage1_block1_attention" \(cbam\)',
    ),
]


# What cannot be counted, explained or drawn.


def two_inputs():
    a, b = (keras.Input((None, 3), name=name) for name in "ab")
    return keras.Model([b, a], [layers.Dense(4)(a), layers.Dense(5)(b)])


def profiled(own_shape, shape):
    return profile_model(functional(layers.Conv2D(4, 3), own_shape), shape)


PROFILES = [
    (lambda: profile_model(keras.Model(name="mine")), '"mine" of type Model'),
    (lambda: profile_model(keras.Sequential(name="mine")), "keras.Input"),
    (lambda: profiled((8, 8, 3), (9, 8, 3)), r"=\(9, 8, 3\).*takes \(8, 8"),
    (lambda: profiled((8, 8, 3), (None, 8, 3)), r"takes \(8, 8, 3\)"),
    (lambda: profiled((None, None, 3), (8, 8)), r"takes \(None, None, 3\)"),
    (lambda: profiled((None, None, 3), (0, 8, 3)), r"=\(0, 8, 3\) for model"),
    (lambda: profile_model(two_inputs(), (7, 3)), r'\(None, 3\) as "b"'),
]
X = images(2, 8, 8, 3)
VIDEOS = X[:, None].repeat(7, 1)


def unused():
    """Returns a network that must not be computed before all is checked."""
    model = tiny()
    for part in (model, model.get_layer("stem_conv")):
        part.call = mock.Mock(side_effect=AssertionError("computed"))
    return model


def cam(model=None, x=X, *arguments, **options):
    return explain.grad_cam(model or unused(), x, *arguments, **options)


def two_paths(x):
    x = conv(4, "main")(x)
    return [head(x), head(x, "other")]


def same_names(x):
    for name in ("first", "second"):
        x = keras.Sequential([conv(3, "conv")], name=name)(x)
    return head(x)


class Transposed(layers.Layer):
    def call(self, inputs):
        return ops.transpose(inputs, (0, 2, 3, 1))


def transposed(x):
    return head(conv(4, "conv")(Transposed()(x)))


several = several_inputs_and_outputs
photo = partial(explain.grad_cam, image_input="photo")
elsewhere = layers.Conv2D(4, 3, name="elsewhere")
EXPLAINED = [
    (lambda: cam(x=X[:0]), r"not be empty.*images.shape=\(0, 8, 8, 3\)"),
    (lambda: cam(x=X * np.nan), "only finite numbers.*384 NaN"),
    (lambda: cam(x=X[0]), r"\(B, 8, 8, 3\).*\(8, 8, 3\). Pass.*images\[None\]"),
    (
        lambda: cam(x=[X[0], X[0, 1:]]),
        "have the same size.*several sizes.*[Rr]esize",
    ),
    (lambda: cam(class_index=5), "from 0 to 4.*class_index=5"),
    (lambda: cam(class_index=[1, 2, 3]), r"one per image \(2 here\)"),
    (lambda: cam(class_index=1.5), "integer.*1.5"),
    (lambda: cam(layer="predictions"), r"feature map.*\(None, 5\).*stage2"),
    (lambda: cam(layer=elsewhere), "layer of the model.*'elsewhere'"),
    (
        lambda: cam(functional(lambda x: layers.Dense(3)(layers.Flatten()(x)))),
        r"feature map with several positions.*\(None, 192\)",
    ),
    (
        lambda: cam(functional(transposed, (3, 8, 8)), np.moveaxis(X, -1, 1)),
        "layers.Permute",
    ),
    (
        lambda: cam(functional(layers.Reshape((64, 3)))),
        r"\(B, classes\).*\(None, 64, 3\)",
    ),
    (lambda: cam(functional(two_paths)), "one output.*with 2.*get_layer"),
    (
        lambda: cam(functional(same_names), layer="conv"),
        'one layer.*"first/conv", "second/conv"',
    ),
    (lambda: cam(several()), r"`image_input` .*\['age', 'depth', 'photo'\]"),
    (lambda: photo(several(), X), "a list of the 3 inputs.*ndarray"),
    (lambda: photo(several(), [X, X, X]), r'Input "age".*\(B, 4\).*\(2, 8, 8'),
    (
        lambda: photo(several(), [X[:1, 0, :4, 0], X[..., :1], X]),
        r"same number of samples.*\[1, 2\]",
    ),
    (lambda: cam(keras.Model()), r"functional.*type Model.*model.call\("),
    (
        lambda: cam(per_class(wrapped_subclassed()), VIDEOS),
        'feature map.*"frames" wraps model "own".*inner model',
    ),
    (lambda: cam(functional(conv(4, "c")), X, 4), "from 0 to 3.*class_index=4"),
    (
        lambda: explain.class_probabilities(functional(conv(4, "c")), X),
        r"a value per class.*\(None, 8, 8, 4\)",
    ),
    (
        lambda: explain.attention_maps(tiny(None, name="plain"), X),
        '"plain" without any.*insertion.adopt.*insert_attention',
    ),
]
B, H, W = 2, 6, 9
PIXELS = np.zeros((B, H, W, 3), "uint8")
HEAT = {name: np.zeros((B, H, W)) for name in ("baseline", "SE")}
MANY = np.zeros((33, 4, 5))
CHANNEL, SPATIAL = np.zeros((B, 16)), np.zeros((B, 2, 3))


def drawn(images=PIXELS, heat_maps=HEAT, **options):
    return plotting.plot_grad_cam(images, heat_maps, **options)


gates = plotting.plot_attention_maps
SHAPE = r"`images` must have the shape of their maps, \(2, None, None\)"
DRAWN = [
    (lambda: drawn(PIXELS[0]), SHAPE),
    (lambda: drawn(np.zeros((2, 6, 9, 13))), r"1 or 3 channels .*\(2, 6, 9"),
    (lambda: drawn(heat_maps=np.zeros((3, H, W))), "2 images and 3 maps"),
    (lambda: drawn(PIXELS[0], HEAT["SE"][:1]), r"as images\[None\]"),
    (lambda: drawn(MANY, MANY), "at most 32"),
    (
        lambda: drawn(PIXELS / 127.5 - 1),
        r"images from -\d.* before preprocessing",
    ),
    (
        lambda: drawn(heat_maps={"a": HEAT["SE"], "b": HEAT["SE"][:, :3]}),
        r"one shape.* \(2, 3, 9\)",
    ),
    (lambda: drawn(heat_maps=HEAT["SE"] + 200), r"in \[0, 1\] .*to 200"),
    (
        lambda: drawn(probabilities={"SE": [0, 1], "cbam": [0, 1]}),
        r"names of `heat_maps`, \['baseline', 'SE'\]",
    ),
    (lambda: drawn(probabilities=[0, 1]), "must be a mapping"),
    (lambda: drawn(labels=[1, 2, 3]), "`labels` must hold 2 values"),
    (lambda: gates(PIXELS, CHANNEL), "explain.attention_maps returns"),
    (lambda: gates(PIXELS, {"cbam": (None, None)}), "tuples"),
    (lambda: gates(PIXELS, {"a": (CHANNEL[:1], None)}), r"\(1, None, None\)"),
    (lambda: gates(PIXELS[0], {"a": (None, SPATIAL[:1])}), r"images\[None\]"),
    (lambda: plotting.plot_history([]), "`rows` must hold at least one epoch"),
]


# Recipes and spaces of a search.

RECIPES = [
    ("epochs", 0, "a positive integer"),
    ("learning_rate", 0, "a positive number"),
    ("weight_decay", -1e-4, "number"),
    ("seed", 2**32, "an integer from 0"),
    ("optimizer", "adam", 'one of "adamw", "sgd"'),
    ("momentum", 1, "less than 1"),
    ("augment", ("flip", 1), "one or more of"),
    ("image_size", (224,), "a positive integer or two"),
    ("frozen_epochs", -1, "an integer from 0"),
    ("class_weight", "even", 'one of None, "balanced"'),
    ("class_weight", {1: 2}, "one of None, "),
    ("loss", "hinge", 'None, "focal", a number in'),
    ("loss", 1, "less than 1"),
]
recipe, space = training.Recipe, tuning.CBAMHyperModel
SEARCHED = [
    *(
        (partial(recipe, **{name: x}), f"`{name}` must be .*{words}.*Received")
        for name, x, words in RECIPES
    ),
    (lambda: recipe(frozen=True, frozen_epochs=1), "must be 0 with frozen"),
    (lambda: recipe(class_weight={1: 2}), "loss=keras.losses.Categorical"),
    (lambda: recipe(unfreeze=3), "must then be at least 1"),
    (lambda: recipe(unfreeze=0, frozen_epochs=1), "unfreeze"),
    (lambda: recipe(unfreeze=1.5, frozen_epochs=1), "unfreeze"),
    (lambda: space(model="resnet19"), "one of .*resnet19"),
    (lambda: space(reduction_ratio=(4, 4)), "each at most once"),
]


# Arguments of a wrong type, of all these.

WRONG_TYPES = [
    (partial(ChannelAttention, use_bias=1), "`use_bias` must be .*Received: "),
    (lambda: make(3), "must be None, a name, a layer class"),
    (lambda: make(lambda name: "gate"), "a layer.*which gives 'gate'"),
    (lambda: make(Closed), UNNAMED),
    (lambda: make(Closed()), UNNAMED),
    (lambda: make(lambda: CBAM()), UNNAMED),
    (lambda: Attention(CBAM()), "`layer` must be a name, a layer class"),
    (lambda: build_preset("resnet18", clases=5), 'Did you mean "classes"'),
    (lambda: build_preset("resnext50", groups=8), "multiple values.*groups"),
    (lambda: unet("ResNet18"), "`encoder` must be a functional"),
    (lambda: unet(encoder(), attention=["se", None]), "`attention` must"),
    (
        lambda: load_torch_weights(layers.Dense(2), {}),
        "`model_or_layer` must be a network",
    ),
    (
        lambda: load_torch_weights(AttentionGate(), {}),
        "or one of CBAM, .* <AttentionGate",
    ),
    (lambda: load_torch_weights(CBAM(), 3), "`source` must be the path of a"),
    (
        lambda: comparison.compare(pattern="{class}/*"),
        "data_options={'pattern'",
    ),
    (lambda: insertion.check(CBAM()), r"e.g. check\(layer, \(32, 32, 64\)\)"),
    (lambda: cam(x=["a/cat.jpg"]), "array of numbers.*list of dtype <U9"),
]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        *LAYERS,
        *NETWORKS,
        *LOSSES,
        *PLACES,
        *PROFILES,
        *EXPLAINED,
        *DRAWN,
        *SEARCHED,
    ],
)
def test_a_wrong_value_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()


@pytest.mark.parametrize(("call", "words"), WRONG_TYPES)
def test_a_wrong_type_is_refused_in_words(call, words):
    with pytest.raises(TypeError, match=f"(?s){words}"):
        call()
