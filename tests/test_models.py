"""Signatures of the builders, which all networks share."""

import inspect

import pytest

from cbam_keras import models

BUILDERS = [
    value
    for name, value in vars(models).items()
    if name in models.__all__ and name[0].isupper() and name != "ResNet"
]


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
def test_builders_have_the_same_arguments(builder):
    shared = {
        "include_top": True,
        "weights": None,
        "input_tensor": None,
        "input_shape": None,
        "pooling": None,
        "classes": 1000,
        "classifier_activation": "softmax",
        "attention": None,
        "stem": "imagenet",
        "downsample_in": "3x3",
    }
    found = list(inspect.signature(builder).parameters.values())
    assert {p.name: p.default for p in found[:10]} == shared
    assert [p.name for p in found[:10]] == list(shared)
    assert {p.kind for p in found[:7]} == {
        inspect.Parameter.POSITIONAL_OR_KEYWORD
    }
    assert {p.kind for p in found[7:]} == {inspect.Parameter.KEYWORD_ONLY}
    assert found[-1].name == "name"
    assert found[-1].default == builder.__name__.lower()


def test_every_network_is_public():
    assert len(BUILDERS) == 9
    assert all(hasattr(models, name) for name in models.__all__)


def test_an_unknown_argument_is_named_with_the_builder():
    with pytest.raises(TypeError, match=r"ResNeXt50\(\) got .*'clases'"):
        models.ResNeXt50(clases=10)
