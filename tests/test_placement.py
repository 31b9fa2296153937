"""In which stages of a network attention goes, wherever that is asked."""

import functools

import keras
import networks
import numpy as np
import pytest
from insertion_checks import attention_of, conv, paths
from keras import layers
from layer_checks import to_numpy

from cbam_keras import CBAM, comparison, explain, insert_attention, models
from cbam_keras.layers import Attention

EACH = ["", "-stage-1", "-stage-2", "-stage-3", "-last-2", "-top"]
BLOCKS = ["block1_conv1", "block1_conv2", "block2_sepconv2", "block3_sepconv2"]
three = functools.partial(networks.resnet, (1, 1, 1))


def stages_of(model):
    """Returns the stage of each gate; that of the stem is the first."""
    names = (layer.name for layer in attention_of(model))
    return [int(name.replace("stem", "stage1")[5]) for name in names]


@pytest.mark.parametrize(
    ("builder", "numbers"),
    {
        **dict.fromkeys(("ResNet18", "WideResNet18", "ResNeXt50"), "1234"),
        **dict.fromkeys(("MobileNet", "EfficientNetLite0"), "12345"),
        "MobileNetV2": "2345",
    }.items(),
)
def test_builders_have_attention_in_their_stages(builder, numbers):
    build = functools.partial(
        getattr(models, builder), input_shape=(32, 32, 3), attention="se"
    )
    with networks.without_values():
        every = stages_of(build())
        assert {*map(str, every)} == {*numbers}
        for choice, stage in {"first": every[0], "last": every[-1]}.items():
            found = stages_of(build(stages=choice))
            assert found == [stage] * every.count(stage)


def test_the_attention_of_each_stage_and_stages_of_its_own_are_obeyed():
    model = three(attention=["se", "eca", None], stages="last 2")
    assert stages_of(model) == [2]
    model = three(attention=Attention(CBAM, {"kernel_size": 3}, "1,3"))
    assert stages_of(model) == [1, 3]
    assert {layer.kernel_size for layer in attention_of(model)} == {3}


def test_a_unet_counts_its_decoder_from_the_coarsest():
    kinds = {"attention": "se", "skip_attention": "eca", "stages": "1"}
    model = models.UNet(three(include_top=False), 2, **kinds)
    names = [f"decoder_stage1_{x}attention" for x in ("skip_", "")]
    assert [layer.name for layer in attention_of(model)] == names


@pytest.mark.parametrize(
    ("name", "stages", "places"),
    [
        ("ResNet50", "first", [f"conv2_block{x}_3_bn" for x in (1, 2, 3)]),
        ("ResNet50", "4", [f"conv5_block{x}_3_bn" for x in (1, 2, 3)]),
        ("VGG16", "4,1", ["block1_conv2", "block4_conv3"]),
        ("VGG16", "last 2", ["block4_conv3", "block5_conv3"]),
        # All but the last differ by a border.
        ("Xception", "1", BLOCKS[:3]),
    ],
)
def test_stages_of_other_networks_are_resolutions(name, stages, places):
    after = BLOCKS if name == "Xception" else None
    with networks.without_values():
        # The size of its images is not known.
        model = getattr(keras.applications, name)(False, None)
        found = insert_attention(
            model, after=after, stages=stages, dry_run=True
        )
        assert paths(found) == places


def planned(*attentions, **options):
    return comparison.plan(attentions, data="mnist5k", **options).variants


def test_comparisons_of_each_stage_name_it_and_leave_none_alone():
    variants = planned("none", "se", "eca", stages="each")
    names = [f"{kind}{stage}" for kind in ("se", "eca") for stage in EACH]
    assert [variant.name for variant in variants] == ["none", *names]
    stages = [variant.options.get("stages") for variant in variants]
    assert stages == [None, *[None, "1", "2", "3", "last 2", "top"] * 2]


def test_stages_are_searched_where_there_is_attention():
    pytest.importorskip("keras_tuner")
    from cbam_keras import tuning

    hypermodel = tuning.CBAMHyperModel((12, 10, 1), 5, stages="each")
    plain, *_ = points = hypermodel.points()
    assert plain == {"attention": "none"}
    chosen = {"attention": "se", "stages": "last 2", "reduction_ratio": 4}
    assert chosen in points
    assert stages_of(hypermodel.network(chosen)) == [2, 3]


# The top: after the last feature map.

at_top = functools.partial(insert_attention, stages="top")
average = layers.GlobalAveragePooling2D


def top_of(model):
    """Returns the layer that attention at the top comes after."""
    (path,) = paths(at_top(model, dry_run=True))
    return path


def query_pool(x):
    tokens = layers.Reshape((16, 8))(x)
    query = layers.GlobalAveragePooling1D(keepdims=True)(tokens)
    return layers.Flatten()(layers.MultiHeadAttention(1, 4)(query, tokens))


def excited(x):
    weights = layers.Dense(8, activation="sigmoid")(average(keepdims=True)(x))
    return average()(layers.Multiply(name="excited")([x, weights]))


HEADS = {
    "average": (lambda x: average()(layers.Dropout(0.1)(x)), "conv"),
    "flattened": (layers.Flatten(), "conv"),
    "pool of all": (lambda x: layers.AveragePooling2D(4)(x), "conv"),
    "query": (query_pool, "conv"),
    "excited": (excited, "excited"),
    "outputs": (lambda x: [average()(x), average()(conv(2, "b")(x))], "conv"),
}


@pytest.mark.parametrize("case", HEADS)
def test_the_top_comes_before_what_pools(case):
    (head, top), inputs = HEADS[case], keras.Input((4, 4, 3))
    assert top_of(keras.Model(inputs, head(conv(8, "conv")(inputs)))) == top


def test_backbones_that_share_nothing_have_a_top_each():
    x = keras.Input((4, 4, 3))
    pooled = [average()(conv(8, name)(x)) for name in ("a", "b")]
    model = keras.Model(x, layers.Dense(2)(layers.concatenate(pooled)))
    assert {*paths(at_top(model, dry_run=True))} == {"a", "b"}


@pytest.mark.parametrize(
    ("name", "size", "top"),
    [
        ("EfficientNetB0", 64, "top_activation"),
        ("VGG16", 64, "block5_pool"),
        # Their last maps have one position.
        ("ResNet50", 32, "conv5_block3_out"),
        ("MobileNet", 32, "conv_pw_13_relu"),
    ],
)
def test_the_top_is_what_one_would_name(name, size, top):
    build = functools.partial(getattr(keras.applications, name), weights=None)
    for with_head in (True, False):
        with networks.without_values():
            network = build(input_shape=(size, size, 3), include_top=with_head)
            assert top_of(network) == top


@pytest.mark.parametrize(
    "name", ["ResNet18", "MobileNet", "MobileNetV2", "EfficientNetLite0"]
)
def test_builders_and_insertion_agree_on_the_top(name):
    build = functools.partial(getattr(models, name), input_shape=(32, 32, 3))
    with networks.without_values():
        network = build(attention="se", stages="top")
        names = [layer.name for layer in network.layers]
        assert [x.name for x in attention_of(network)] == ["head_attention"]
        before = names[names.index("head_attention") - 1]
        assert top_of(build()) == top_of(build(include_top=False)) == before


# Keras 3.10 loads the one input of some models as a list of one.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
def test_attention_at_the_top_of_a_nested_network_is_as_any_other(tmp_path):
    inputs, images = keras.Input((8, 8, 3)), np.random.rand(6, 8, 8, 3)
    gated = three(include_top=False, attention="se")
    old = keras.Model(inputs, layers.Dense(5)(average()(gated(inputs))))
    at_top(old, "channel").save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    expected, found = (to_numpy(network(images)) for network in (old, model))
    np.testing.assert_array_equal(found, expected)
    gate = attention_of(model)[-1].name
    assert gate == "stage3_block1_out_attention"
    assert [*explain.attention_maps(model, images)][-1] == gate
    assert explain.grad_cam(model, images, layer=gate).shape == (6, 8, 8)
    with pytest.raises(ValueError, match=f"has attention, e.g. .*{gate}"):
        at_top(model)
