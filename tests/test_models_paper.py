"""The paper's tables: every row, its network, and what that counts."""

import pytest
from networks import without_values

from benchmarks import paper
from cbam_keras import CBAM, profile_model
from cbam_keras.models.paper import PRESETS, build_preset

# Of the authors' code with CBAM, of torchvision without.
EXACT_PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet18-cbam": 11_779_392,
    "resnet34-cbam": 21_960_468,
    "resnet50-cbam": 28_089_624,
    "resnet101-cbam": 49_330_172,
}
OFFICIAL = {"spatial_pool_types": ("max", "avg"), "spatial_batch_norm": True}


REPRESENTATIVE = ("resnet50-cbam", "wideresnet18-1.5-se", "mobilenet-0.7-cbam")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[] if name in REPRESENTATIVE else pytest.mark.exhaustive,
        )
        for name in PRESETS
    ],
)
def test_counts_equal_the_reported_digits(name):
    with without_values():
        model = build_preset(name)
    profile, row = profile_model(model), PRESETS[name]
    assert f"{profile.parameters / 1e6:.2f}" == f"{row.parameters:.2f}"
    assert f"{profile.macs / 1e9:.3f}" == f"{row.macs:.3f}"
    if name in EXACT_PARAMETERS:
        assert profile.parameters == EXACT_PARAMETERS[name]


def test_stride_in_the_3x3_costs_macs_and_no_parameters():
    with without_values():
        model = build_preset("resnet50", downsample_in="3x3")
        profile = profile_model(model)
    assert model.name == "resnet50"
    assert profile.parameters == EXACT_PARAMETERS["resnet50"]
    # What the authors' code and torchvision count.
    assert f"{profile.macs / 1e9:.3f}" == "4.089"


def test_docs_have_the_reported_numbers():
    """The page has a second copy of them, which the counts equal."""
    reported = {x.name: (x.parameters, x.macs) for x in PRESETS.values()}
    assert len(reported) == 30
    text = paper.PAGE.read_text("utf-8")
    assert "\n\n30 of 30 rows match the parameters" in text
    assert paper.page(text, reported) == text
    other = paper.tables(reported | {"resnet18": (11.69, 1.813)})
    assert "| 11.69 | 11.69 | 1.813 | 1.814 |" in other
    assert "\n\n29 of 30 rows match" in other


def test_networks_have_the_attention_and_the_options():
    options = {"classes": 5, "input_shape": (32, 32, 1), "stem": "small"}
    with without_values():
        model = build_preset("resnet50-cbam", **options)
        plain = build_preset("resnet18", include_top=False)
    gate = model.get_layer("stage4_block3_attention")
    assert type(gate) is CBAM
    expected = OFFICIAL | {"order": "channel_first", "kernel_size": 7}
    assert {key: getattr(gate, key) for key in expected} == expected
    assert model.input_shape == (None, 32, 32, 1)
    assert model.output_shape == (None, 5)
    assert not [x.name for x in plain.layers if "attention" in x.name]
