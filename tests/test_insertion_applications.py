"""Attention put into the networks of `keras.applications` and KerasHub."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from insertion_checks import (
    assert_holds_all_of,
    assert_predicts_the_same,
    data_for,
    paths,
    predictions,
    vary,
)
from layer_checks import to_numpy

from cbam_keras.insertion import insert_attention

pytestmark = pytest.mark.slow


def application(name, size):
    """Returns a builder of a classifier of `keras.applications`."""

    def build():
        return getattr(keras.applications, name)(
            weights=None,
            input_shape=(size, size, 3),
            classes=10,
            classifier_activation=None,
        )

    return build


def hub_resnet(**options):
    keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
    return keras_hub.models.ResNetBackbone(
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        image_shape=(None, None, 3),
        **options,
    )


def hub_bottlenecks():
    return hub_resnet(input_conv_filters=[16], block_type="bottleneck_block")


def hub_densenet():
    keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
    return keras_hub.models.DenseNetBackbone(
        stackwise_num_repeats=[2, 2], growth_rate=8, image_shape=(64, 64, 3)
    )


def hub_classifier():
    keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
    backbone = hub_resnet(
        input_conv_filters=[64],
        block_type="basic_block",
        use_pre_activation=True,
    )
    return keras_hub.models.ImageClassifier(backbone, num_classes=10)


def blocks(pattern, counts, first=2):
    """Returns names for each of `counts` blocks in each stage."""
    return [
        pattern.format(stage=stage, block=block)
        for stage, count in enumerate(counts, first)
        for block in range(1, count + 1)
    ]


def numbered(pattern, numbers):
    return [pattern.format(number) for number in numbers]


def lettered(letters):
    """`{2: "bc"}` gives the names of blocks 2b and 2c of an EfficientNet."""
    return [
        f"block{stage}{letter}_project_bn"
        for stage, given in letters.items()
        for letter in given
    ]


# The ends of the residual branches, else the last layer at each resolution.
# Keras numbers "activation" globally.
NETWORKS = {
    "ResNet50": (64, blocks("conv{stage}_block{block}_3_bn", (3, 4, 6, 3))),
    "ResNet50V2": (64, blocks("conv{stage}_block{block}_3_conv", (3, 4, 6, 3))),
    "MobileNet": (64, numbered("conv_pw_{}_relu", (1, 3, 5, 11, 13))),
    "MobileNetV2": (
        64,
        numbered("block_{}_project_BN", (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)),
    ),
    "MobileNetV3Large": (
        64,
        ["expanded_conv_project_bn"]
        + numbered(
            "expanded_conv_{}_project_bn", (2, 4, 5, 7, 8, 9, 11, 13, 14)
        ),
    ),
    "EfficientNetB0": (
        64,
        lettered({2: "b", 3: "b", 4: "bc", 5: "bc", 6: "bcd"}),
    ),
    "EfficientNetV2B0": (
        64,
        lettered({2: "b", 3: "b", 4: "bc", 5: "bcde", 6: "bcdefgh"}),
    ),
    "DenseNet121": (
        64,
        ["conv1_relu", *numbered("pool{}_conv", (2, 3, 4)), "relu"],
    ),
    "VGG16": (
        32,
        blocks("block{stage}_conv2", (1, 1), 1)
        + blocks("block{stage}_conv3", (1, 1, 1), 3),
    ),
    "InceptionV3": (
        107,
        ["activation", "activation", *numbered("mixed{}", (2, 7, 10))],
    ),
    "Xception": (
        71,
        [
            *numbered("block{}_pool", (2, 3, 4)),
            *numbered("block{}_sepconv3_bn", range(5, 13)),
            "block13_pool",
        ],
    ),
    "NASNetMobile": (
        64,
        [
            "stem_bn1",
            "reduction_concat_stem_1",
            "normal_concat_3",
            "normal_concat_8",
            "activation",
        ],
    ),
    "ConvNeXtTiny": (
        64,
        [
            f"convnext_tiny_stage_{stage}_block_{block}_pointwise_conv_2"
            for stage, count in enumerate((3, 3, 9, 3))
            for block in range(count)
        ],
    ),
}
HUB = {
    "bottlenecks": (
        hub_bottlenecks,
        [f"stack{s}_block{b}_3_bn" for s in (0, 1) for b in (0, 1)],
    ),
    "DenseNet": (hub_densenet, ["conv1_relu", "transition1_conv", "relu"]),
    "classifier": (
        hub_classifier,
        [
            f"res_net_backbone/stack{s}_block{b}_2_conv"
            for s in (0, 1)
            for b in (0, 1)
        ],
    ),
}

LOADER = """
import pathlib, sys
import keras, numpy as np
import cbam_keras

for line in sys.stdin:
    folder = pathlib.Path(line.strip())
    model = keras.saving.load_model(folder / "new.keras")
    y = model(np.load(folder / "x.npy"), training=False)
    np.save(folder / "loaded.npy", keras.ops.convert_to_numpy(y))
    print("loaded", flush=True)
"""


@pytest.fixture(scope="module")
def fresh_process():
    """Loads a model in a process that has only imported the package.

    One process for all networks: starting it takes longer than the work.
    """
    with subprocess.Popen(
        [sys.executable, "-c", LOADER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def load(folder):
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "loaded\n"
            return np.load(folder / "loaded.npy")

        yield load


def values_by_path(model):
    # Keras numbers weights without a name globally.
    values = {
        re.sub(r"/variable_\d+$", "/variable", v.path): to_numpy(v)
        for v in model.weights
    }
    assert len(values) == len(model.weights)
    return values


def assert_same_names(new, old):
    values = values_by_path(new)
    for path, value in values_by_path(old).items():
        # Scopes of the code that built the old model come before its layers.
        while path not in values and "/" in path:
            path = path.split("/", 1)[1]
        np.testing.assert_array_equal(values[path], value)


def check(old, places, fresh_process, folder):
    vary(old)
    # Pixels: some of the networks scale them themselves.
    x = 50 * data_for(old, batch=2, size=64)
    found = paths(insert_attention(old, dry_run=True))
    assert [re.sub(r"^activation_\d+", "activation", p) for p in found] == (
        places
    )
    new = insert_attention(old)
    assert_predicts_the_same(new, old, x)
    assert_holds_all_of(new, old)
    assert_same_names(new, old)
    check_loading(new, x, fresh_process, folder)
    check_training(new, x)


def check_loading(model, x, fresh_process, folder):
    model.save(folder / "new.keras")
    np.save(folder / "x.npy", x)
    (expected,) = predictions(model, x)
    np.testing.assert_array_equal(fresh_process(folder), expected)


def check_training(model, x):
    """Checks that one step changes each layer, including new ones."""
    before = [to_numpy(variable) for variable in model.trainable_variables]
    model.compile(keras.optimizers.SGD(1e-3), loss="mse", run_eagerly=True)
    y = np.random.default_rng(0).normal(size=(len(x), *model(x).shape[1:]))
    model.fit(x, y.astype("float32"), batch_size=len(x), verbose=0)
    changed, layers = set(), set()
    for variable, old in zip(model.trainable_variables, before, strict=True):
        layer = variable.path.rsplit("/", 1)[0]
        layers.add(layer)
        new = to_numpy(variable)
        assert np.isfinite(new).all()
        if not np.array_equal(new, old):
            changed.add(layer)
    assert {name.split("/")[0] for name in layers - changed} == set()


@pytest.mark.parametrize("name", NETWORKS)
def test_application_keeps_its_predictions(name, fresh_process, tmp_path):
    if name == "NASNetMobile" and keras.backend.backend() == "torch":
        pytest.skip("Keras does not offer NASNet under PyTorch")
    size, places = NETWORKS[name]
    check(application(name, size)(), places, fresh_process, tmp_path)


# KerasHub compiles its classifiers.
@pytest.mark.filterwarnings("ignore:Model .* is compiled:UserWarning")
@pytest.mark.parametrize("name", HUB)
def test_keras_hub_model_keeps_its_predictions(name, fresh_process, tmp_path):
    build, places = HUB[name]
    check(build(), places, fresh_process, tmp_path)
