"""The command `cbam-keras detect`: its options reach `detection.compare`."""

import dataclasses
import functools
import types

import pytest

from cbam_keras import cli, detection

RECIPE = dataclasses.replace(detection.DEFAULT_RECIPE, epochs=9, image_size=64)
OPTIONS = {
    "--attention none cbam": {"attentions": ["none", "cbam"]},
    "--backbone resnet18": {"backbone": "resnet18"},
    "--seeds 3": {"seeds": 3},
    "--data pets": {"images": "pets"},
    "--download": {"data_options": {"download": True}},
    "--epochs 9 --image-size 64": {"recipe": RECIPE},
    "--output here": {"output": "here"},
    "--workers 2": {"workers": 2},
    "--tensorboard": {"tensorboard": True},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_reaches_its_argument(option, capsys, monkeypatch):
    calls = {}

    @functools.wraps(detection.compare)
    def compare(**options):
        calls.update(options)
        return types.SimpleNamespace(json=lambda: "{}")

    monkeypatch.setattr(detection, "compare", compare)
    assert cli.main(["detect", "--json", *option.split()]) == 0
    assert calls.items() >= OPTIONS[option].items()
    assert capsys.readouterr().out == "{}\n"
