"""The names of weights in `names.toml`: a mistyped one is named by an error."""

import pathlib
import tomllib

import pytest

from cbam_keras import SCSE, convert
from cbam_keras.convert.matching import part_at
from cbam_keras.convert.names import GATES, read_names

PATH = pathlib.Path(convert.__file__).with_name("names.toml")
TEXT = PATH.read_text("utf-8")


@pytest.mark.parametrize(
    ("written", "mistyped", "words"),
    [
        ("[lite_block]", "[lite_blocks]", "names.toml.*'lite_blocks'"),
        ("gates.SCSE", "gates.ScSE", r"\[gates\].*Did you mean .SCSE."),
        # It is no layer.
        ("gates.SCSE", "gates.VARIANTS", r"\[gates\].*'VARIANTS'"),
        ('modules = ["cbam."]', 'module = ["cbam."]', r"\[\[gates.CBAM\]\].*"),
        ("gates.SCSE.weights", "gates.SCSE.weight", "gates.SCSE.*'weight'"),
        ("[gates.SCSE.weights]", "[gates.SCSE.options]", "the keys weights"),
    ],
)
def test_a_mistyped_key_is_named(written, mistyped, words):
    assert written in TEXT
    sections = tomllib.loads(TEXT.replace(written, mistyped))
    with pytest.raises(ValueError, match=words):
        read_names(sections)


def test_a_missing_section_is_named():
    sections = tomllib.loads(TEXT)
    del sections["block"]
    with pytest.raises(ValueError, match="must have the keys block. Received"):
        read_names(sections)


@pytest.mark.parametrize("kind", GATES, ids=lambda kind: kind.__name__)
def test_paths_of_weights_lead_to_parts_of_the_layer(kind):
    layer = kind()
    layer.build((None, 8, 8, 16))
    for gate in GATES[kind]:
        for path in gate.weights:
            part_at(layer, path)
        assert not {*gate.options} - {*layer.get_config()}


def test_a_mistyped_path_leads_nowhere():
    layer = SCSE()
    layer.build((None, 8, 8, 16))
    with pytest.raises(AttributeError, match="squeze"):
        part_at(layer, "squeze")
