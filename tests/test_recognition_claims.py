"""What names of attention claim, held against what it computes: `check`."""

import dataclasses
import inspect
import pathlib
from functools import partial

import keras
import pytest
from keras import layers, ops
from pasted import (
    CHANNELS,
    both,
    channel,
    efficient,
    gated,
    network,
    pooled,
    spatial,
    unrefined,
)

from cbam_keras.insertion import check
from cbam_keras.layers import ATTENTION
from cbam_keras.recognition.claims import claim_of
from cbam_keras.recognition.departures import Departure, differences
from cbam_keras.recognition.gates import gates_of
from cbam_keras.recognition.reports import row_of

SHAPE = (8, 9, CHANNELS)
exhaustive = pytest.mark.exhaustive
NAMES = {
    "CBAM": "CBAM MyCBAM cbam_block_3 CBAMblock Cbam2D "
    "ConvolutionalBlockAttentionModule",
    "SE": "SEBlock se_block_3 seblock SELayer squeeze_excite_block "
    "SqueezeAndExcitation block1a_se_excite cSE channel_squeeze_excite",
    "scSE": "scSE scse_block SCSEModule ChannelSpatialSELayer",
    "ECA": "ECALayer eca_block EfficientChannelAttention eca_attention",
    "SimAM": "SimAM simam_module sim_am",
    "coordinate attention": "CoordAtt coord_attention CoordinateAttention",
    "BAM": "BAM bam_block BottleneckAttentionModule",
    "triplet attention": "TripletAttention triplet_att",
    "global context": "GlobalContextBlock gc_block GCBlock",
    "channel attention": "channel_attention ChannelGate CBAMChannelAttention "
    "cbam_channel",
    "spatial attention": "SpatialAttentionModule sSE spatial_squeeze_excite",
    "": "sequential sense SENSE dense base_block DenseNet ca sa cam attention "
    "MyLayer gate bamboo decaf self_attention TripletLoss case fire_squeeze "
    "channel_spatial_attention se_cbam_block TripletAttentionBranch "
    "TripSE1",
}


@pytest.mark.parametrize(
    "name, claim", [(x, c) for c, names in NAMES.items() for x in names.split()]
)
def test_a_claim_is_one_attention_module_among_the_words(name, claim):
    assert claim_of(name) == claim


def named(gate, name):
    """Returns a gate as a function of a name."""

    def function(x):
        return gate(x)

    function.__name__ = name
    return function


def apart(x):
    """CBAM with an MLP for each pool."""
    several = [
        layers.Dense(CHANNELS)(layers.Dense(3, "relu")(pooled(x, kind)))
        for kind in ("avg", "max")
    ]
    return spatial(x * ops.sigmoid(layers.add(several)))


def of_relu(x):
    """CBAM whose channel half has a ReLU before its sigmoid."""
    parts = [layers.Dense(3, "relu"), layers.Dense(CHANNELS, "relu")]
    several = [parts[1](parts[0](pooled(x, kind))) for kind in ("avg", "max")]
    return spatial(x * ops.sigmoid(layers.add(several)))


def places_alone(x):
    """The gate of positions of scSE."""
    return x * layers.Conv2D(1, 1, activation="sigmoid")(x)


squeeze = partial(channel, pools=("avg",))
HALF = "CBAM, but computes only its"
PAPER = ", but differs from the paper: "
POOLS = "pools other than mean and maximum: "


@pytest.mark.parametrize(
    "name, gate, words",
    [
        (
            "cbam_block",
            partial(both, join="gates"),
            f"CBAM{PAPER}one sigmoid per pool, so factors reach 2",
        ),
        ("cbam_block", channel, f"{HALF} channel attention"),
        pytest.param(
            "MyCBAM", squeeze, f"{HALF} channel attention", marks=exhaustive
        ),
        ("CBAM", spatial, f"{HALF} spatial attention"),
        (
            "cbam",
            partial(both, spatial_options={"size": 1}),
            f"CBAM{PAPER}a kernel of size 1",
        ),
        (
            "cbam",
            partial(both, pools=("max",)),
            f"CBAM{PAPER}{POOLS}positions by the maximum only",
        ),
        ("eca_block", squeeze, "ECA, but computes SE"),
        ("SEBlock", efficient, "SE, but computes ECA"),
        ("se", channel, "SE, but computes the channel attention of CBAM"),
        (
            "se_block",
            partial(squeeze, gate="tanh"),
            f"SE{PAPER}another function instead of the sigmoid: tanh",
        ),
        pytest.param("bam", both, "BAM, but computes CBAM", marks=exhaustive),
        (
            "channel_attention",
            lambda x: x + channel(x, join="gates"),
            f"channel attention{PAPER}one sigmoid per pool, so factors reach 2",
        ),
        (
            "channel_attention",
            spatial,
            "channel attention, but is not: factors for positions",
        ),
        (
            "channel_attention",
            both,
            "channel attention, but is not: factors for channels and positions",
        ),
        (
            "spatial_attention",
            squeeze,
            "spatial attention, but is not: factors for channels",
        ),
    ],
)
def test_what_is_not_what_it_is_called_has_not_passed(name, gate, words):
    report = check(named(gate, name), SHAPE)
    row = report.rows[-1]
    assert row.verdict == f"named {words}"
    assert (row.called, row.agrees, row.passed) == (name, False, False)
    assert not report.passed and "1 misnamed" in report.verdict
    assert row.note.split(";")[0].endswith("rename it")


def of_logits(combine, kinds=("avg", "max")):
    """Returns a channel gate whose pools one MLP reads, and others combine."""
    reduce = {"min": ops.min, "max": ops.max, "avg": ops.mean}

    def gate(x):
        hidden, outer = layers.Dense(3, "relu"), layers.Dense(CHANNELS)
        pools = [reduce[k](x, axis=(1, 2), keepdims=True) for k in kinds]
        return combine(x, [outer(hidden(pool)) for pool in pools])

    return gate


def of_maps(combine, kinds=("avg", "max")):
    """Returns the same of a spatial gate, of a map of two pools."""
    reduce = {"min": ops.min, "max": ops.max, "avg": ops.mean}

    def gate(x):
        maps = [reduce[k](x, axis=-1, keepdims=True) for k in kinds]
        convolution = layers.Conv2D(1, 7, padding="same")
        return combine(x, [convolution(ops.concatenate(maps, axis=-1))])

    return gate


def multiplied(x, logits):
    return x * ops.sigmoid(sum(logits))


def averaged(x, logits):
    return x * ops.sigmoid(sum(logits) / 2)


def added(x, logits):
    return x + ops.sigmoid(sum(logits))


def with_norm(x, logits):
    return x * layers.BatchNormalization()(ops.sigmoid(sum(logits)))


def apart_alone(x):
    several = [
        layers.Dense(CHANNELS)(layers.Dense(3, "relu")(pooled(x, kind)))
        for kind in ("avg", "max")
    ]
    return x * ops.sigmoid(layers.add(several))


def joined(join):
    """Returns a channel gate of one MLP of both pools together."""

    def gate(x):
        y = join([pooled(x, kind) for kind in ("avg", "max")])
        y = layers.Dense(CHANNELS)(layers.Dense(3, "relu")(y))
        return x * ops.sigmoid(y)

    return gate


ADDS = "is not: adds, does not multiply"
NORM_AFTER = "normalization after the sigmoid: BatchNormalization"
JOINED = "mean and maximum are not joined by MLP(mean) + MLP(max)"


@pytest.mark.parametrize(
    "axis, gate, words",
    [
        ("channel", apart_alone, "separate weights for each pool"),
        pytest.param("channel", joined(layers.add), JOINED, marks=exhaustive),
        ("channel", joined(layers.concatenate), JOINED),
        pytest.param("channel", of_logits(averaged), JOINED, marks=exhaustive),
        (
            "channel",
            partial(channel, join="gates"),
            "one sigmoid per pool, so factors reach 2",
        ),
        pytest.param(
            "channel",
            partial(channel, pools=("max",)),
            f"{POOLS}positions by the maximum only",
            marks=exhaustive,
        ),
        (
            "channel",
            of_logits(multiplied, ("avg", "min")),
            f"{POOLS}positions by the mean and minimum",
        ),
        pytest.param(
            "channel",
            of_logits(multiplied, ("min", "max")),
            f"{POOLS}positions by the maximum and minimum",
            marks=exhaustive,
        ),
        ("channel", of_logits(with_norm), NORM_AFTER),
        ("channel", of_logits(added), ADDS),
        (
            "spatial",
            of_maps(multiplied, ("avg", "min")),
            f"{POOLS}channels by the mean and minimum",
        ),
        (
            "spatial",
            of_maps(multiplied, ("avg", "avg")),
            f"{POOLS}channels by the mean only",
        ),
        pytest.param(
            "spatial",
            partial(spatial, pools=("max",)),
            f"{POOLS}channels by the maximum only",
            marks=exhaustive,
        ),
        ("spatial", of_maps(with_norm), NORM_AFTER),
        pytest.param("spatial", of_maps(added), ADDS, marks=exhaustive),
        ("spatial", partial(spatial, size=1), "a kernel of size 1"),
    ],
)
def test_a_fault_is_one_under_every_name(axis, gate, words):
    (found,) = gates_of(named(gate, f"{axis}_attention"), SHAPE)
    cut = dataclasses.replace(found.cut, path="CBAM")
    row, whole = map(row_of, (found, dataclasses.replace(found, cut=cut)))
    assert row.verdict.startswith(f"named {axis} attention")
    assert row.verdict.endswith(words)
    assert row.note.startswith(f"replace it with `{axis.title()}Attention(")
    assert {row.agrees, whole.agrees} == {row.passed, whole.passed} == {False}


@pytest.mark.parametrize("layer_class", ATTENTION.values(), ids=ATTENTION)
def test_each_argument_of_a_match_is_a_variant_or_a_fault(layer_class):
    parameters = {*inspect.signature(layer_class).parameters}
    arguments = {x for x in parameters if "momentum" not in x} - {"kwargs"}
    unusual = dict.fromkeys(arguments, "unusual")
    assert not any(x.is_fault for x in differences(unusual))


def test_the_page_lists_each_variant_and_fault():
    page = pathlib.Path(__file__).parents[1] / "docs/guides/adopt.md"
    lines = page.read_text().splitlines()
    rows = [x.strip("| ").split(" | ") for x in lines if x[:2] == "| "]
    listed = {row[0]: row[1] for row in rows if len(row) == 2}
    for departure in Departure:
        assert listed[departure.words] == departure.kind


@pytest.mark.parametrize(
    "gate", [apart, pytest.param(of_relu, marks=exhaustive)]
)
def test_halves_that_differ_do_not_make_a_cbam(gate):
    report = check(named(gate, "cbam_block"), SHAPE)
    assert not report.passed and report.rows[-1].agrees is False


@pytest.mark.parametrize(
    "name, gate, words",
    [
        ("cbam", both, "as the paper"),
        ("cbam", partial(both, bias=False), "as luuuyi/CBAM.PyTorch"),
        pytest.param(
            "cbam",
            partial(both, bias=False, activation="linear"),
            "as a widely read tutorial",
            marks=exhaustive,
        ),
        pytest.param("cbam", unrefined, "parallel", marks=exhaustive),
        ("cbam", lambda x: channel(spatial(x)), "spatial_first"),
        (
            "cbam",
            partial(
                both,
                spatial_options={
                    "size": 3,
                    "pools": ("max", "avg"),
                    "norm": 1e-5,
                },
            ),
            "kernel_size=3",
        ),
        ("se_block", partial(squeeze, gate="hard_sigmoid"), "hard_sigmoid"),
        ("SELayer", partial(squeeze, activation="silu"), "silu"),
        ("ECALayer", efficient, "Efficient"),
        ("channel_attention", squeeze, "SqueezeExcite"),
        ("spatial_attention", spatial, "SpatialAttention"),
        ("ChannelGate", efficient, "Efficient"),
        ("SpatialGate", partial(spatial, norm=1e-3), "epsilon"),
        ("ChannelGate", partial(channel, norm=1e-3), "before the sigmoid"),
        ("se_block", partial(squeeze, norm=1e-3), "before the sigmoid"),
        ("SpatialGate", places_alone, "matches no cbam_keras layer"),
    ],
)
def test_what_the_papers_try_agrees_and_is_said(name, gate, words):
    report = check(named(gate, name), SHAPE)
    (row,) = report.rows
    assert words in row.verdict and report.passed
    assert (row.called, row.agrees) == (name, True)


def test_a_name_that_claims_nothing_decides_nothing():
    report = check(named(partial(both, join="gates"), "attention"), SHAPE)
    (row,) = report.rows
    assert (row.called, row.agrees, report.passed) == ("", None, True)


def test_names_of_layers_in_a_model_make_claims():
    def gate(x):
        parts = [layers.Dense(3, "relu"), layers.Dense(CHANNELS, "sigmoid")]
        y = parts[1](parts[0](pooled(x)))
        return layers.Multiply(name="block1_eca_multiply")([x, y])

    report = check(network(gate))
    assert report.rows[0].called == "block1_eca_multiply"
    assert report.verdict == (
        "1 attention module: 0 passed, 1 misnamed, 0 faulty, 0 not analyzed."
    )
    frame = report.to_dataframe()
    assert [*frame["agrees"]] == [False]


def test_parts_with_claims_of_their_own_are_not_one_claim():
    def gate(x):
        y = gated(x, layers.Dense(3, "relu", name="se_1"), layers.Dense(12))
        return spatial(y)

    x = keras.Input(SHAPE)
    report = check(keras.Model(x, gate(x)))
    assert "SE" not in {claim_of(row.called) for row in report.rows[1:]}
