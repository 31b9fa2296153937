"""The paper's tables: every row, its network, and what that counts."""

import pathlib

import pytest
from networks import without_values

from cbam_keras import CBAM, profile_model
from cbam_keras.cli import tables
from cbam_keras.models.paper import (
    ABLATIONS,
    PRESETS,
    build_preset,
    compare_counts,
    count_rows,
)

# Most tests need the networks of all rows.
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent
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
CONV = {"spatial_pool_types": ("conv",)}
CHOICES = {
    "channel-max": {"pool_types": ("max",)},
    "channel-avg-max": {},
    "spatial-conv-3": OFFICIAL | CONV | {"kernel_size": 3},
    "spatial-conv-7": OFFICIAL | CONV | {"kernel_size": 7},
    "spatial-avg-max-3": OFFICIAL | {"kernel_size": 3},
    "spatial-first": OFFICIAL | {"order": "spatial_first"},
    "parallel": OFFICIAL | {"order": "parallel"},
}


@pytest.fixture(scope="module")
def rows():
    with without_values():
        return {row["name"]: row for row in count_rows()}


def test_counts_equal_the_reported_digits(rows):
    assert len(PRESETS) == 30
    assert {rows[name]["equal"] for name in PRESETS} == {True}


def test_parameters_are_those_of_the_authors_and_torchvision(rows):
    found = {name: rows[name]["parameters"] for name in EXACT_PARAMETERS}
    assert found == EXACT_PARAMETERS


def test_stride_in_the_3x3_costs_macs_and_no_parameters(rows):
    with without_values():
        model = build_preset("resnet50", downsample_in="3x3")
        profile = profile_model(model)
    assert model.name == "resnet50"
    assert profile.parameters == rows["resnet50"]["parameters"]
    # What the authors' code and torchvision count.
    assert f"{profile.macs / 1e9:.3f}" == "4.089"


def test_docs_have_the_generated_tables(rows):
    """The page has a second copy of the reported numbers."""
    page = (ROOT / "docs" / "fidelity.md").read_text()
    begin, end = "<!-- cbam-keras table --markdown -->", "<!-- end -->"
    # The paper reports parameters in these tables.
    reported = [
        row | {"tables": [x for x in row["tables"] if x > 3]}
        for row in rows.values()
    ]
    generated = tables.render(reported, markdown=True)
    assert "\n\nAll 30 rows match the parameters" in generated
    assert f"{begin}\n\n{generated}\n\n{end}" in page


def test_ablations_have_the_attention_of_the_row():
    found = {
        name: row.layer_options
        for name, row in ABLATIONS.items()
        if name not in PRESETS
    }
    assert found == {f"resnet50-{name}": CHOICES[name] for name in CHOICES}
    layers = {row.layer for row in ABLATIONS.values() if row.tables == (1,)}
    assert layers == {"channel"}


def test_networks_have_the_attention_and_the_options():
    options = {"classes": 5, "input_shape": (32, 32, 1), "stem": "small"}
    with without_values():
        model = build_preset("resnet50-parallel", **options)
        plain = build_preset("resnet18", include_top=False)
    gate = model.get_layer("stage4_block3_attention")
    assert type(gate) is CBAM
    expected = OFFICIAL | {"order": "parallel", "kernel_size": 7}
    assert {key: getattr(gate, key) for key in expected} == expected
    assert model.input_shape == (None, 32, 32, 1)
    assert model.output_shape == (None, 5)
    assert not [x.name for x in plain.layers if "attention" in x.name]


def test_unknown_rows_and_fixed_options_are_refused():
    near = 'must be one of .*Did you mean "resnet50-parallel"'
    with pytest.raises(ValueError, match=near):
        build_preset("resnet50-paralel")
    with pytest.raises(ValueError, match=near):
        count_rows(["resnet50-paralel"])
    with pytest.raises(TypeError, match="'clases'"):
        build_preset("resnet18", clases=5)
    with pytest.raises(TypeError, match="multiple values .* 'groups'"):
        build_preset("resnext50", groups=8)


def test_tables_are_printed_and_json(rows):
    names = ["mobilenet-0.7-cbam", "resnet50-parallel"]
    few = [rows[name] for name in names]
    text = tables.render(few)
    line = next(line for line in text.splitlines() if "MobileNet (al" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[1:] == ["CBAM", "2.71", "2.71", "0.289", "0.289"]
    assert "1 of 1 rows match the parameters and GMACs" in text
    assert "rows match" not in tables.render(few[1:])
    assert [row["name"] for row in few] == names
    assert (few[0]["equal"], few[1]["equal"]) == (True, None)
    assert [row["printed_gflops"] for row in few] == [0.289, None]
    assert [row["reported_top1_error"] for row in few] == [None, 22.95]


def test_a_row_that_differs_is_named():
    row = compare_counts(PRESETS["resnet18"], 11_000_000, 1)
    assert row["equal"] is False
    text = tables.render([row])
    assert "0 of 1 rows match" in text
    assert "others: resnet18." in text
