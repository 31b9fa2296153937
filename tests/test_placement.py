"""In which stages of a network attention goes, wherever that is asked."""

import functools

import keras
import networks
import pytest
from insertion_checks import attention_of, paths

import cbam_keras
from cbam_keras import CBAM, comparison, insert_attention, models
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


@pytest.mark.parametrize("given, stages", [(2, [2]), ([1, 3], [1, 3])])
def test_stages_may_be_numbers(given, stages):
    assert stages_of(three(attention="se", stages=given)) == stages
    model = insert_attention(three(), Attention("se", stages=given))
    assert stages_of(model) == stages
    names = [x.name for x in planned("se", stages=given)]
    assert names == [f"se-stage-{x}" for x in stages]


def test_a_single_stage_is_all_of_them():
    build = functools.partial(networks.resnet, (1,), block="basic")
    variants = planned(
        "se",
        stages="each",
        model=lambda attention, stages="all": build(
            attention=attention, stages=stages
        ),
    )
    assert [x.name for x in variants] == ["se", "se-top"]


def test_code_says_the_stages():
    made = functools.partial(CBAM, 4, kernel_size=3)
    attention = Attention(made, {"identity_init": True}, "last 2")
    names = {"cbam_keras": cbam_keras, "functools": functools}
    again = eval(attention.code, names)
    found, expected = (
        [x.get_config() for x in attention_of(three(attention=kind))]
        for kind in (again, attention)
    )
    assert found == expected and len(found) == 2


def planned(*attentions, **options):
    return comparison.plan(attentions, data="mnist5k", **options).variants


def test_comparisons_of_each_stage_name_it_and_leave_none_alone():
    variants = planned("none", "se", "eca", stages="each")
    names = [f"{kind}{stage}" for kind in ("se", "eca") for stage in EACH]
    assert [variant.name for variant in variants] == ["none", *names]
    stages = [variant.options.get("stages") for variant in variants]
    assert stages == [None, *[None, "1", "2", "3", "last 2", "top"] * 2]


def test_stages_are_searched_where_there_is_attention():
    keras_tuner = pytest.importorskip("keras_tuner")
    from cbam_keras import tuning
    from cbam_keras.tuning.space import point

    hypermodel = tuning.CBAMHyperModel((12, 10, 1), 5, stages="each")
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    assert "stages" not in point(hp, attention="none").values
    values = point(hp, attention="se", stages="last 2")
    assert stages_of(hypermodel.build(values)) == [2, 3]


FORM = '`stages` must be "all", .* as "last 2", "top", or numbers.*'
LACKING = "network has places for attention: 1, 2, 3, top. Received: stages="
own = Attention("se", stages="last")
own_in = functools.partial(Attention, "se", {})
BAD = {
    f"{FORM}'lasst'. Did you mean": lambda: three(stages="lasst"),
    f"{FORM}'last 0'": lambda: Attention("se", stages="last 0"),
    f"{FORM}=0.5": lambda: three(stages=0.5),
    f"{FORM}'last two'. Did you mean \"last 2\"": lambda: own_in("last two"),
    f"{LACKING}'4'": lambda: three(stages="4", attention="se"),
    f"{LACKING}'last 4'": lambda: insert_attention(three(), stages="last 4"),
    f"{LACKING}'1,4'": lambda: planned("se", stages=["all", "1,4"]),
    "`stages` must be given once": lambda: three(attention=own, stages="1"),
    "given to a builder of cbam_keras.models": lambda: own(name="gate"),
    "must not have `stages` of its own": lambda: planned(own),
    "several different choices": lambda: planned("se", stages=["last", "3"]),
    "which ignores them": lambda: planned(
        "se", stages="each", model=lambda attention: networks.linear()
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_mistakes_are_refused(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()
