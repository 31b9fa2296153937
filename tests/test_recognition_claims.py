"""What names of attention claim, held against what it computes: `check`."""

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
from cbam_keras.recognition.claims import claim_of

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
    "channel_spatial_attention se_cbam_block",
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


squeeze = partial(channel, pools=("avg",))
HALF = "CBAM, but computes only its"
PAPER = ", but differs from the paper: "


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
            f"CBAM{PAPER}positions pooled by the maximum only",
        ),
        ("eca_block", squeeze, "ECA, but computes SE"),
        ("SEBlock", efficient, "SE, but computes ECA"),
        ("se", channel, "SE, but computes the channel attention of CBAM"),
        (
            "se_block",
            partial(squeeze, gate="tanh"),
            f"SE{PAPER}tanh instead of the sigmoid",
        ),
        pytest.param("bam", both, "BAM, but computes CBAM", marks=exhaustive),
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
