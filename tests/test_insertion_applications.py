"""Attention put into the networks of `keras.applications` and KerasHub."""

import re

import keras
import pytest
from insertion_checks import (
    assert_holds_all_of,
    assert_predicts_the_same,
    data_for,
    paths,
    vary,
)

from cbam_keras.insertion import insert_attention

# The ends of the residual branches, else the last layer at each resolution.
PLACES = {
    "ResNet50": "conv2_block{1,2,3}_3_bn conv3_block{1,2,3,4}_3_bn "
    "conv4_block{1,2,3,4,5,6}_3_bn conv5_block{1,2,3}_3_bn",
    "MobileNet": "conv_pw_{1,3,5,11,13}_relu",
    "MobileNetV2": "block_{2,4,5,7,8,9,11,12,14,15}_project_BN",
    "EfficientNetB0": "block2b_project_bn block3b_project_bn "
    "block4{b,c}_project_bn block5{b,c}_project_bn block6{b,c,d}_project_bn",
    "DenseNet121": "conv1_relu pool{2,3,4}_conv relu",
    "VGG16": "block{1,2}_conv2 block{3,4,5}_conv3",
    "InceptionV3": "activation activation mixed{2,7,10}",
    "NASNetMobile": "stem_bn1 reduction_concat_stem_1 normal_concat_{3,8} "
    "activation",
    "ConvNeXtTiny": "convnext_tiny_stage_0_block_{0,1,2}_pointwise_conv_2 "
    "convnext_tiny_stage_1_block_{0,1,2}_pointwise_conv_2 "
    "convnext_tiny_stage_2_block_{0,1,2,3,4,5,6,7,8}_pointwise_conv_2 "
    "convnext_tiny_stage_3_block_{0,1,2}_pointwise_conv_2",
    "KerasHub": "res_net_backbone/stack0_block{0,1}_2_conv "
    "res_net_backbone/stack1_block{0,1}_2_conv",
}
BEYOND = [name for name in PLACES if name != "MobileNetV2"]
SIZES = {"MobileNetV2": 32, "VGG16": 32, "InceptionV3": 107}


def places_of(name):
    """Returns the names of layers, one for each choice in braces."""
    found = []
    for pattern in PLACES[name].split():
        start, *rest = re.split("[{}]", pattern)
        choices, end = rest or ("", "")
        found += [f"{start}{choice}{end}" for choice in choices.split(",")]
    return found


def application(name):
    size = SIZES.get(name, 64)
    return getattr(keras.applications, name)(
        weights=None,
        input_shape=(size, size, 3),
        classes=10,
        classifier_activation=None,
    )


def classifier():
    keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        use_pre_activation=True,
        image_shape=(None, None, 3),
    )
    return keras_hub.models.ImageClassifier(backbone, num_classes=10)


# KerasHub compiles its classifiers.
@pytest.mark.filterwarnings("ignore:The new model is a plain:UserWarning")
@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV2",
        *(pytest.param(x, marks=pytest.mark.exhaustive) for x in BEYOND),
    ],
)
def test_network_keeps_its_predictions(name, tmp_path):
    if name == "NASNetMobile" and keras.backend.backend() == "torch":
        pytest.skip("Keras does not offer NASNet under PyTorch")
    hub = name == "KerasHub"
    old = vary(classifier() if hub else application(name))
    # Pixels: some of the networks scale them themselves.
    x = 50 * data_for(old, batch=2, size=64)
    found = paths(insert_attention(old, dry_run=True))
    # Keras numbers "activation" globally.
    found = [re.sub(r"^activation_\d+", "activation", path) for path in found]
    assert found == places_of(name)
    new = insert_attention(old)
    assert_predicts_the_same(new, old, x)
    assert_holds_all_of(new, old)
    path = tmp_path / "new.keras"
    vary(new, seed=2).save(path)
    assert_predicts_the_same(keras.saving.load_model(path), new, x)
